package esp_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"

	"sharefs/esp"
)

// An echo server and its client. The address of a listener holds its key, so the client knows whom it talks to.
func Example() {
	l, err := esp.Listen("127.0.0.1:0", esp.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()

	c, err := esp.Dial(context.Background(), l.Addr().String(), esp.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "hello")
	c.CloseWrite()
	answer, err := io.ReadAll(c)
	fmt.Println(string(answer), err)
	// Output: hello <nil>
}

// net/http over ESP: the server takes the listener as it is, the client dials with DialContext.
func ExampleEndpoint_DialContext() {
	l, err := esp.Listen("127.0.0.1:0", esp.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "you asked for ", r.URL.Path)
	})}
	go srv.Serve(l)
	defer srv.Close()

	e, err := esp.New(esp.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer e.Close()
	peer := l.Addr().String()
	tr := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return e.DialContext(ctx, network, peer) // the host in the URL is only a name
	}}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).Get("http://peer/index.html")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	fmt.Println(string(body), err)
	// Output: you asked for /index.html <nil>
}

// Authorize decides who may connect, by key.
func ExampleConfig_authorize() {
	friend, err := esp.GenerateKey()
	if err != nil {
		log.Fatal(err)
	}
	l, err := esp.Listen("127.0.0.1:0", esp.Config{Authorize: func(peer esp.PublicKey) error {
		if peer != friend.Public() {
			return fmt.Errorf("a stranger")
		}
		return nil
	}})
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()

	c, err := esp.Dial(context.Background(), l.Addr().String(), esp.Config{Key: friend})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("the friend is in")
	c.Close()
	if _, err = esp.Dial(context.Background(), l.Addr().String(), esp.Config{}); err != nil {
		fmt.Println("the stranger is not")
	}
	// Output:
	// the friend is in
	// the stranger is not
}
