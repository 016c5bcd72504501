// Package esp is the Encoded Stream Protocol, a transport with the manners of TCP: a program replaces net.Dial and
// net.Listen by [Dial] and [Listen], or by the methods of an [Endpoint], and goes on with [net.Conn] and
// [net.Listener] as before. What it gains:
//
//   - keys: both sides prove who they are; all bytes are encrypted, with keys that change (Noise IK or XX; AES-256-GCM or ChaCha20-Poly1305)
//   - one session for two peers, however many connections run over it, without one that stalls holding up the others
//   - compression, where the path is slower than the encoder
//   - several paths: the best one is in use, others stand by; a session outlives a change of address and the death of a path
//   - UDP with congestion control in user space (shaped after BBRv3, or CUBIC), and TCP where UDP does not pass, and back again
//   - large windows that tune themselves
//
// On the wire it is called esp/1 (docs/esp-wire.md). It has nothing to do with IPsec's protocol 50 of the same name.
//
// # Who is who
//
// A peer is its key. [GenerateKey] makes an identity, [PrivateKey.Public] its name. The address of a peer is
// "KEY@HOST:PORT", which is what [Listener.Addr] and [Endpoint.Addr] print. Dial to such an address fails with a
// [KeyError] when somebody else answers there, or with [ErrNoAnswer], because an endpoint stays silent to those who
// do not know its key, unless it sets Config.Pairing. An address without a key asks whoever answers for theirs;
// Config.Authorize decides about it. On the other side, Config.Authorize sees the key of each peer that dials before
// anything is kept about it, and without Authorize all are welcome.
//
// # Endpoints, sessions, connections
//
//	Endpoint   one identity, its sockets: UDP and TCP on the same port
//	  Session  the association with one peer: keys, paths, windows
//	    Conn   one stream of bytes: a net.Conn
//
// [Endpoint.Dial] opens a Conn over the session that it has with the peer, and dials a session first if there is
// none. [Endpoint.Listen] gives the Conns that peers open; an endpoint may do both. A session ends when it had no
// stream for a while, unless [Endpoint.Connect] asked for it, when one side closes it, or when the peer was not heard
// for Config.IdleTimeout.
//
// The functions [Dial] and [Listen] make an endpoint for one purpose. It ends with what they returned: a Conn of Dial
// delivers what was written when it is closed, which takes up to Config.Linger; a Listener keeps the endpoint until
// the last accepted Conn is closed.
//
// # What is like TCP, and what is not
//
// Read returns what has come in order; Write returns when the bytes are buffered, and takes any number; both obey
// deadlines; CloseWrite sends an end that the peer reads as io.EOF; Close delivers in the background what was
// written. Errors are a *net.OpError around what net gives in the like case: ECONNREFUSED (nobody listens, or the
// peer does not want this key), ECONNRESET (the peer ended the session or reset the stream), EPIPE (it does not read
// any more), ETIMEDOUT (it was not heard), net.ErrClosed, os.ErrDeadlineExceeded. A [SessionError] inside tells more.
//
// Buffers are in this process. A program that exits right after Conn.Close loses what is still under way: it closes
// the [Endpoint] first, which waits for the peers to have it.
//
// # Limits
//
// Config.Limits bounds what peers can make an endpoint spend: unfinished handshakes, sessions, streams, windows. The
// windows of the streams of a session together never exceed its own, so streams that nobody reads cannot hold up one
// that is read. Packets that are malformed, forged, replayed or of no session are dropped and counted
// ([Endpoint.Stats]); a peer that breaks the protocol loses its session.
//
// # Reading the source
//
// recv.go and send.go open with the stages of the way in and out, role.go with who receives, accept.go and dial.go
// with the handshake, keys.go with the key schedule, flow.go with windows, pathset.go and pathprobe.go with paths.
// The algorithms lie in internal packages that know nothing of sockets or time: recovery (RFC 9002, RACK), cc, pacer,
// pmtu, record, sched, interval, replay; udpio has the sockets.
package esp
