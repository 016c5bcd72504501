package esp

import (
	"crypto/subtle"
	"encoding/binary"
	"io"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/crypto/blake2s"
	"golang.org/x/crypto/chacha20poly1305"
)

// The guards of a handshake packet, as WireGuard has them (https://www.wireguard.com/papers/wireguard.pdf sections 5.3 and 5.4.4). Both are the
// last 32 bytes of an INIT packet:
//
//	mac1 = BLAKE2s-128(key = BLAKE2s-256("esp/1 mac1" ‖ responder's public key), all bytes before mac1)
//	mac2 = BLAKE2s-128(key = cookie, all bytes before mac2), zero where the sender holds no cookie
//
// mac1 shows that the sender knows the responder's key, at the price of one hash: a scanner gets no answer. A dialer that does not know the
// key uses 32 zero bytes in its place. mac2 is asked for under load, and shows that the sender receives at its address.
const (
	macSize    = 16
	macsSize   = 2 * macSize
	cookieSize = 16
	// cookieLife is how long a cookie is good for; the secret behind it changes that often, and the last one stays valid.
	cookieLife = 120 * time.Second
)

func mac1Key(responder PublicKey) [32]byte {
	return blake2s.Sum256(append([]byte("esp/1 mac1"), responder[:]...))
}

func cookieKey(responder PublicKey) [32]byte {
	return blake2s.Sum256(append([]byte("esp/1 cookie"), responder[:]...))
}

func mac(key, msg []byte) (sum [macSize]byte) {
	h, err := blake2s.New128(key)
	if err != nil {
		panic("esp: " + err.Error()) // only for keys over 32 bytes
	}
	h.Write(msg)
	h.Sum(sum[:0])
	return sum
}

// setMacs fills the last macsSize bytes of an INIT packet. cookie is nil where there is none.
func setMacs(packet []byte, responder PublicKey, cookie []byte) {
	end1 := len(packet) - macsSize
	key := mac1Key(responder)
	m1 := mac(key[:], packet[:end1])
	copy(packet[end1:], m1[:])
	end2 := end1 + macSize
	clear(packet[end2:])
	if cookie != nil {
		m2 := mac(cookie, packet[:end2])
		copy(packet[end2:], m2[:])
	}
}

// checkMac1 reports whether the sender of an INIT packet knew the responder's key.
func checkMac1(packet []byte, key *[32]byte) bool {
	if len(packet) < macsSize {
		return false
	}
	end := len(packet) - macsSize
	want := mac(key[:], packet[:end])
	return subtle.ConstantTimeCompare(want[:], packet[end:end+macSize]) == 1
}

// cookieJar makes and checks cookies. It is safe for concurrent use.
type cookieJar struct {
	rand io.Reader

	mu      sync.Mutex
	secrets [2][32]byte // the current and the last one
	born    time.Time   // of secrets[0]; zero before the first use
	older   bool        // secrets[1] is set
}

// rotate replaces a secret that is too old. mu is held.
func (j *cookieJar) rotate(now time.Time) {
	age := now.Sub(j.born)
	if !j.born.IsZero() && age < cookieLife {
		return
	}
	j.older = !j.born.IsZero() && age < 2*cookieLife
	j.secrets[1] = j.secrets[0]
	if _, err := io.ReadFull(j.rand, j.secrets[0][:]); err != nil {
		panic("esp: no randomness: " + err.Error())
	}
	j.born = now
}

func cookieFor(secret *[32]byte, from netip.AddrPort) [cookieSize]byte {
	ip := from.Addr().As16()
	return mac(secret[:], binary.BigEndian.AppendUint16(ip[:], from.Port()))
}

// make returns the cookie of an address.
func (j *cookieJar) make(now time.Time, from netip.AddrPort) [cookieSize]byte {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.rotate(now)
	return cookieFor(&j.secrets[0], from)
}

// check reports whether mac2 of an INIT packet was made with a cookie that belongs to the address.
func (j *cookieJar) check(now time.Time, from netip.AddrPort, packet []byte) bool {
	if len(packet) < macsSize {
		return false
	}
	end := len(packet) - macSize
	j.mu.Lock()
	defer j.mu.Unlock()
	j.rotate(now)
	for i := range j.secrets {
		if i == 1 && !j.older {
			break
		}
		c := cookieFor(&j.secrets[i], from)
		want := mac(c[:], packet[:end])
		if subtle.ConstantTimeCompare(want[:], packet[end:]) == 1 {
			return true
		}
	}
	return false
}

// sealCookie encrypts a cookie for the sender of an INIT packet, which proves with mac1 (the associated data) that it asked:
// XChaCha20-Poly1305 under BLAKE2s-256("esp/1 cookie" ‖ responder's key).
func sealCookie(dst []byte, responder PublicKey, nonce *[24]byte, cookie [cookieSize]byte, mac1 []byte) []byte {
	key := cookieKey(responder)
	a, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		panic("esp: " + err.Error())
	}
	return a.Seal(dst, nonce[:], cookie[:], mac1)
}

// openCookie is the inverse. It returns nil for a forged one.
func openCookie(sealed []byte, responder PublicKey, nonce []byte, mac1 []byte) []byte {
	key := cookieKey(responder)
	a, err := chacha20poly1305.NewX(key[:])
	if err != nil || len(nonce) != a.NonceSize() {
		return nil
	}
	c, err := a.Open(nil, nonce, sealed, mac1)
	if err != nil || len(c) != cookieSize {
		return nil
	}
	return c
}
