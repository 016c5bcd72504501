package record

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"sharefs"
	"sharefs/integration/race"
)

// The keys of the tests: seeds of one repeated byte.
func testKey(n byte) (ed25519.PrivateKey, sharefs.PeerID) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
	return key, sharefs.PeerID(key.Public().(ed25519.PublicKey))
}

func fid(n byte) sharefs.FileID { return sharefs.FileID(bytes.Repeat([]byte{n}, 16)) }
func kid(n byte) sharefs.KeyID  { return sharefs.KeyID(bytes.Repeat([]byte{n}, 16)) }
func rid(n byte) ID             { return ID(bytes.Repeat([]byte{n}, 32)) }
func cid(n byte) sharefs.ChunkID {
	return sharefs.ChunkID(bytes.Repeat([]byte{n}, 32))
}

var testShare = ShareID(bytes.Repeat([]byte{0x5a}, 16))

func made(t testing.TB, body Body) *Record {
	t.Helper()
	key, author := testKey(1)
	r, err := New(testShare, author, 0x0102030405060708, body)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Sign(key); err != nil {
		t.Fatal(err)
	}
	return r
}

// header in hex: format, share, author (the public key of a seed of 0x01 bytes), hlc.
const wireHeader = "01" + "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a" + "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c" + "0102030405060708"

// otherAuthor is the public key of a seed of 0x02 bytes.
const otherAuthor = "8139770ea87d175f56a35466c34c7ecccb8d8a91b4ee37a25df60f5b8fc9b394"

// The id and signature of the first of bodies, and the hash of the first batch of TestBatchesOnTheWire, computed from the description of the format with other
// programs (Python's hashlib). Whoever changes them breaks every share there is.
const (
	wireID        = "735e3d014146a4ed0518c9fe13c609a4d9f0c18b7ef7287200073872d0f7070e"
	wireSignature = "70148eed9cbdd301471ec473abe1e7206cd1f55fc3df118224d7a19a9dff3b8aff0718ce8f8c90b2bd0c5787ac1f2ed22b8cba46bfd68f1e16db2e2ba8520e0b"
	wireHash      = "549b1ef5db7b036b3056182af1e9154f33987f8afec887b9ffc49b99de87324a"
)

func rep(hex string, n int) string { return strings.Repeat(hex, n) }

// told is what the author of key 2 said.
func told() *Told {
	_, other := testKey(2)
	r, err := New(testShare, other, 7, &Attr{File: fid(2), Mode: 0o644})
	if err != nil {
		panic(err)
	}
	return &Told{r}
}

// bodies pins the encoding of each kind of body: the kind, then the rest.
var bodies = []struct {
	name string
	body Body
	hex  string
}{
	{"place a directory", &Place{File: fid(1), Type: Directory, Name: "src"}, "01" + rep("01", 16) + rep("00", 8) + "01" + rep("00", 16) + "03737263"},
	{"place a further name", &Place{File: fid(2), Link: 0x1122334455667788, Type: Regular, Parent: fid(1), Name: "\xff"},
		"01" + rep("02", 16) + "1122334455667788" + "02" + rep("01", 16) + "01ff"},
	{"remove unseen", &Place{File: fid(2), Type: Regular, Parent: Nowhere}, "01" + rep("02", 16) + rep("00", 8) + "02" + rep("ff", 16) + "00" + "00"},
	{"remove", &Place{File: fid(3), Type: Symlink, Parent: Nowhere, Seen: []ID{rid(4), rid(5)}},
		"01" + rep("03", 16) + rep("00", 8) + "03" + rep("ff", 16) + "00" + "02" + rep("04", 32) + rep("05", 32)},
	{"empty version", &Version{File: fid(2), Mtime: -1}, "02" + rep("02", 16) + "00" + rep("ff", 8) + "01" + rep("00", 8) + "00" + "00"},
	{"version", &Version{File: fid(2), Parents: []ID{rid(6), rid(7)}, Mtime: 0x1234, Size: 5000, Spans: []Span{{Len: 4000, ID: cid(8)}, {Len: 1000, Hole: true}}, Key: kid(0xb)},
		"02" + rep("02", 16) + "02" + rep("06", 32) + rep("07", 32) + "0000000000001234" + "01" + "0000000000001388" + "00" + "02" + "c03e" + rep("08", 32) + "d10f" + rep("0b", 16)},
	{"hole", &Version{File: fid(2), Size: 1000, Spans: []Span{{Len: 1000, Hole: true}}},
		"02" + rep("02", 16) + "00" + rep("00", 8) + "01" + "00000000000003e8" + "00" + "01" + "d10f"},
	{"version of nodes", &Version{File: fid(2), Size: 1, Level: 2, Spans: []Span{{Len: 1, ID: cid(9)}}, Key: kid(0xc)},
		"02" + rep("02", 16) + "00" + rep("00", 8) + "01" + "0000000000000001" + "02" + "01" + "02" + rep("09", 32) + rep("0c", 16)},
	{"symlink", &Version{File: fid(3), Target: "../x"}, "02" + rep("03", 16) + "00" + rep("00", 8) + "02" + "04" + "2e2e2f78"},
	{"attr", &Attr{File: fid(2), Mode: 0o644}, "03" + rep("02", 16) + "01a4" + "00" + "00"},
	{"attr of a directory", &Attr{File: fid(0), Mode: 0o1777, HasMtime: true, Mtime: 9, Xattrs: []Xattr{{"user.a", ""}, {"user.b", "v"}}},
		"03" + rep("00", 16) + "03ff" + "01" + "0000000000000009" + "02" + "06757365722e61" + "00" + "06757365722e62" + "0176"},
	{"told", told(), "05" + rep("5a", 16) + otherAuthor + "0000000000000007" + "03" + rep("02", 16) + "01a4" + "00" + "00"},
	{"cut", &Cut{Author: sharefs.PeerID(rid(0xa)), Incarnation: 1, Number: 2, Epoch: 3}, "04" + rep("0a", 32) + "0000000000000001" + "0000000000000002" + "0000000000000003"},
}

// A time that was set counts as long as it was set behind the version that is live.
func TestMtime(t *testing.T) {
	at := func(hlc sharefs.HLC, b Body) *Record {
		r, err := New(ShareID{1}, sharefs.PeerID{1}, hlc, b)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	v := at(10, &Version{File: fid(2), Mtime: 100})
	set := func(hlc sharefs.HLC) *Record { return at(hlc, &Attr{File: fid(2), HasMtime: true, Mtime: 200}) }
	for _, c := range []struct {
		name          string
		version, attr *Record
		want          sharefs.Time
		ok            bool
	}{
		{"nothing", nil, nil, 0, false},
		{"a version", v, nil, 100, true},
		{"set before", v, set(9), 100, true},
		{"set behind", v, set(11), 200, true},
		{"permissions behind", v, at(11, &Attr{File: fid(2)}), 100, true},
		{"set, and never written to", nil, set(1), 200, true},
		{"permissions, and never written to", nil, at(1, &Attr{File: fid(2)}), 0, false},
	} {
		if got, ok := Mtime(c.version, c.attr); got != c.want || ok != c.ok {
			t.Errorf("%s: %d %v", c.name, got, ok)
		}
	}
	// At the same instant one of the two is later for all hosts.
	a := set(10)
	if got, _ := Mtime(v, a); (got == 200) != (a.Compare(v) > 0) {
		t.Errorf("at one instant: %d", got)
	}
}

func TestRecordsOnTheWire(t *testing.T) {
	for _, c := range bodies {
		r := made(t, c.body)
		raw := r.Bytes()
		if got := hex.EncodeToString(raw[:len(raw)-64]); got != wireHeader+c.hex {
			t.Errorf("%s:\n%s, want\n%s", c.name, got, wireHeader+c.hex)
		}
		back, err := Decode(raw)
		if err != nil || !reflect.DeepEqual(back, r) {
			t.Errorf("%s: %+v, %v", c.name, back, err)
			continue
		}
		if err := back.Verify(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	r := made(t, bodies[0].body)
	if got := r.ID().String(); got != wireID {
		t.Errorf("id %s, want %s", got, wireID)
	}
	if got := hex.EncodeToString(r.Bytes()[len(r.Bytes())-64:]); got != wireSignature {
		t.Errorf("signature %s", got)
	}
}

func TestOrder(t *testing.T) {
	_, a := testKey(1)
	_, b := testKey(2)
	lo, hi := Order{1, a, rid(1)}, Order{1, a, rid(2)}
	for _, c := range []struct{ before, after Order }{
		{lo, hi}, {Order{1, a, rid(9)}, Order{2, b, rid(1)}}, {Order{1, b, rid(9)}, Order{1, a, rid(1)}}, // the key of b is the lower one
	} {
		if c.before.Compare(c.after) >= 0 || c.after.Compare(c.before) <= 0 || c.before.Compare(c.before) != 0 {
			t.Errorf("%v is not before %v", c.before, c.after)
		}
	}
	for _, c := range []struct {
		now    sharefs.HLC
		before []sharefs.HLC
		want   sharefs.HLC
	}{{0x50007, nil, 0x50000}, {0x50000, []sharefs.HLC{0x40003}, 0x50000}, {0x50000, []sharefs.HLC{0x50003, 0x60000}, 0x60001}, {0, nil, 1}} {
		if got := After(c.now, c.before...); got != c.want {
			t.Errorf("after %x, %x: %x, want %x", c.now, c.before, got, c.want)
		}
	}
}

// TestRefused gives each value that must be refused, both to who authors it and to who reads it.
func TestRefused(t *testing.T) {
	long := strings.Repeat("n", 256)
	ids := make([]ID, 17)
	spans := make([]Span, 17)
	xattrs := make([]Xattr, 257)
	for i := range ids {
		ids[i] = rid(byte(i + 1))
		spans[i] = Span{Len: 1, ID: cid(1)}
	}
	for i := range xattrs {
		xattrs[i] = Xattr{Name: "user." + string(rune('a'+i/26)) + string(rune('a'+i%26))}
	}
	name := func(n string) Body { return &Place{File: fid(1), Type: Regular, Parent: fid(2), Name: n} }
	xattr := func(n string) Body { return &Attr{File: fid(1), Xattrs: []Xattr{{Name: n}}} }
	for _, c := range []struct {
		body Body
		want string
	}{
		{name(""), "empty name"}, {name("."), `the name "."`}, {name(".."), `the name ".."`}, {name("/etc/passwd"), "slash"}, {name("a/b"), "slash"},
		{name("a\x00b"), "NUL"}, {name("\x1b[2J/"), `"\x1b[2J/"`}, {name(long[:255]), ""}, {name(".share"), ""},
		{&Place{File: fid(1), Type: Directory, Name: ".share"}, "at the root"},
		{&Place{File: fid(1), Type: Regular, Name: LimboName + "0"}, "put aside"}, {name(LimboName + "0"), ""},
		{&Place{File: Root, Type: Directory, Parent: fid(2), Name: "a"}, "for the root"}, {&Place{File: Nowhere, Type: Regular, Name: "a"}, "for the root"},
		{&Place{File: fid(1), Type: 0, Name: "a"}, "type 0"}, {&Place{File: fid(1), Type: 4, Name: "a"}, "type 4, which does not travel"},
		{&Place{File: fid(1), Link: 1, Type: Directory, Name: "a"}, "second name"}, {&Place{File: fid(1), Type: Directory, Parent: fid(1), Name: "a"}, "in itself"},
		{&Place{File: fid(1), Type: Regular, Parent: Nowhere, Name: "a"}, "removal with a name"},
		{&Place{File: fid(1), Type: Regular, Parent: Nowhere, Seen: ids}, "17 ids"}, {&Place{File: fid(1), Type: Regular, Parent: Nowhere, Seen: ids[:16]}, ""},
		{&Place{File: fid(1), Type: Regular, Parent: Nowhere, Seen: []ID{rid(2), rid(1)}}, "do not rise"}, {&Place{File: fid(1), Type: Regular, Parent: Nowhere, Seen: []ID{rid(2), rid(2)}}, "do not rise"},
		{&Version{File: Root}, "of the root"}, {&Version{File: Nowhere}, "of the root"}, {&Version{File: fid(1), Parents: ids}, "17 parents"}, {&Version{File: fid(1), Parents: []ID{rid(2), rid(2)}}, "do not rise"},
		{&Version{File: fid(1), Size: 1 << 63}, "a size of"}, {&Version{File: fid(1), Size: 17, Spans: spans}, "17 spans"}, {&Version{File: fid(1), Size: 16, Spans: spans[:16], Key: kid(1)}, ""},
		{&Version{File: fid(1), Size: 16, Spans: spans[:16]}, "chunks without a key"},
		{&Version{File: fid(1), Size: 17, Spans: spans[:16]}, "lack 1 bytes"}, {&Version{File: fid(1), Size: 15, Spans: spans[:16]}, "1 bytes where 0 are left"}, {&Version{File: fid(1), Size: 1, Spans: []Span{{}}}, "0 bytes where"},
		{&Version{File: fid(1), Level: 1}, "empty manifest"}, {&Version{File: fid(1), Size: 1, Level: 17, Spans: spans[:1]}, "level 17"},
		{&Version{File: fid(1), Size: 2, Spans: []Span{{Len: 1, Hole: true}, {Len: 1, Hole: true}}}, "two holes"},
		{&Version{File: fid(1), Target: strings.Repeat("t", 4096)}, "4096 bytes"}, {&Version{File: fid(1), Target: "a\x00"}, "NUL"},
		{&Attr{File: Nowhere}, "nowhere"}, {&Attr{File: fid(1), Mode: 0o4755}, "mode 04755"}, {&Attr{File: fid(1), Mode: 0o2755}, "mode 02755"}, {&Attr{File: fid(1), Mode: 0o100644}, "mode 0100644"},
		{xattr("security.selinux"), "user.* travels"}, {xattr("trusted.x"), "user.* travels"}, {xattr("system.posix_acl_access"), "user.* travels"}, {xattr("user."), "cannot be"},
		{xattr("user.a\x00"), "cannot be"}, {xattr("user." + long[:250]), ""},
		{&Attr{File: fid(1), Xattrs: xattrs}, "257 extended"}, {&Attr{File: fid(1), Xattrs: []Xattr{{"user.b", ""}, {"user.a", ""}}}, "do not rise"}, {&Attr{File: fid(1), Xattrs: []Xattr{{"user.a", ""}, {"user.a", ""}}}, "do not rise"},
		{&Attr{File: fid(1), Xattrs: []Xattr{{"user.a", strings.Repeat("v", 65531)}}}, "65537 bytes"}, {&Attr{File: fid(1), Xattrs: []Xattr{{"user.a", strings.Repeat("v", 65530)}}}, ""},
		{&Cut{}, "cut of nobody"},
	} {
		_, author := testKey(1)
		_, err := New(testShare, author, 1, c.body)
		raw := append(unhex(t, wireHeader), c.body.Kind())
		_, err2 := Decode(append(c.body.append(raw), make([]byte, 64)...))
		for _, err := range []error{err, err2} {
			if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, sharefs.KindInvalid) || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%T: %v, want %q", c.body, err, c.want)
			}
		}
	}
	// What cannot even be encoded: a name whose length does not fit.
	if _, err := New(testShare, sharefs.PeerID{1}, 1, name(long)); err == nil || !strings.Contains(err.Error(), "256 bytes") {
		t.Error(err)
	}
	for _, v := range []*Version{{File: fid(1), Key: kid(1)}, {File: fid(1), Target: "x", Key: kid(1)}, {File: fid(1), Size: 1, Spans: []Span{{Len: 1, Hole: true}}, Key: kid(1)}} {
		if _, err := New(testShare, sharefs.PeerID{1}, 1, v); !errors.Is(err, sharefs.KindInvalid) {
			t.Errorf("%+v: %v", v, err)
		}
	}
	for _, c := range []struct {
		author sharefs.PeerID
		at     sharefs.HLC
	}{{sharefs.PeerID{}, 1}, {sharefs.PeerID{1}, 0}} {
		if _, err := New(testShare, c.author, c.at, &Attr{File: fid(1)}); err == nil {
			t.Error("a record of nobody, or of no time")
		}
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestDamagedBytesRefused gives encodings that no author makes.
func TestDamagedBytesRefused(t *testing.T) {
	sig := rep("00", 64)
	version := "02" + rep("02", 16)
	for name, c := range map[string]struct {
		hex  string
		kind sharefs.Kind
		want string
	}{
		"nothing":            {"", sharefs.KindInvalid, "too few"},
		"another format":     {"02" + wireHeader[2:] + bodies[0].hex + sig, sharefs.KindNotSupported, "format 2"},
		"another kind":       {wireHeader + "06" + sig, sharefs.KindInvalid, "kind 6"},
		"no body":            {wireHeader + "01" + sig, sharefs.KindInvalid, "ends within its file"},
		"a byte too many":    {wireHeader + bodies[0].hex + "00" + sig, sharefs.KindInvalid, "1 bytes after its end"},
		"no signature":       {wireHeader, sharefs.KindInvalid, "too few"},
		"long varint":        {wireHeader + version + "8000" + rep("00", 8) + "01" + rep("00", 10) + sig, sharefs.KindInvalid, "shortest form"},
		"endless varint":     {wireHeader + version + rep("ff", 11) + sig, sharefs.KindInvalid, "more than 64 bits"},
		"many parents":       {wireHeader + version + "ffffffff0f" + sig, sharefs.KindInvalid, "4294967295 parents"},
		"no parents there":   {wireHeader + version + "10" + sig, sharefs.KindInvalid, "ends within its parents"},
		"content":            {wireHeader + version + "00" + rep("00", 8) + "03" + sig, sharefs.KindInvalid, "content of kind 3"},
		"empty symlink":      {wireHeader + version + "00" + rep("00", 8) + "0200" + sig, sharefs.KindInvalid, "empty symlink"},
		"flag":               {wireHeader + "03" + rep("02", 16) + "01a4" + "02" + "00" + sig, sharefs.KindInvalid, "flag of 2"},
		"hole of no length":  {wireHeader + version + "00" + rep("00", 8) + "01" + rep("00", 8) + "00" + "01" + "01" + sig, sharefs.KindInvalid, "0 bytes where"},
		"value cut off":      {wireHeader + "03" + rep("02", 16) + "01a4" + "00" + "01" + "06757365722e61" + "05" + "00" + sig, sharefs.KindInvalid, "ends within"},
		"more than a record": {rep("01", MaxRecord+1), sharefs.KindInvalid, "allowed are"},
	} {
		r, err := Decode(unhex(t, c.hex))
		if r != nil || !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTold: what another author said, earlier, can be told; it is the record that it was.
func TestTold(t *testing.T) {
	_, mine := testKey(1)
	key, other := testKey(2)
	say := func(author sharefs.PeerID, at sharefs.HLC, body Body) *Record {
		r, err := New(testShare, author, at, body)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	said := say(other, 7, &Place{File: fid(1), Type: Regular, Name: "a"})
	if err := said.Sign(key); err != nil {
		t.Fatal(err)
	}
	back, err := Decode(made(t, &Told{said}).Bytes())
	if err != nil || back.Says().ID() != said.ID() || back.Says().Order() != said.Order() || said.Says() != said {
		t.Fatal(back, err)
	}
	if back.Says().Verify() == nil {
		t.Error("what is told is signed by whom it is of")
	}
	for want, inner := range map[string]*Record{
		"a removal by":        say(other, 7, &Place{File: fid(1), Type: Regular, Parent: Nowhere}),
		"kind 4 by another":   say(other, 7, &Cut{Author: other}),
		"what its own author": say(mine, 7, &Attr{File: fid(1)}),
		"said later":          say(other, 0x0102030405060708, &Attr{File: fid(1)}),
		"kind 5 by another":   say(other, 9, &Told{say(mine, 7, &Attr{File: fid(1)})}),
	} {
		if _, err := New(testShare, mine, 0x0102030405060708, &Told{inner}); !errors.Is(err, sharefs.KindInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
		raw := append(unhex(t, wireHeader), KindTold)
		if _, err := Decode(append((&Told{inner}).append(raw), make([]byte, 64)...)); !errors.Is(err, sharefs.KindInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// TestEveryBitIsSigned turns each bit of a record in turn.
func TestEveryBitIsSigned(t *testing.T) {
	race.Leave(t, race.OneHand)
	for _, c := range bodies {
		raw := made(t, c.body).Bytes()
		for bit := 0; bit < len(raw)*8; bit += 5 { // prime to 8, so that each bit of a byte has its turn
			bad := bytes.Clone(raw)
			bad[bit/8] ^= 1 << (bit % 8)
			r, err := Decode(bad)
			if err == nil && r.Verify() == nil {
				t.Fatalf("%s: bit %d may be turned", c.name, bit)
			}
		}
	}
	key, _ := testKey(2)
	r := made(t, bodies[0].body)
	if err := r.Sign(key); !errors.Is(err, sharefs.KindInvalid) || r.Verify() != nil {
		t.Error("signed with the key of another one")
	}
	_, author := testKey(1)
	unsigned, err := New(testShare, author, 1, bodies[0].body)
	if err != nil || !errors.Is(unsigned.Verify(), sharefs.KindCorrupt) {
		t.Error("what nobody signed counts")
	}
}

func TestEqualContent(t *testing.T) {
	a := &Version{File: fid(1), Size: 3, Spans: []Span{{Len: 3, ID: cid(1)}}, Mtime: 1}
	b := &Version{File: fid(2), Size: 3, Spans: []Span{{Len: 3, ID: cid(1)}}, Parents: []ID{rid(1)}}
	c := &Version{File: fid(1), Size: 3, Spans: []Span{{Len: 3, ID: cid(2)}}}
	d := &Version{File: fid(1), Target: "x"}
	if a.Content() != b.Content() || a.Content() == c.Content() || d.Content() == a.Content() || a.Type() != Regular || d.Type() != Symlink {
		t.Error("content")
	}
}

// FuzzDecode: whatever decodes has one encoding, and what was refused says why.
func FuzzDecode(f *testing.F) {
	for _, c := range bodies {
		f.Add(made(f, c.body).Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Decode(b)
		if err != nil {
			if !errors.Is(err, sharefs.KindInvalid) && !errors.Is(err, sharefs.KindNotSupported) {
				t.Fatal(err)
			}
			return
		}
		again, err := New(r.Share, r.Author, r.HLC, r.Body)
		if err != nil {
			t.Fatalf("decodes, but cannot be authored: %v", err)
		}
		if n := len(b) - 64; !bytes.Equal(again.Bytes()[:n], b[:n]) || again.ID() != r.ID() || len(again.Bytes()) != len(b) {
			t.Fatalf("%x has another encoding: %x", b, again.Bytes())
		}
		if p, ok := r.Body.(*Place); ok && !p.Removed() && strings.ContainsAny(p.Name, "/\x00") {
			t.Fatal(p.Name)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	r := made(b, bodies[5].body)
	for b.Loop() {
		again, err := Decode(r.Bytes())
		if err != nil || again.Verify() != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	r := made(b, bodies[5].body)
	b.SetBytes(int64(len(r.Bytes())))
	for b.Loop() {
		if _, err := Decode(r.Bytes()); err != nil {
			b.Fatal(err)
		}
	}
}

func be64(n uint64) string { return hex.EncodeToString(binary.BigEndian.AppendUint64(nil, n)) }

func TestNodes(t *testing.T) {
	id := sharefs.ChunkID(bytes.Repeat([]byte{0xab}, 32))
	good := []Span{{Len: 300, ID: id}, {Len: 5, Hole: true}, {Len: 1, ID: id}}
	node := append(append([]byte{0xd8, 0x04}, id[:]...), 0x0b, 0x02)
	node = append(node, id[:]...)
	if got, err := DecodeNode(node, 306); err != nil || !slices.Equal(got, good) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := DecodeNode(nil, 0); err != nil || len(got) != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	for name, c := range map[string]struct {
		node   []byte
		length uint64
	}{
		"too long":           {node, 305},
		"too short":          {node, 307},
		"nothing":            {nil, 1},
		"cut":                {node[:len(node)-1], 306},
		"a span of nothing":  {[]byte{0x01}, 0},
		"not in short form":  {[]byte{0x8b, 0x00}, 5},
		"more than 64 bits":  {bytes.Repeat([]byte{0xff}, 11), 5},
		"ends in its length": {[]byte{0x80}, 5},
	} {
		if got, err := DecodeNode(c.node, c.length); !errors.Is(err, sharefs.KindCorrupt) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func FuzzDecodeNode(f *testing.F) {
	f.Add([]byte{0x0b}, uint64(5))
	f.Add(append([]byte{0x0a}, make([]byte, 32)...), uint64(5))
	f.Fuzz(func(t *testing.T, node []byte, length uint64) {
		spans, err := DecodeNode(node, length)
		if err != nil {
			return
		}
		var again []byte
		var sum uint64
		for _, s := range spans {
			v := s.Len << 1
			if s.Hole {
				again = binary.AppendUvarint(again, v|1)
			} else {
				again = append(binary.AppendUvarint(again, v), s.ID[:]...)
			}
			sum += s.Len
		}
		if !bytes.Equal(again, node) || sum != length {
			t.Fatalf("%x became %x, %d bytes of %d", node, again, sum, length)
		}
	})
}
