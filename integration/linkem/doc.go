// Package linkem emulates networks on one machine, in one process: hosts that are network namespaces, and links between
// them with a delay, jitter, loss, reordering, a rate, a queue and an MTU of their own, all of which can be changed while
// traffic flows. It needs neither netem nor any daemon, but it needs the rights to make namespaces and TUN devices
// (CAP_SYS_ADMIN and CAP_NET_ADMIN); [Available] says why where it cannot work.
//
//	n := linkem.Test(t)                    // skips the test where it cannot work, cleans up in any case
//	a, b := n.Host("a"), n.Host("b")
//	l := n.Link(a, b, linkem.Conditions{Delay: 25 * time.Millisecond, Rate: 25e6, Loss: 0.01})
//	ln, _ := b.Listen("tcp", netip.AddrPortFrom(l.Addr(b), 0).String())
//	c, _ := a.Dial(ctx, "tcp", ln.Addr().String())
//	l.Set(linkem.Conditions{Down: true})   // pull the plug
//
// A link is a TUN device at each end and a forwarder between them, in user space:
//
//	host a ─▶ TUN ─▶ reader ─▶ shaper ─▶ packets under way, by time ─▶ writer ─▶ TUN ─▶ host b
//	                          (drop, queue, rate, delay, order)
//
// and the same the other way. It carries about 1.1 Gbit/s, and a link that takes packets joined ([Net.ConnectJoined]) many times as much. The namespaces have no names and the devices are not
// persistent: all of it goes when the process ends, however it ends.
package linkem
