package esp

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/flynn/noise"
	"golang.org/x/sys/cpu"
)

// Handshake packets. All begin with 0x80|type u8 and version u32.
//
//	INIT      initiator CID u64, pattern u8, suite u8, n u8, n versions u32, m u8, m suites u8,
//	          length u16, Noise message 1, zeros up to 1200 bytes in all, mac1 16, mac2 16
//	REPLY     destination CID u64 (the initiator's), length u16, Noise message 2
//	FINISH    destination CID u64 (the responder's), length u16, Noise message 3 (pattern XX only)
//	COOKIE    destination CID u64, nonce 24, sealed cookie 32
//	VERSIONS  destination CID u64, n u8, n versions u32 (version field 0)
//	JOIN      destination CID u64 (TCP only: this connection carries the path of that CID; records follow)
//
// The prologue of the Noise handshake is "ESP" and all of INIT before the length, so that nothing offered there can
// be taken away unseen.
const (
	typeInit     = flagHandshake | 1
	typeReply    = flagHandshake | 2
	typeFinish   = flagHandshake | 3
	typeCookie   = flagHandshake | 4
	typeVersions = flagHandshake | 5
	typeJoin     = flagHandshake | 6

	patternIK = 1 // the initiator knows the responder's key
	patternXX = 2 // both learn the other's key

	hsHeader     = 1 + 4 + 8
	cookiePacket = hsHeader + 24 + cookieSize + tagSize
	maxHandshake = 1500 // bytes of a handshake packet that are looked at
)

// Parameters travel in Noise payloads: type varint, length varint, value; unknown types are skipped.
const (
	paramCID         = 1 // u64: CID of the responder for path 0
	paramResetToken  = 2 // 16 bytes, for the CID of path 0
	paramMaxData     = 3 // varint: session window in bytes
	paramMaxStreams  = 4 // varint: streams that the peer may have opened
	paramIdleTimeout = 5 // varint: ms after which silence ends the session
	paramAckDelay    = 6 // varint: µs that an ACK may wait
	paramStatus      = 7 // varint code, then text: the responder refuses
	paramEarlyWindow = 8 // varint: bytes of a stream that the peer may send before OPEN_ACK; absent: 0
)

// params are what each side tells the other in the handshake.
type params struct {
	cid         uint64
	resetToken  [resetTokSize]byte
	hasToken    bool
	maxData     uint64
	maxStreams  uint64
	idleTimeout time.Duration
	ackDelay    time.Duration
	earlyWindow uint64
	refused     bool
	reason      string
}

func (p *params) append(b []byte) []byte {
	field := func(typ uint64, n int) { b = appendVarint(appendVarint(b, typ), uint64(n)) }
	number := func(typ, v uint64) { field(typ, varintLen(v)); b = appendVarint(b, v) }
	if p.cid != 0 {
		field(paramCID, 8)
		b = binary.BigEndian.AppendUint64(b, p.cid)
	}
	if p.hasToken {
		field(paramResetToken, resetTokSize)
		b = append(b, p.resetToken[:]...)
	}
	if p.refused {
		reason := p.reason[:min(len(p.reason), maxReason)]
		field(paramStatus, varintLen(uint64(CodeRefused))+len(reason))
		b = append(appendVarint(b, uint64(CodeRefused)), reason...)
		return b
	}
	number(paramMaxData, p.maxData)
	number(paramMaxStreams, p.maxStreams)
	number(paramIdleTimeout, uint64(p.idleTimeout/time.Millisecond))
	number(paramAckDelay, uint64(p.ackDelay/time.Microsecond))
	if p.earlyWindow != 0 {
		number(paramEarlyWindow, p.earlyWindow)
	}
	return b
}

var errParams = errors.New("esp: malformed handshake parameters")

func parseParams(b []byte) (p params, err error) {
	p.ackDelay = defaultAckDelay
	r := reader{b: b}
	for len(r.b) > 0 {
		typ := r.varint()
		v := reader{b: r.takeVar(len(r.b))}
		if r.bad {
			return params{}, errParams
		}
		switch typ {
		case paramCID:
			p.cid = v.u64()
		case paramResetToken:
			p.hasToken = true
			copy(p.resetToken[:], v.take(resetTokSize))
		case paramMaxData:
			p.maxData = v.varint()
		case paramMaxStreams:
			p.maxStreams = v.varint()
		case paramIdleTimeout:
			p.idleTimeout = time.Duration(min(v.varint(), 1<<32)) * time.Millisecond
		case paramAckDelay:
			p.ackDelay = time.Duration(min(v.varint(), 1<<20)) * time.Microsecond
		case paramEarlyWindow:
			p.earlyWindow = v.varint()
		case paramStatus:
			p.refused = v.varint() != 0
			p.reason = printable(v.take(min(len(v.b), maxReason)))
		}
		if v.bad {
			return params{}, errParams
		}
	}
	return p, nil
}

// printable drops what could play tricks with a terminal from a text that the peer sent.
func printable(b []byte) string {
	return string(bytes.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == '\uFFFD' {
			return -1
		}
		return r
	}, b))
}

func noiseSuite(s suite) noise.CipherSuite {
	if s == suiteChaCha20 {
		return noise.NewCipherSuite(noise.DH25519, noise.CipherChaChaPoly, noise.HashSHA256)
	}
	return noise.NewCipherSuite(noise.DH25519, noise.CipherAESGCM, noise.HashSHA256)
}

// defaultSuite is AES where the processor has instructions for it.
func defaultSuite() suite {
	if cpu.X86.HasAES && cpu.X86.HasPCLMULQDQ || cpu.ARM64.HasAES && cpu.ARM64.HasPMULL || cpu.S390X.HasAESGCM {
		return suiteAESGCM
	}
	return suiteChaCha20
}

// handshakeResult is what a finished handshake leaves.
type handshakeResult struct {
	suite      suite
	peer       PublicKey
	send, recv secret // S₀ of both directions
	params     params // the peer's
	cid        uint64 // ours, for path 0
	peerCID    uint64 // theirs
	binding    [32]byte
}

// finish derives the secrets from the two halves of a Noise handshake.
func (h *handshakeResult) finish(hs *noise.HandshakeState, initiator bool, cs1, cs2 *noise.CipherState) {
	hash := hs.ChannelBinding()
	h.binding = sha256.Sum256(append([]byte("esp/1 binding"), hash...))
	k1, k2 := cs1.UnsafeKey(), cs2.UnsafeKey()
	i, r := extract(hash, k1[:]), extract(hash, k2[:])
	if initiator {
		h.send, h.recv = i, r
	} else {
		h.send, h.recv = r, i
	}
	h.peer = PublicKey(hs.PeerStatic())
}

func prologue(clearPart []byte) []byte { return append([]byte("ESP"), clearPart...) }

func noiseConfig(su suite, pattern byte, key PrivateKey, peer PublicKey, initiator bool, clearPart []byte, rand io.Reader) noise.Config {
	pub := key.Public()
	c := noise.Config{
		CipherSuite:   noiseSuite(su),
		Random:        rand,
		Pattern:       noise.HandshakeXX,
		Initiator:     initiator,
		Prologue:      prologue(clearPart),
		StaticKeypair: noise.DHKey{Private: key[:], Public: pub[:]},
	}
	if pattern == patternIK {
		c.Pattern = noise.HandshakeIK
		if initiator {
			c.PeerStatic = peer[:]
		}
	}
	return c
}

// initiator is the dialing side of one handshake. It is not safe for concurrent use.
type initiator struct {
	key     PrivateKey
	peer    PublicKey // zero: XX
	suite   suite
	pattern byte
	cid     uint64
	params  params

	eph    [32]byte // private half of the ephemeral key, so that the state can be built anew after a forged reply
	clear  []byte   // INIT before the length
	packet []byte   // INIT without cookie
	hs     *noise.HandshakeState
}

// newInitiator prepares INIT. peer is zero where the responder's key is not known.
func newInitiator(key PrivateKey, peer PublicKey, su suite, cid uint64, p params, rand io.Reader) (*initiator, error) {
	in := &initiator{key: key, peer: peer, suite: su, pattern: patternIK, cid: cid, params: p}
	if peer.IsZero() {
		in.pattern = patternXX
	}
	if _, err := io.ReadFull(rand, in.eph[:]); err != nil {
		return nil, err
	}
	b := appendHandshakeHeader(nil, typeInit, cid)
	b = append(b, in.pattern, byte(su))
	b = append(b, 1)
	b = binary.BigEndian.AppendUint32(b, Version)
	b = append(b, 2, byte(suiteAESGCM), byte(suiteChaCha20))
	in.clear = b
	msg, err := in.restart()
	if err != nil {
		return nil, err
	}
	b = binary.BigEndian.AppendUint16(bytes.Clone(b), uint16(len(msg)))
	b = append(b, msg...)
	if len(b) > minDatagram-macsSize {
		return nil, fmt.Errorf("esp: INIT of %d bytes", len(b))
	}
	in.packet = append(b, make([]byte, minDatagram-len(b))...)
	setMacs(in.packet, peer, nil)
	return in, nil
}

// restart builds the Noise state anew and returns message 1, which is the same each time.
func (in *initiator) restart() ([]byte, error) {
	hs, err := noise.NewHandshakeState(noiseConfig(in.suite, in.pattern, in.key, in.peer, true, in.clear, bytes.NewReader(in.eph[:])))
	if err != nil {
		return nil, err
	}
	in.hs = hs
	var payload []byte
	if in.pattern == patternIK { // in XX nothing is encrypted yet: the parameters follow in FINISH
		payload = in.params.append(nil)
	}
	msg, _, _, err := hs.WriteMessage(nil, payload)
	return msg, err
}

// withCookie is INIT with mac2.
func (in *initiator) withCookie(cookie []byte) []byte {
	p := bytes.Clone(in.packet)
	setMacs(p, in.peer, cookie)
	return p
}

// readReply takes REPLY. A forged one gives an error and leaves the handshake as it was. finish is the FINISH packet
// to send, nil in IK.
func (in *initiator) readReply(packet []byte) (res *handshakeResult, finish []byte, err error) {
	r := reader{b: packet[min(len(packet), hsHeader):]}
	msg := r.take(int(r.u16()))
	if r.bad {
		return nil, nil, errTruncated
	}
	payload, cs1, cs2, err := in.hs.ReadMessage(nil, msg)
	if err != nil {
		// flynn/noise leaves its state changed after some failures (a short message, a point of low order).
		if _, rerr := in.restart(); rerr != nil {
			return nil, nil, rerr
		}
		return nil, nil, err
	}
	p, err := parseParams(payload)
	if err != nil {
		return nil, nil, err
	}
	res = &handshakeResult{suite: in.suite, params: p, cid: in.cid, peerCID: p.cid}
	if in.pattern == patternXX {
		var out []byte
		out, cs1, cs2, err = in.hs.WriteMessage(nil, in.params.append(nil))
		if err != nil {
			return nil, nil, err
		}
		finish = appendHandshakeHeader(nil, typeFinish, p.cid)
		finish = append(binary.BigEndian.AppendUint16(finish, uint16(len(out))), out...)
	}
	res.finish(in.hs, true, cs1, cs2)
	return res, finish, nil
}

func appendHandshakeHeader(b []byte, typ byte, cid uint64) []byte {
	b = binary.BigEndian.AppendUint32(append(b, typ), Version)
	return binary.BigEndian.AppendUint64(b, cid)
}

// initPacket is a parsed INIT.
type initPacket struct {
	version uint32
	cid     uint64
	pattern byte
	suite   suite
	clear   []byte // what the prologue binds
	msg     []byte // Noise message 1
	raw     []byte
}

// parseInit reads INIT; ok is false for what cannot be one. It checks neither the macs nor the version.
func parseInit(b []byte) (p initPacket, ok bool) {
	if len(b) < minDatagram || len(b) > maxHandshake || b[0] != typeInit {
		return p, false
	}
	p.raw = b
	r := reader{b: b[1 : len(b)-macsSize]}
	p.version = r.u32()
	p.cid = r.u64()
	p.pattern = r.u8()
	p.suite = suite(r.u8())
	r.take(4 * int(r.u8()))
	r.take(int(r.u8()))
	if r.bad {
		return p, false
	}
	p.clear = b[:len(b)-macsSize-len(r.b)]
	p.msg = r.take(int(r.u16()))
	return p, !r.bad && p.cid != 0 && len(p.msg) > 0
}

// parseHandshake reads the fields that all other handshake packets share.
func parseHandshake(b []byte) (typ byte, version uint32, cid uint64, ok bool) {
	if len(b) < hsHeader || len(b) > maxHandshake || b[0]&flagHandshake == 0 {
		return 0, 0, 0, false
	}
	return b[0], binary.BigEndian.Uint32(b[1:]), binary.BigEndian.Uint64(b[5:]), true
}

// responder is the listening side of one handshake. The endpoint's lock guards it after it was published.
type responder struct {
	suite   suite
	pattern byte
	peer    PublicKey // known after INIT in IK, after FINISH in XX
	params  params    // the peer's, likewise
	peerCID uint64
	hs      *noise.HandshakeState
}

var errSuite = errors.New("esp: unknown suite or pattern")

// readInit takes INIT.
func readInit(p initPacket, key PrivateKey, rand io.Reader) (*responder, error) {
	if p.suite != suiteAESGCM && p.suite != suiteChaCha20 || p.pattern != patternIK && p.pattern != patternXX {
		return nil, errSuite
	}
	rs := &responder{suite: p.suite, pattern: p.pattern, peerCID: p.cid}
	hs, err := noise.NewHandshakeState(noiseConfig(p.suite, p.pattern, key, PublicKey{}, false, p.clear, rand))
	if err != nil {
		return nil, err
	}
	payload, _, _, err := hs.ReadMessage(nil, p.msg)
	if err != nil {
		return nil, err
	}
	rs.hs = hs
	if p.pattern == patternIK {
		rs.peer = PublicKey(hs.PeerStatic())
		if rs.params, err = parseParams(payload); err != nil {
			return nil, err
		}
	}
	return rs, nil
}

// reply makes REPLY with our parameters. In IK, and when the parameters do not refuse, res is the finished handshake.
func (rs *responder) reply(p params) (packet []byte, res *handshakeResult, err error) {
	msg, cs1, cs2, err := rs.hs.WriteMessage(nil, p.append(nil))
	if err != nil {
		return nil, nil, err
	}
	packet = appendHandshakeHeader(nil, typeReply, rs.peerCID)
	packet = append(binary.BigEndian.AppendUint16(packet, uint16(len(msg))), msg...)
	if rs.pattern == patternIK {
		res = &handshakeResult{suite: rs.suite, params: rs.params, cid: p.cid, peerCID: rs.peerCID}
		res.finish(rs.hs, false, cs1, cs2)
	}
	return packet, res, nil
}

// readFinish takes FINISH of pattern XX. After an error the handshake is over (see initiator.readReply for the reason).
func (rs *responder) readFinish(packet []byte, cid uint64) (*handshakeResult, error) {
	r := reader{b: packet[min(len(packet), hsHeader):]}
	msg := r.take(int(r.u16()))
	if r.bad {
		return nil, errTruncated
	}
	payload, cs1, cs2, err := rs.hs.ReadMessage(nil, msg)
	if err != nil {
		return nil, err
	}
	p, err := parseParams(payload)
	if err != nil {
		return nil, err
	}
	res := &handshakeResult{suite: rs.suite, params: p, cid: cid, peerCID: rs.peerCID}
	res.finish(rs.hs, false, cs1, cs2)
	return res, nil
}
