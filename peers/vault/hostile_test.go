package vault

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sharefs"
	"sharefs/peers/frame"
	"sharefs/versions/tier"
)

// talk opens a stream at a keeper as a giver who writes what he likes.
func talk(t *testing.T, k *keeper) net.Conn {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		c, err := k.session(anna).Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		_ = c.SetDeadline(end)
		var o opened
		if err := errors.Join(frame.Write(c, opening{Purpose: Purpose}), frame.Read(c, &o)); err != nil {
			t.Fatal(err)
		}
		if o.Error == nil {
			return c
		}
		c.Close() // streams that have ended here are not all ended there
	}
}

// What no giver of ours would send is refused by name, or ends the stream; what is kept stays as it is, and no file is made anywhere else.
func TestHostileGiver(t *testing.T) {
	dir := t.TempDir()
	k := newKeeper(t, filepath.Join(dir, "vaults"))
	b := bucket(t, k.session(anna))
	put(t, b, "root", "the root")
	before := files(t, dir)
	sum := sha256.Sum256([]byte("x"))
	for _, key := range []string{"", ".", "..", "../../x", "a/../b", "/etc/passwd", "a//b", "a/", "a\x00b", "a\nb", "\xff\xfe", strings.Repeat("k", maxKey+1)} {
		c := talk(t, k)
		var r reply
		err := frame.Write(c, request{Op: opPut, Key: key, Size: 1, Sum: sum[:]})
		if err == nil {
			err = frame.Read(c, &r)
		}
		c.Close()
		if err == nil && r.Error == nil && key == "\xff\xfe" { // JSON has made a sign of it that says that it is none
			continue
		}
		if err != nil || r.Error == nil || sharefs.Kind(r.Error.Kind) != sharefs.KindInvalid {
			t.Errorf("%q: %+v, %v", key, r, err)
		}
	}
	for _, q := range []request{
		{Op: opPut, Key: "a", Size: -1, Sum: sum[:]}, {Op: opPut, Key: "a", Size: 1 << 62, Sum: sum[:]}, {Op: opPut, Key: "a", Size: 1}, {Op: opPut, Key: "a", Size: 1, Sum: make([]byte, 33)},
		{Op: opPut, Key: "a", Size: 1 << 31, Sum: sum[:]}, {Op: opRead, Key: "root", Off: -1, Len: 5}, {Op: opRead, Key: "root", Off: 1 << 62, Len: 5}, {Op: opRead, Key: "root", Len: -5}, {Op: opRead, Key: "../root", Len: 5},
		{Op: opProve, Key: "root"}, {Op: opProve, Key: "root", Nonce: make([]byte, 16), Ranges: [][2]int64{{-1, 2}}}, {Op: opProve, Key: "root", Nonce: make([]byte, 16), Ranges: [][2]int64{{1 << 62, 1 << 62}}},
		{Op: opProve, Key: "root", Nonce: make([]byte, 16), Ranges: make([][2]int64, 17)}, {Op: opProve, Key: "root", Nonce: make([]byte, 16), Ranges: [][2]int64{{4, 5}}},
	} {
		c := talk(t, k)
		var r reply
		if err := errors.Join(frame.Write(c, q), frame.Read(c, &r)); err != nil || r.Error == nil {
			t.Errorf("%+v: %+v, %v", q, r, err)
		}
		c.Close()
	}
	c := talk(t, k) // other bytes than were said
	var r reply
	err := errors.Join(frame.Write(c, request{Op: opPut, Key: "root", Size: 1, Sum: sum[:]}), frame.Read(c, &r))
	if _, err2 := c.Write([]byte("y")); err != nil || err2 != nil || r.Error != nil {
		t.Fatal(err, err2, r.Error)
	}
	if err := frame.Read(c, &r); err != nil || r.Error == nil || sharefs.Kind(r.Error.Kind) != sharefs.KindInvalid {
		t.Errorf("%+v, %v", r, err)
	}
	for _, junk := range [][]byte{[]byte("\xff\xff\xff\xff"), []byte("\x00\x00\x00\x04null"), []byte("\x00\x00\x00\x02{}"), append(binary.BigEndian.AppendUint32(nil, 11), `{"op":"rm"}`...), []byte("\x00\x00\x00\x05{\"op\"")} {
		c := talk(t, k)
		if _, err := c.Write(junk); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(make([]byte, 1)); err == nil {
			t.Errorf("%q was answered with %d bytes", junk, n)
		}
	}
	if got := content(t, b); len(got) != 1 || got["root"] != "the root" {
		t.Errorf("%v", got)
	}
	k.server.Close() // all that was under way has ended
	if after := files(t, dir); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("%q, before %q", after, before)
	}
}

// More streams than one may have are refused, and others have theirs.
func TestFloodOfStreams(t *testing.T) {
	k := newKeeper(t, t.TempDir())
	for range streamsOf {
		talk(t, k)
	}
	c, err := k.session(anna).Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var o opened
	if err := errors.Join(frame.Write(c, opening{Purpose: Purpose}), frame.Read(c, &o)); err != nil || o.Error == nil || sharefs.Kind(o.Error.Kind) != sharefs.KindBusy {
		t.Errorf("%+v, %v", o, err)
	}
	k.quotas.Store(carl, uint64(1<<20))
	put(t, bucket(t, k.session(carl)), "root", "of carl")
}

// Who asks and reads no answers holds up nobody else, on as many streams as it may have.
func TestNoAnswerRead(t *testing.T) {
	k := newKeeper(t, t.TempDir())
	other := sharefs.PeerID{5}
	for _, id := range []sharefs.PeerID{carl, other} {
		k.quotas.Store(id, uint64(1<<20))
	}
	for n := range busyAll {
		c, err := k.session([]sharefs.PeerID{anna, other}[n/streamsOf]).Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		var o opened
		if err := errors.Join(frame.Write(c, opening{Purpose: Purpose}), frame.Read(c, &o), frame.Write(c, request{Op: []string{opList, opRead}[n%2], Key: "none"})); err != nil || o.Error != nil {
			t.Fatal(err, o.Error)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), giveUp*3/4)
	defer cancel()
	if _, err := bucket(t, k.session(carl)).Put(ctx, "root", strings.NewReader("of carl"), 7, tier.Condition{}); err != nil {
		t.Error(err)
	}
}

// A long list comes in pages.
func TestLongList(t *testing.T) {
	k := newKeeper(t, t.TempDir())
	v, err := k.store.of(anna, true)
	if err != nil {
		t.Fatal(err)
	}
	v.mu.Lock()
	for n := range 5000 {
		v.objects[fmt.Sprintf("packs/%04d/%s", n, strings.Repeat("k", 200))] = &object{size: int64(n)}
	}
	v.mu.Unlock()
	n := int64(0)
	err = bucket(t, k.session(anna)).List(t.Context(), "packs/", "", func(i tier.Info) bool {
		if i.Size != n {
			t.Fatalf("%+v at %d", i, n)
		}
		n++
		return true
	})
	if err != nil || n != 5000 {
		t.Errorf("%d, %v", n, err)
	}
}

// scripted answers requests as it is told.
func scripted(answer func(c net.Conn, r *request) bool) *session {
	return &session{serve: func(c net.Conn, _ json.RawMessage) {
		defer c.Close()
		if frame.Write(c, opened{}) != nil {
			return
		}
		for {
			var r request
			if frame.Read(c, &r) != nil || !answer(c, &r) {
				return
			}
		}
	}}
}

// A keeper that answers what cannot be is found out: no wrong byte is taken for right, nothing waits for ever, and what it says is made fit for a terminal.
func TestHostileKeeper(t *testing.T) {
	say := func(v reply, bytes string) func(net.Conn, *request) bool {
		return func(c net.Conn, _ *request) bool {
			if frame.Write(c, v) != nil {
				return false
			}
			if bytes == "" {
				return true // a pipe would wait for somebody who reads nothing
			}
			_, err := io.WriteString(c, bytes)
			return err == nil
		}
	}
	read := func(b *Bucket) error {
		n, _, err := b.ReadAt(t.Context(), "a", make([]byte, 10), 0)
		if err == nil {
			err = fmt.Errorf("read %d", n)
		}
		return err
	}
	list := func(b *Bucket) error {
		return b.List(t.Context(), "packs/", "", func(tier.Info) bool { return true })
	}
	puts := func(b *Bucket) error {
		_, err := b.Put(t.Context(), "a", strings.NewReader("sealed"), 6, tier.Condition{})
		return err
	}
	for name, c := range map[string]struct {
		answer func(net.Conn, *request) bool
		do     func(*Bucket) error
		want   sharefs.Kind
	}{
		"more bytes than asked for":  {say(reply{N: 11, Size: 100}, "01234567890"), read, sharefs.KindCorrupt},
		"fewer than there are":       {say(reply{N: 5, Size: 100}, "01234"), read, sharefs.KindCorrupt},
		"a length below nothing":     {say(reply{N: -1, Size: -1}, ""), read, sharefs.KindCorrupt},
		"beyond all measure":         {say(reply{N: 10, Size: 1 << 62}, "0123456789"), read, sharefs.KindCorrupt},
		"an end in the midst":        {func(c net.Conn, r *request) bool { say(reply{N: 10, Size: 10}, "012")(c, r); return false }, read, sharefs.KindUnreachable},
		"no JSON":                    {func(c net.Conn, _ *request) bool { c.Write([]byte("\x00\x00\x00\x02xx")); return false }, read, sharefs.KindCorrupt},
		"a message without end":      {func(c net.Conn, _ *request) bool { c.Write([]byte("\xff\xff\xff\xff")); return false }, read, sharefs.KindCorrupt},
		"silence, then the end":      {func(net.Conn, *request) bool { return false }, read, sharefs.KindUnreachable},
		"an order that is none":      {say(reply{Objects: []entry{{"packs/b", 1, "x"}, {"packs/a", 1, "x"}}}, ""), list, sharefs.KindCorrupt},
		"the same again and again":   {say(reply{Objects: []entry{{"packs/b", 1, "x"}}, More: true}, ""), list, sharefs.KindCorrupt},
		"what was not asked for":     {say(reply{Objects: []entry{{"root", 1, "x"}}}, ""), list, sharefs.KindCorrupt},
		"a path in a list":           {say(reply{Objects: []entry{{"packs/../../x", 1, "x"}}}, ""), list, sharefs.KindCorrupt},
		"a size below nothing":       {say(reply{Objects: []entry{{"packs/b", -1, "x"}}}, ""), list, sharefs.KindCorrupt},
		"a kind that is none":        {say(reply{Error: &fault{Kind: 200, Text: "\x1b[31mred"}}, ""), list, sharefs.KindOther},
		"a kind that says too much":  {say(reply{Error: &fault{Kind: uint8(sharefs.KindCorrupt), Text: strings.Repeat("x", 1000)}}, ""), list, sharefs.KindOther},
		"yes without having read it": {say(reply{}, ""), puts, sharefs.KindUnreachable},
		"another object than given": {func(c net.Conn, r *request) bool {
			if frame.Write(c, reply{}) != nil {
				return false
			}
			_, err := io.CopyN(io.Discard, c, r.Size)
			return err == nil && frame.Write(c, reply{Tag: "something else"}) == nil
		}, puts, sharefs.KindCorrupt},
	} {
		s := scripted(c.answer)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		err := func() error {
			b := bucket(t, s)
			if name == "yes without having read it" { // it says nothing more
				s = scripted(func(c net.Conn, r *request) bool {
					ok := frame.Write(c, reply{}) == nil
					_, _ = io.CopyN(io.Discard, c, 3)
					return ok && false
				})
				b = bucket(t, s)
			}
			return c.do(b)
		}()
		cancel()
		if err == nil || sharefs.KindOf(err) != c.want || ctx.Err() == context.DeadlineExceeded || strings.Contains(err.Error(), "\x1b") || len(err.Error()) > 1000 {
			t.Errorf("%s: kind %v, %v", name, sharefs.KindOf(err), err)
		}
	}
}

// A keeper that has nothing cannot answer a challenge by what it heard before, nor by the hash of the object.
func TestProofsAreNew(t *testing.T) {
	body := []byte(strings.Repeat("sealed content ", 1000))
	var last []byte
	lies := 0
	b := bucket(t, scripted(func(c net.Conn, r *request) bool {
		lies++
		proof := last
		if lies == 1 { // it has the object at the first time
			proof, _ = proofOf(r.Nonce, r.Key, r.Ranges, bytes.NewReader(body))
			last = proof
		}
		return frame.Write(c, reply{Proof: proof}) == nil
	}))
	file := tier.Info{Key: "packs/1", Size: int64(len(body))}
	for n, want := range []bool{true, false, false} {
		if ok, _, err := b.challenge(t.Context(), file, bytes.NewReader(body)); ok != want || err != nil {
			t.Errorf("challenge %d: %v, %v", n, ok, err)
		}
	}
}

func FuzzObject(f *testing.F) {
	o := &object{size: 5, written: time.Unix(0, 1), sum: sha256.Sum256([]byte("12345"))}
	f.Add(append([]byte("12345"), encodeEnd("packs/1", o)...))
	f.Add([]byte{})
	f.Add(make([]byte, footerLen))
	f.Fuzz(func(t *testing.T, b []byte) {
		key, o, err := decodeEnd(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		if got := encodeEnd(key, &o); !bytes.Equal(got[:len(got)-16], b[o.size:len(b)-16]) {
			t.Errorf("%x reads as %q, %+v", b, key, o)
		}
	})
}

// The footer is pinned, byte by byte.
func TestObjectFormat(t *testing.T) {
	o := &object{size: 5, written: time.Unix(0, 0x0102030405060708), sum: [32]byte{0xaa, 0xbb}}
	const want = "packs/1" + "sharefsV" + "\x00\x01" + "\x00\x07" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00\x00\x00\x00\x05" + "\x01\x02\x03\x04\x05\x06\x07\x08" + "\xaa\xbb"
	got := encodeEnd("packs/1", o)
	if !strings.HasPrefix(string(got), want) || len(got) != 7+footerLen {
		t.Errorf("%q", got)
	}
	if dir := os.TempDir(); nameOf("a") != filepath.Join("ca", "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb") {
		t.Error(dir, nameOf("a"))
	}
}
