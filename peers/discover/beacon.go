// Package discover finds peers whose address is not known: by beacons on the local network, and through peers that both sides know. Neither tells anybody
// else who is there.
//
// # Beacons
//
// A host says by multicast that it is there, so that only its peers understand who it is. Two hosts that are paired share a secret without
// having said so: the Diffie-Hellman of their keys. A beacon has a tag for each peer, made with that secret; everybody else sees random bytes, other ones
// in each beacon.
//
//	"SFB1"  4   kind  1   port  2   nonce  8   slot  4   n  1   n tags of 8
//
// tag = the first 8 bytes of HMAC-SHA256(secret, "sharefs beacon 1" ‖ all before n ‖ the sender's id). Slot is the time in units of five minutes;
// beacons of another time than now, one unit more or less, say nothing. Tags are shuffled and filled up with random ones to a multiple of four. The address is
// that which the packet came from. Who replays a beacon makes peers dial in vain, for they dial a key. Kind 1 has tags; kind 2, without, is sent by a
// host whose user has asked to pair on the local network.
//
// # Through a peer
//
// Hosts that miss each other give each peer that they reach a tag for the other: HMAC-SHA256(secret, "sharefs meeting 1" ‖ that peer's id ‖ hour).
// A peer that gets the same tag from two tells each where the other is. It learns that these two know each other, nothing of those that it does not reach.
package discover

import (
	"crypto/ecdh"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	mrand "math/rand/v2"
	"time"

	"sharefs"
)

// Secret is what two paired hosts share.
type Secret [32]byte

// NewSecret makes it of our private X25519 key and the peer's public one.
func NewSecret(private, public [32]byte) (s Secret, err error) {
	priv, err := ecdh.X25519().NewPrivateKey(private[:])
	if err != nil {
		return s, err
	}
	pub, err := ecdh.X25519().NewPublicKey(public[:])
	if err != nil {
		return s, err
	}
	shared, err := priv.ECDH(pub)
	if err != nil { // a point of low order
		return s, &sharefs.Error{Op: "peer key", Kind: sharefs.KindInvalid, Err: err}
	}
	return sha256.Sum256(append([]byte("sharefs pair secret 1"), shared...)), nil
}

// Kind of a beacon.
type Kind uint8

// The kinds.
const (
	Known   Kind = 1 // for peers
	Pairing Kind = 2 // for everybody
)

const (
	magic      = "SFB1"
	headSize   = 4 + 1 + 2 + 8 + 4
	tagSize    = 8
	MaxTags    = 64 // of one beacon
	padTo      = 4
	slotLength = 5 * time.Minute
	// MaxBeacon is the longest beacon, in bytes.
	MaxBeacon = headSize + 1 + MaxTags*tagSize
)

// Beacon is one that was heard.
type Beacon struct {
	Kind  Kind
	Port  uint16 // where the sender listens
	Nonce uint64

	head []byte
	tags [][tagSize]byte
}

func slot(now time.Time) uint32 { return uint32(now.Unix() / int64(slotLength/time.Second)) }

// Encode makes a beacon for peers, at most MaxTags of them.
func Encode(kind Kind, id sharefs.PeerID, port uint16, nonce uint64, now time.Time, secrets []Secret) []byte {
	b := append(make([]byte, 0, MaxBeacon), magic...)
	b = append(b, byte(kind))
	b = binary.BigEndian.AppendUint16(b, port)
	b = binary.BigEndian.AppendUint64(b, nonce)
	b = binary.BigEndian.AppendUint32(b, slot(now))
	if kind != Known {
		return append(b, 0)
	}
	tags := make([][tagSize]byte, 0, MaxTags)
	for _, s := range secrets[:min(len(secrets), MaxTags)] {
		tags = append(tags, s.tag(b, id))
	}
	for len(tags) == 0 || len(tags)%padTo != 0 {
		var t [tagSize]byte
		rand.Read(t[:])
		tags = append(tags, t)
	}
	mrand.Shuffle(len(tags), func(i, j int) { tags[i], tags[j] = tags[j], tags[i] })
	b = append(b, byte(len(tags)))
	for _, t := range tags {
		b = append(b, t[:]...)
	}
	return b
}

func (s *Secret) tag(head []byte, sender sharefs.PeerID) (t [tagSize]byte) {
	h := hmac.New(sha256.New, s[:])
	h.Write([]byte("sharefs beacon 1"))
	h.Write(head[:headSize])
	h.Write(sender[:])
	copy(t[:], h.Sum(nil))
	return t
}

// Decode reads a beacon. It reports false for anything else, and for one that is not of now.
func Decode(b []byte, now time.Time) (Beacon, bool) {
	if len(b) < headSize+1 || len(b) > MaxBeacon || string(b[:len(magic)]) != magic {
		return Beacon{}, false
	}
	n := int(b[headSize])
	at := binary.BigEndian.Uint32(b[15:])
	v := Beacon{Kind: Kind(b[4]), Port: binary.BigEndian.Uint16(b[5:]), Nonce: binary.BigEndian.Uint64(b[7:]), head: append([]byte(nil), b[:headSize]...)}
	diff := int32(at - slot(now))
	if n > MaxTags || len(b) != headSize+1+n*tagSize || v.Port == 0 || diff < -1 || diff > 1 || v.Kind != Known && v.Kind != Pairing || v.Kind == Pairing && n > 0 {
		return Beacon{}, false
	}
	for i := range n {
		v.tags = append(v.tags, [tagSize]byte(b[headSize+1+i*tagSize:]))
	}
	return v, true
}

// From reports whether the beacon was sent by a peer, for us.
func (b *Beacon) From(sender sharefs.PeerID, secret Secret) bool {
	if b.Kind != Known {
		return false
	}
	want := secret.tag(b.head, sender)
	for i := range b.tags {
		if hmac.Equal(b.tags[i][:], want[:]) {
			return true
		}
	}
	return false
}

// MeetingTag is what two hosts that miss each other both give to a peer of both.
type MeetingTag [16]byte

// MeetingTags are those of now: of this hour and the next, so that clocks need not agree to the hour.
func (s *Secret) MeetingTags(through sharefs.PeerID, now time.Time) (tags [2]MeetingTag) {
	for i := range tags {
		h := hmac.New(sha256.New, s[:])
		h.Write([]byte("sharefs meeting 1"))
		h.Write(through[:])
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(now.Unix()/3600)+uint64(i)))
		copy(tags[i][:], h.Sum(nil))
	}
	return tags
}
