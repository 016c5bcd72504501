//go:build !linux

package udpio

import "net"

// sysBatch is what batched receiving needs of the system: here nothing.
type sysBatch struct{}

func (*sysBatch) init(int, []byte) {}

func newConn(c *net.UDPConn, opt Options) (Conn, error) {
	c.SetReadBuffer(opt.RecvBuffer) // as much as the system allows; less costs speed, not correctness
	c.SetWriteBuffer(opt.SendBuffer)
	return Wrap(c), nil
}
