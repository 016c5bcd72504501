package esp

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/flynn/noise"
)

// TestNoiseVectors runs the published vectors of the four handshakes, so that another implementation can be built
// from the Noise specification.
func TestNoiseVectors(t *testing.T) {
	text, err := os.ReadFile("testdata/noise.txt")
	if err != nil {
		t.Fatal(err)
	}
	ran := map[string]int{}
	for _, block := range strings.Split(string(text), "\n\n") {
		v := map[string]string{}
		for _, line := range strings.Split(block, "\n") {
			if k, val, ok := strings.Cut(line, "="); ok {
				v[k] = val
			}
		}
		name := v["handshake"]
		if name == "" {
			continue
		}
		ran[name]++
		su, pattern := suiteAESGCM, noise.HandshakeXX
		if strings.Contains(name, "ChaChaPoly") {
			su = suiteChaCha20
		}
		ik := strings.Contains(name, "_IK_")
		if ik {
			pattern = noise.HandshakeIK
		}
		state := func(initiator bool, static, eph, peer string) *noise.HandshakeState {
			key := PrivateKey(unhex(t, v[static]))
			pub := key.Public()
			c := noise.Config{CipherSuite: noiseSuite(su), Pattern: pattern, Initiator: initiator, Prologue: unhex(t, v["prologue"]),
				Random: bytes.NewReader(unhex(t, v[eph])), StaticKeypair: noise.DHKey{Private: key[:], Public: pub[:]}}
			if ik && initiator {
				rs := PrivateKey(unhex(t, v[peer])).Public()
				c.PeerStatic = rs[:]
			}
			hs, err := noise.NewHandshakeState(c)
			if err != nil {
				t.Fatal(err)
			}
			return hs
		}
		i := state(true, "init_static", "gen_init_ephemeral", "resp_static")
		r := state(false, "resp_static", "gen_resp_ephemeral", "")
		messages := 3
		if ik {
			messages = 2
		}
		from, to := i, r
		for n := range messages {
			msg, _, _, err := from.WriteMessage(nil, unhex(t, v[fmt.Sprintf("msg_%d_payload", n)]))
			if err != nil {
				t.Fatalf("%s: message %d: %v", name, n, err)
			}
			if got, want := hex.EncodeToString(msg), v[fmt.Sprintf("msg_%d_ciphertext", n)]; got != want {
				t.Fatalf("%s: message %d:\n%s, want\n%s", name, n, got, want)
			}
			if _, _, _, err := to.ReadMessage(nil, msg); err != nil {
				t.Fatalf("%s: message %d: %v", name, n, err)
			}
			from, to = to, from
		}
	}
	if len(ran) != 4 {
		t.Fatalf("vectors for %v", ran)
	}
}

// handshakeOnce runs one handshake without a net.
func handshakeOnce(t *testing.T, su suite, known bool, garble func([]byte) []byte) (i, r *handshakeResult, err error) {
	t.Helper()
	ck, sk := PrivateKey{1, 2, 3}, PrivateKey{9, 8, 7}
	peer := sk.Public()
	if !known {
		peer = PublicKey{}
	}
	in, err := newInitiator(ck, peer, su, 77, params{maxData: 1000, maxStreams: 5}, seeded(1))
	if err != nil {
		t.Fatal(err)
	}
	if len(in.packet) != minDatagram {
		t.Fatalf("INIT of %d bytes", len(in.packet))
	}
	packet := in.packet
	if garble != nil {
		packet = garble(bytes.Clone(packet))
	}
	p, ok := parseInit(packet)
	if !ok {
		return nil, nil, errTruncated
	}
	rs, err := readInit(p, sk, seeded(2))
	if err != nil {
		return nil, nil, err
	}
	reply, r, err := rs.reply(params{cid: 99, maxData: 2000, maxStreams: 6})
	if err != nil {
		t.Fatal(err)
	}
	for _, forged := range [][]byte{reply[:20], reply[:len(reply)-1], append(bytes.Clone(reply[:hsHeader+2]), make([]byte, len(reply)-hsHeader-2)...)} {
		if _, _, err := in.readReply(forged); err == nil {
			t.Fatal("a forged REPLY was taken")
		}
	}
	i, finish, err := in.readReply(reply)
	if err != nil {
		return nil, nil, err
	}
	if !known {
		if r, err = rs.readFinish(finish, 99); err != nil {
			return nil, nil, err
		}
	}
	if i.peer != sk.Public() || r.peer != ck.Public() || i.send != r.recv || i.recv != r.send || i.send == i.recv {
		t.Fatalf("the two sides disagree: %+v, %+v", i, r)
	}
	if i.params.maxData != 2000 || r.params.maxData != 1000 || i.peerCID != 99 || r.peerCID != 77 {
		t.Fatalf("parameters: %+v, %+v", i, r)
	}
	return i, r, nil
}

func TestHandshake(t *testing.T) {
	for _, su := range []suite{suiteAESGCM, suiteChaCha20} {
		for _, known := range []bool{true, false} {
			i, r, err := handshakeOnce(t, su, known, nil)
			if err != nil {
				t.Fatalf("%v, key known %v: %v", su, known, err)
			}
			a, b := newSendKeys(su, i.send), newRecvKeys(su, r.recv)
			packet := make([]byte, headerSize, 200)
			putHeader(packet, 0, 5, 6)
			packet = append(packet, "frames"...)
			var n nonceBuf
			sealed := a.cur.seal(&n, packet, headerSize, 4, 6)
			got, err := b.cur.open(&n, sealed, headerSize, 4, 6)
			if err != nil || string(got) != "frames" {
				t.Fatalf("%q, %v", got, err)
			}
		}
	}
}

// TestDowngradeShows turns every bit of what INIT offers in the clear: the handshake must fail each time.
func TestDowngradeShows(t *testing.T) {
	in, err := newInitiator(PrivateKey{0, 1}, PrivateKey{0, 2}.Public(), suiteAESGCM, 77, params{}, seeded(1))
	if err != nil {
		t.Fatal(err)
	}
	for bit := 8 * 5; bit < 8*len(in.clear); bit++ { // type and version are looked at before
		i, _, err := handshakeOnce(t, suiteAESGCM, true, func(b []byte) []byte {
			b[bit/8] ^= 1 << (bit % 8)
			return b
		})
		if err == nil {
			t.Fatalf("bit %d of the clear part was turned and nobody saw it: %+v", bit, i)
		}
	}
}

// TestKeyScheduleOnTheWire pins the derivation with literal values, for other implementations.
func TestKeyScheduleOnTheWire(t *testing.T) {
	s := extract([]byte("hash"), []byte("key"))
	k := newEpochKey(suiteAESGCM, s, 0)
	packet := make([]byte, headerSize, 64)
	putHeader(packet, 0, 0x0102030405060708, 0x0a0b0c)
	packet = append(packet, framePing)
	var n nonceBuf
	got := fmt.Sprintf("%x %x %x %x", s, k.iv, s.next(nil), k.seal(&n, packet, headerSize, 2, 0x0a0b0c))
	const want = "f12df3733a0d4a233bcd9ffdc6799e75a5bf9b9d952f4ac2cc4ff2a9ac9c5521 6c4040a000b316647e22228b " +
		"cae059d316a0df893e58bd7e54090c3641af8716af359e73596f8832ba690131 " +
		"0001020304050607080000000a0b0c7182c20a05d37436a1da7e772b88f55851"
	if got != want {
		t.Errorf("%s", got)
	}
}

func TestEpochs(t *testing.T) {
	s := extract(nil, []byte("x"))
	for _, mixAt := range []uint64{0, 3} {
		send, recv := newSendKeys(suiteChaCha20, s), newRecvKeys(suiteChaCha20, s)
		dh := []byte("shared secret")
		var n nonceBuf
		seal := func() []byte {
			b := make([]byte, headerSize, 64)
			putHeader(b, send.cur.epoch, 1, 2)
			return send.cur.seal(&n, append(b, 1, 2, 3), headerSize, 0, 2)
		}
		var old []byte
		for e := range uint64(9) {
			b := seal()
			key := recv.pick(b[0] & epochMask)
			if _, err := key.open(&n, bytes.Clone(b), headerSize, 0, 2); err != nil {
				t.Fatalf("epoch %d: %v", e, err)
			}
			if key == recv.next {
				var mixed []byte
				if e == mixAt {
					mixed = dh
				}
				recv = recv.advance(mixed)
			}
			if recv.cur.epoch != e {
				t.Fatalf("receiver in epoch %d, sender in %d", recv.cur.epoch, e)
			}
			if old != nil { // late packets of the last epoch still open
				if _, err := recv.pick(old[0]&epochMask).open(&n, old, headerSize, 0, 2); err != nil {
					t.Fatalf("epoch %d: a late packet: %v", e, err)
				}
			}
			old = seal()
			send.acked, send.packets = true, maxEpochPackets
			if !send.due(0) {
				t.Fatal("the epoch does not end")
			}
			if e+1 == mixAt {
				send.dh, send.dhEpoch = dh, mixAt
				recv = recv.mix(dh)
			}
			send.advance(0)
			if send.due(time.Hour) {
				t.Fatal("an epoch ends before the peer has acknowledged a packet of it")
			}
		}
	}
}

func TestCookies(t *testing.T) {
	key := PrivateKey{0, 5}.Public()
	in, err := newInitiator(PrivateKey{0, 1}, key, suiteAESGCM, 7, params{}, seeded(3))
	if err != nil {
		t.Fatal(err)
	}
	k := mac1Key(key)
	if !checkMac1(in.packet, &k) {
		t.Fatal("mac1 of our own is refused")
	}
	other := mac1Key(PrivateKey{0, 6}.Public())
	if checkMac1(in.packet, &other) {
		t.Fatal("mac1 for another key is taken")
	}
	jar := cookieJar{rand: seeded(4)}
	now := time.Unix(1e9, 0)
	from, elsewhere := netip.MustParseAddrPort("192.0.2.1:5"), netip.MustParseAddrPort("192.0.2.1:6")
	if jar.check(now, from, in.packet) {
		t.Fatal("no cookie, and it is taken")
	}
	m1 := in.packet[len(in.packet)-macsSize : len(in.packet)-macSize]
	var nonce [24]byte
	sealed := sealCookie(nil, key, &nonce, jar.make(now, from), m1)
	if openCookie(sealed, PrivateKey{0, 6}.Public(), nonce[:], m1) != nil || openCookie(sealed, key, nonce[:], make([]byte, 16)) != nil {
		t.Fatal("a cookie for somebody else opens")
	}
	c := openCookie(sealed, key, nonce[:], m1)
	p := in.withCookie(c)
	if !jar.check(now, from, p) || jar.check(now, elsewhere, p) {
		t.Fatal("the cookie is not bound to the address")
	}
	if !jar.check(now.Add(cookieLife+time.Second), from, p) {
		t.Fatal("the cookie dies with the first change of the secret")
	}
	if jar.check(now.Add(3*cookieLife), from, p) {
		t.Fatal("the cookie lives for ever")
	}
}

// FuzzCookie opens arbitrary cookies.
func FuzzCookie(f *testing.F) {
	key := PrivateKey{0, 5}.Public()
	var nonce [24]byte
	f.Add(sealCookie(nil, key, &nonce, [cookieSize]byte{1}, make([]byte, 16)), nonce[:])
	f.Fuzz(func(t *testing.T, sealed, n []byte) {
		if c := openCookie(sealed, key, n, make([]byte, 16)); c != nil && (!bytes.Equal(n, nonce[:]) || c[0] != 1) {
			t.Fatal("a forged cookie opened")
		}
		jar := cookieJar{rand: seeded(4)}
		if jar.check(time.Unix(1e9, 0), netip.AddrPortFrom(netip.IPv4Unspecified(), 1), sealed) {
			t.Fatal("a forged mac2 was taken")
		}
	})
}

func TestKeyTexts(t *testing.T) {
	k := PrivateKey{1, 2, 3}
	text, _ := k.MarshalText()
	back, err := ParsePrivateKey(string(text))
	if err != nil || back != k {
		t.Fatalf("%s: %v", text, err)
	}
	pub := k.Public()
	if p, err := ParsePublicKey(strings.ToUpper(pub.String())); err != nil || p != pub {
		t.Fatal(err)
	}
	s := []byte(pub.String())
	for i := range s {
		bad := bytes.Clone(s)
		bad[i] ^= 1
		if _, err := ParsePublicKey(string(bad)); err == nil {
			t.Fatalf("a typing error at %d was taken", i)
		}
	}
	if strings.Contains(fmt.Sprintf("%v %+v %#v %s", k, k, k, k), string(text[7:])) {
		t.Fatal("a private key shows in a log")
	}
}
