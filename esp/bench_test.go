package esp

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"syscall"
	"testing"
	"time"
)

// tlsPair is the rival: crypto/tls 1.3 over a loopback TCP connection.
func tlsPair(b testing.TB) (c, s net.Conn) {
	b.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		b.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	got := make(chan net.Conn, 1)
	go func() {
		s, err := l.Accept()
		if err == nil {
			err = s.(*tls.Conn).Handshake()
		}
		if err != nil {
			s = nil
		}
		got <- s
	}()
	c, err = tls.Dial("tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		b.Fatal(err)
	}
	if s = <-got; s == nil {
		b.Fatal("no TLS")
	}
	b.Cleanup(func() { c.Close(); s.Close() })
	return c, s
}

func espPair(b testing.TB, cfg Config) (net.Conn, net.Conn) {
	p := newTestPair(b, cfg, cfg)
	c, s := p.conns()
	return c, s
}

// cpuTime is what this process has used.
func cpuTime() time.Duration {
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		return 0
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

var carriages = []struct {
	name string
	pair func(testing.TB) (net.Conn, net.Conn)
}{
	{"tls", tlsPair},
	{"udp", func(b testing.TB) (net.Conn, net.Conn) { return espPair(b, Config{DisableTCP: true}) }},
	{"udp1400", func(b testing.TB) (net.Conn, net.Conn) { return espPair(b, Config{DisableTCP: true, MTU: 1400}) }},
	{"tcp", func(b testing.TB) (net.Conn, net.Conn) { return espPair(b, Config{DisableUDP: true}) }},
}

func BenchmarkThroughput(b *testing.B) {
	for _, v := range carriages {
		b.Run(v.name, func(b *testing.B) {
			c, s := v.pair(b)
			data := pattern(3, 1<<20)
			b.SetBytes(int64(len(data)))
			done := make(chan error, 1)
			go func() {
				buf := make([]byte, 256<<10)
				_, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{io.LimitReader(s, int64(len(data))*int64(b.N+20))}, buf)
				done <- err
			}()
			for range 20 { // warm up: slow start, PMTU
				c.Write(data)
			}
			b.ResetTimer()
			cpu := cpuTime()
			for range b.N {
				if _, err := c.Write(data); err != nil {
					b.Fatal(err)
				}
			}
			if err := <-done; err != nil {
				b.Fatal(err)
			}
			b.ReportMetric((cpuTime()-cpu).Seconds()*1e3/(float64(b.N)*float64(len(data))/1e9), "cpu-ms/GB")
		})
	}
}

func BenchmarkPingPong(b *testing.B) {
	for _, v := range carriages {
		b.Run(v.name, func(b *testing.B) {
			c, s := v.pair(b)
			go func() {
				buf := make([]byte, 64)
				for {
					if _, err := io.ReadFull(s, buf); err != nil {
						return
					}
					if _, err := s.Write(buf); err != nil {
						return
					}
				}
			}()
			buf := make([]byte, 64)
			b.ReportAllocs()
			b.ResetTimer()
			cpu := cpuTime()
			defer func() { b.ReportMetric(float64((cpuTime()-cpu).Nanoseconds())/float64(b.N), "cpu-ns/op") }()
			for range b.N {
				if _, err := c.Write(buf); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(c, buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
