package discover

import (
	"bytes"
	"encoding/hex"
	"testing"
	"time"

	"sharefs"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// keys are two X25519 pairs (RFC 7748, section 6.1).
func keys(t *testing.T) (aPriv, aPub, bPriv, bPub [32]byte) {
	t.Helper()
	for i, text := range []string{
		"77076d0a7318a57d3c16c17251b26645c6eaa2f5a9a9e0e9d8f4a2e4b0c1b1c1", "", "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb", "",
	} {
		raw, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		copy([]*[32]byte{&aPriv, &aPub, &bPriv, &bPub}[i][:], raw)
	}
	return aPriv, public(t, aPriv), bPriv, public(t, bPriv)
}

func TestBeaconsAreForPeersAlone(t *testing.T) {
	aPriv, aPub, bPriv, bPub := keys(t)
	ab, err := NewSecret(aPriv, bPub)
	if err != nil {
		t.Fatal(err)
	}
	ba, err := NewSecret(bPriv, aPub)
	if err != nil || ab != ba {
		t.Fatal("the two have different secrets")
	}
	a, b := sharefs.PeerID{1}, sharefs.PeerID{2}
	text := Encode(Known, a, 7000, 99, noon, []Secret{ab})
	if len(text) != headSize+1+padTo*tagSize {
		t.Errorf("%d bytes", len(text))
	}
	got, ok := Decode(text, noon.Add(slotLength))
	if !ok || got.Port != 7000 || got.Nonce != 99 || !got.From(a, ab) {
		t.Fatalf("%+v, %v", got, ok)
	}
	if got.From(b, ab) || got.From(a, Secret{1}) {
		t.Error("it is taken for that of another")
	}
	// Nothing in two beacons is the same but what says that they are beacons.
	other := Encode(Known, a, 7000, 100, noon.Add(slotLength), []Secret{ab})
	if bytes.Contains(text, a[:]) || bytes.Equal(text[headSize+1:], other[headSize+1:]) {
		t.Error("a beacon tells who sent it")
	}
	for name, when := range map[string]time.Time{"late": noon.Add(2 * slotLength), "early": noon.Add(-2 * slotLength)} {
		if _, ok := Decode(text, when); ok {
			t.Errorf("%s: it is heard", name)
		}
	}
	for i := range text { // a change of any byte ends it
		changed := bytes.Clone(text)
		changed[i]++
		if got, ok := Decode(changed, noon); ok && i <= headSize && got.From(a, ab) {
			t.Errorf("byte %d was changed and it still holds", i)
		}
	}
	for n := range text {
		if _, ok := Decode(text[:n], noon); ok {
			t.Errorf("%d bytes of it are heard", n)
		}
	}
	many := make([]Secret, MaxTags+10)
	if text := Encode(Known, a, 1, 1, noon, many); len(text) != MaxBeacon {
		t.Errorf("%d bytes", len(text))
	}
	p, ok := Decode(Encode(Pairing, a, 1, 5, noon, many), noon)
	if !ok || p.Kind != Pairing || p.Nonce != 5 || p.From(a, ab) {
		t.Errorf("%+v, %v", p, ok)
	}
}

func TestMeetingTags(t *testing.T) {
	s, c := Secret{1}, sharefs.PeerID{3}
	now, later := s.MeetingTags(c, noon), s.MeetingTags(c, noon.Add(time.Hour))
	if now[1] != later[0] || now[0] == now[1] || now[0] == later[1] {
		t.Error("hours do not follow each other")
	}
	other := Secret{2}
	if s.MeetingTags(sharefs.PeerID{4}, noon)[0] == now[0] || other.MeetingTags(c, noon)[0] == now[0] {
		t.Error("a tag is not for one peer and one pair alone")
	}
}

func TestKeysOfLowOrderAreRefused(t *testing.T) {
	if _, err := NewSecret([32]byte{1}, [32]byte{}); err == nil {
		t.Error("a secret that everybody knows")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(Encode(Known, sharefs.PeerID{1}, 7000, 99, noon, []Secret{{1}}))
	f.Add(Encode(Pairing, sharefs.PeerID{1}, 7000, 99, noon, nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		if b, ok := Decode(data, noon); ok {
			b.From(sharefs.PeerID{1}, Secret{1})
		}
	})
}
