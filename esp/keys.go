package esp

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
)

// Key schedule. The Noise handshake ends with a secret for each direction. For each direction, and in each epoch e of
// it:
//
//	S₀    = HKDF-Extract(salt = handshake hash, ikm = Noise key of this direction)
//	key   = HKDF-Expand(Sₑ, "esp/1 key", 32)
//	iv    = HKDF-Expand(Sₑ, "esp/1 iv", 12)
//	Sₑ₊₁  = HKDF-Expand(Sₑ, "esp/1 next", 32)                     ratchet: the past stays closed when a later key leaks
//	Sₑ₊₁  = HKDF-Extract(salt = the above, ikm = X25519 result)   where KEYEX named epoch e+1: the future is closed again
//	nonce = iv XOR (path id u32 ‖ packet number u64)
//
// A sender moves to the next epoch on its own, after maxEpochPackets packets or maxEpochAge, once the peer has
// acknowledged a packet of the current one. A receiver keeps the keys of the last, the current and the next epoch
// ready; the first packet that opens under the next moves it.
const (
	maxEpochPackets = 1 << 22 // far below the 2^23 limit of AES-GCM in RFC 9001 section 6.6 and B.1
	maxEpochAge     = 2 * time.Minute
	dhInterval      = time.Hour
	maxPathID       = 1<<32 - 1
)

// suite names an AEAD in the handshake.
type suite uint8

const (
	suiteAESGCM   suite = 1 // AES-256-GCM
	suiteChaCha20 suite = 2 // ChaCha20-Poly1305
)

func (s suite) String() string {
	switch s {
	case suiteAESGCM:
		return "AES-256-GCM"
	case suiteChaCha20:
		return "ChaCha20-Poly1305"
	}
	return "unknown suite"
}

func (s suite) aead(key []byte) cipher.AEAD {
	if s == suiteChaCha20 {
		a, err := chacha20poly1305.New(key)
		if err != nil {
			panic("esp: " + err.Error())
		}
		return a
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		panic("esp: " + err.Error())
	}
	a, err := cipher.NewGCM(block)
	if err != nil {
		panic("esp: " + err.Error())
	}
	return a
}

const secretSize = sha256.Size

// secret is Sₑ of one direction.
type secret [secretSize]byte

func expand(s secret, label string, n int) []byte {
	out, err := hkdf.Expand(sha256.New, s[:], label, n)
	if err != nil {
		panic("esp: " + err.Error()) // only for n > 255 hashes
	}
	return out
}

func extract(salt, ikm []byte) secret {
	out, err := hkdf.Extract(sha256.New, ikm, salt)
	if err != nil {
		panic("esp: " + err.Error())
	}
	return secret(out)
}

// next is the secret of the epoch after s. dh is the X25519 result to mix in, or nil.
func (s secret) next(dh []byte) secret {
	n := secret(expand(s, "esp/1 next", secretSize))
	if dh != nil {
		n = extract(n[:], dh)
	}
	return n
}

// epochKey seals or opens the packets of one epoch in one direction. It is immutable and safe for concurrent use.
type epochKey struct {
	epoch uint64
	aead  cipher.AEAD
	iv    [12]byte
}

func newEpochKey(su suite, s secret, epoch uint64) *epochKey {
	k := &epochKey{epoch: epoch, aead: su.aead(expand(s, "esp/1 key", 32))}
	copy(k.iv[:], expand(s, "esp/1 iv", 12))
	return k
}

func (k *epochKey) nonce(n *nonceBuf, path uint32, pn uint64) {
	binary.BigEndian.PutUint32(n[:], binary.BigEndian.Uint32(k.iv[:])^path)
	binary.BigEndian.PutUint64(n[4:], binary.BigEndian.Uint64(k.iv[4:])^pn)
}

// nonceBuf is room for a nonce. It is handed to seal and open by their callers, since one of their own would escape
// to the heap.
type nonceBuf [12]byte

// seal encrypts packet[hdr:] in place, with the header as associated data; its capacity must leave tagSize bytes.
func (k *epochKey) seal(n *nonceBuf, packet []byte, hdr int, path uint32, pn uint64) []byte {
	k.nonce(n, path, pn)
	return k.aead.Seal(packet[:hdr], n[:], packet[hdr:], packet[:hdr])
}

// sealFrom encrypts plain into packet[hdr:], with the header as associated data.
func (k *epochKey) sealFrom(n *nonceBuf, packet []byte, hdr int, plain []byte, path uint32, pn uint64) {
	k.nonce(n, path, pn)
	k.aead.Seal(packet[:hdr], n[:], plain, packet[:hdr])
}

// open decrypts packet[hdr:] in place and returns the frames.
func (k *epochKey) open(n *nonceBuf, packet []byte, hdr int, path uint32, pn uint64) ([]byte, error) {
	k.nonce(n, path, pn)
	return k.aead.Open(packet[hdr:hdr], n[:], packet[hdr:], packet[:hdr])
}

// sendKeys is the sending half of the schedule. The session's lock guards it; the *epochKey it hands out may be used
// without.
type sendKeys struct {
	suite   suite
	secret  secret // of the current epoch
	cur     *epochKey
	packets uint64        // sealed in this epoch
	since   time.Duration // when this epoch began
	acked   bool          // the peer has acknowledged a packet of this epoch
	dh      []byte        // to be mixed into epoch dhEpoch
	dhEpoch uint64

	advanceSoon bool // a key exchange is done: use it without waiting for the limits
}

func newSendKeys(su suite, s secret) sendKeys {
	return sendKeys{suite: su, secret: s, cur: newEpochKey(su, s, 0)}
}

// due reports whether the sender should move on to the next epoch, and may.
func (k *sendKeys) due(now time.Duration) bool {
	return k.acked && (k.advanceSoon || k.packets >= maxEpochPackets || now-k.since >= maxEpochAge)
}

// advance moves to the next epoch.
func (k *sendKeys) advance(now time.Duration) {
	var dh []byte
	next := k.cur.epoch + 1
	if k.dh != nil && k.dhEpoch == next {
		dh, k.dh = k.dh, nil
	}
	k.secret = k.secret.next(dh)
	k.cur = newEpochKey(k.suite, k.secret, next)
	k.packets, k.since, k.acked, k.advanceSoon = 0, now, false, false
}

// recvKeys is the receiving half: an immutable set of keys that readers share without a lock. advance makes the
// successor.
type recvKeys struct {
	suite  suite
	secret secret // of cur
	last   *epochKey
	cur    *epochKey
	next   *epochKey
}

func newRecvKeys(su suite, s secret) *recvKeys {
	return &recvKeys{suite: su, secret: s, cur: newEpochKey(su, s, 0), next: newEpochKey(su, s.next(nil), 1)}
}

// pick returns the key for a packet that shows the epoch modulo 4, nil when none fits.
func (k *recvKeys) pick(epoch byte) *epochKey {
	switch epoch {
	case byte(k.cur.epoch) & epochMask:
		return k.cur
	case byte(k.cur.epoch+1) & epochMask:
		return k.next
	case byte(k.cur.epoch-1) & epochMask:
		return k.last
	}
	return nil
}

// mix returns a copy whose next epoch has the X25519 result dh mixed in.
func (k *recvKeys) mix(dh []byte) *recvKeys {
	c := *k
	c.next = newEpochKey(k.suite, k.secret.next(dh), k.cur.epoch+1)
	return &c
}

// advance returns the set for the epoch after cur. dh must be what was given to mix, or nil.
func (k *recvKeys) advance(dh []byte) *recvKeys {
	s := k.secret.next(dh)
	return &recvKeys{
		suite: k.suite, secret: s,
		last: k.cur, cur: k.next,
		next: newEpochKey(k.suite, s.next(nil), k.cur.epoch+2),
	}
}
