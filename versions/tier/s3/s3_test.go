package s3

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sharefs"
	"sharefs/versions/tier"
)

// against returns a bucket whose server is a function.
func against(t *testing.T, stall time.Duration, serve http.HandlerFunc) *Bucket {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", "someone")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "something")
	server := httptest.NewServer(serve)
	b, err := Open(Config{Host: strings.TrimPrefix(server.URL, "http://"), Plain: true, Bucket: "bucket", Prefix: "p/", Region: "us-east-1", Stall: stall})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close(); server.CloseClientConnections(); server.Close() })
	return b
}

func TestWhatServersAnswer(t *testing.T) {
	for _, c := range []struct {
		status  int
		code    string
		kind    sharefs.Kind
		passing bool
	}{
		{404, "NoSuchKey", sharefs.KindNotExist, false}, {404, "NoSuchBucket", sharefs.KindNoDevice, false}, {403, "AccessDenied", sharefs.KindAccess, false},
		{403, "SignatureDoesNotMatch", sharefs.KindAccess, false}, {412, "PreconditionFailed", sharefs.KindStale, false},
		{409, "ConditionalRequestConflict", sharefs.KindAgain, true}, {416, "InvalidRange", sharefs.KindRange, false}, {501, "NotImplemented", sharefs.KindNotSupported, false},
		{500, "InternalError", sharefs.KindOther, true}, {503, "SlowDown", sharefs.KindOther, true},
	} {
		asked := 0
		b := against(t, time.Minute, func(w http.ResponseWriter, r *http.Request) {
			asked++
			if !strings.HasPrefix(r.URL.Path, "/bucket/p/a") {
				t.Errorf("asked for %s", r.URL)
			}
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(c.status)
			w.Write([]byte("<Error><Code>" + c.code + "</Code><Message>it is so</Message></Error>"))
		})
		_, _, err := b.ReadAt(t.Context(), "a", make([]byte, 1), 0)
		if sharefs.KindOf(err) != c.kind || tier.Passing(err) != c.passing || asked != 1 {
			t.Errorf("%d %s: %v, of kind %v, asked %d times", c.status, c.code, err, sharefs.KindOf(err), asked)
		}
		if _, err := b.Put(t.Context(), "a", strings.NewReader("x"), 1, tier.Condition{}); sharefs.KindOf(err) != c.kind {
			t.Errorf("put: %d %s: %v, of kind %v", c.status, c.code, err, sharefs.KindOf(err))
		}
	}
}

func TestServerThatHangsIsGivenUp(t *testing.T) {
	end := make(chan struct{})
	b := against(t, 50*time.Millisecond, func(w http.ResponseWriter, r *http.Request) { <-end })
	defer close(end)
	if _, _, err := b.ReadAt(t.Context(), "a", make([]byte, 1), 0); err == nil || !tier.Passing(err) {
		t.Fatalf("the error is %v", err)
	}
}

func TestAnswerThatIsCutOff(t *testing.T) {
	b := against(t, time.Minute, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Range", "bytes 0-99/100")
		w.Header().Set("Content-Length", "100")
		w.Header().Set("Last-Modified", "Sun, 22 Nov 2026 10:00:00 GMT")
		w.Header().Set("ETag", `"0"`)
		w.WriteHeader(http.StatusPartialContent)
		w.Write(make([]byte, 50))
		panic(http.ErrAbortHandler)
	})
	if n, _, err := b.ReadAt(t.Context(), "a", make([]byte, 100), 0); err == nil || n != 0 || !tier.Passing(err) {
		t.Fatalf("%d bytes, %v", n, err)
	}
}

func TestCredentials(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_PROFILE"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(dir, "none"))
	cfg := Config{Host: "localhost:1", Plain: true, Bucket: "bucket"}
	if _, err := Open(cfg); sharefs.KindOf(err) != sharefs.KindAccess || !strings.Contains(err.Error(), "AWS_ACCESS_KEY_ID") {
		t.Fatalf("without credentials: %v", err)
	}
	cfg.Credentials = filepath.Join(dir, "keys")
	if _, err := Open(cfg); sharefs.KindOf(err) != sharefs.KindAccess || !strings.Contains(err.Error(), cfg.Credentials) {
		t.Fatalf("without the file: %v", err)
	}
	if err := os.WriteFile(cfg.Credentials, []byte("[default]\naws_access_key_id = a\naws_secret_access_key = sesame\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.ReadAt(t.Context(), "a", make([]byte, 1), 0); err == nil || strings.Contains(err.Error(), "sesame") {
		t.Fatalf("the error is %v", err)
	}
}

func TestParseContentRange(t *testing.T) {
	for _, c := range []struct {
		s            string
		first, total int64
		ok           bool
	}{
		{"bytes 0-0/1", 0, 1, true}, {"bytes 5-9/100", 5, 100, true}, {"", 0, 0, false}, {"bytes */100", 0, 0, false}, {"bytes 5-4/9", 0, 0, false},
		{"bytes 5-9/9", 0, 0, false}, {"bytes -1-4/9", 0, 0, false}, {"bytes 1-2/*", 0, 0, false}, {"items 1-2/3", 0, 0, false},
	} {
		first, total, ok := parseContentRange(c.s)
		if ok != c.ok || ok && (first != c.first || total != c.total) {
			t.Errorf("%q: %d, %d, %v", c.s, first, total, ok)
		}
	}
}

func TestLimiterSpreadsOverTime(t *testing.T) {
	l := limiter{rate: 1000}
	now := time.Unix(1000, 0)
	for n, want := range []time.Duration{0, 100 * time.Millisecond, 200 * time.Millisecond} {
		if got := l.take(now, 100); got != want {
			t.Errorf("piece %d waits %v, not %v", n, got, want)
		}
	}
	// What was not used is not saved up.
	if got := l.take(now.Add(time.Hour), 5000); got != 0 {
		t.Errorf("after a rest: %v", got)
	}
	if got := l.take(now.Add(time.Hour), 1); got != 5*time.Second {
		t.Errorf("behind much: %v", got)
	}
}

func TestLimitedConnectionSendsAll(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	c := &conn{Conn: b, stall: time.Minute, limit: &limiter{rate: 1 << 40}}
	got := make(chan int)
	go func() {
		total, buf := 0, make([]byte, 100000)
		for {
			n, err := a.Read(buf)
			total += n
			if err != nil {
				got <- total
				return
			}
		}
	}()
	n, err := c.Write(make([]byte, 100001))
	c.Close()
	if total := <-got; n != 100001 || total != n || err != nil {
		t.Errorf("%d of %d arrived, %v", total, n, err)
	}
}

func TestContextEndsARequest(t *testing.T) {
	end := make(chan struct{})
	asked := make(chan struct{}, 1)
	b := against(t, time.Minute, func(w http.ResponseWriter, r *http.Request) {
		select {
		case asked <- struct{}{}:
		default:
		}
		<-end
	})
	defer close(end)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	if _, _, err := b.ReadAt(ctx, "a", make([]byte, 1), 0); tier.Passing(err) || err == nil {
		t.Fatalf("the error is %v", err)
	}
}
