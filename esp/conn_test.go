package esp

import (
	"net"
	"testing"

	"golang.org/x/net/nettest"
)

func testNettest(t *testing.T, client, server Config) {
	p := newTestPair(t, client, server)
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		a, b := p.conns()
		return a, b, func() {
			a.Close()
			b.Close()
		}, nil
	})
}

func TestConnOverTCP(t *testing.T) {
	testNettest(t, Config{DisableUDP: true}, Config{DisableUDP: true})
}

func TestConnOverUDP(t *testing.T) {
	testNettest(t, Config{DisableTCP: true}, Config{DisableTCP: true})
}
