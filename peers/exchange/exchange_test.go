package exchange

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"sharefs"
	"sharefs/peers/record"
	"sharefs/peers/trust"
)

var appendUvarint = binary.AppendUvarint

// noise returns bytes that do not compress.
func noise(seed uint64, n int) []byte {
	var key [32]byte
	binary.BigEndian.PutUint64(key[:], seed)
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(b)
	return b
}

// What was there before two hosts met, and what comes after, is on both.
func TestTwoHosts(t *testing.T) {
	leakCheck(t)
	a, b := newHost(t, "anna"), newHost(t, "bert")
	early := a.write("one", "two", "three")
	theirs := b.write("four")
	pair(t, a, b, trust.Write, trust.Write)
	b.has(early...)
	a.has(theirs...)
	late := a.write("five")
	b.has(late...)
	more := b.write("six", "seven")
	a.has(more...)
	for i, r := range append(early, late...) {
		want := []string{"one", "two", "three", "five"}[i]
		if got, err := b.fetchAgain(r, idsOf(r)...); err != nil || string(got) != want {
			t.Errorf("%q, %v", got, err)
		}
	}
	wait(t, "all acknowledged", func() bool {
		st, o := a.with(b), b.with(a)
		return st.Acked == a.Last(sharefs.PeerID{}) && o.Acked == b.Last(sharefs.PeerID{}) && st.Sends && st.Receives && st.Error == ""
	})
	if n := a.count(); n != 7 || b.count() != 7 {
		t.Errorf("%d and %d records", n, b.count())
	}
	if st := b.with(a); st.In.Chunks != 4 || st.In.Bytes != 15 || st.RTT <= 0 {
		t.Errorf("%+v", st)
	}
	if st := a.with(b); st.Out.Chunks != 4 || st.Out.Missing != 0 {
		t.Errorf("%+v", st)
	}
}

// A large version whose manifest has nodes comes whole, and what comes is what was sent.
func TestALargeVersion(t *testing.T) {
	leakCheck(t)
	a, b := newHost(t, "anna"), newHost(t, "bert")
	var want []byte
	var parts [][]byte
	for i := range 700 {
		part := noise(uint64(i), 1000+i)
		want = append(want, part...)
		parts = append(parts, part)
	}
	r, ids := a.version(t, parts...)
	a.author(t, r)
	pair(t, a, b, trust.Read, trust.Write)
	b.has(r)
	var got []byte
	// As Gather does: the nodes from the top down, then the chunks.
	var load func(spans []record.Span, level uint8)
	load = func(spans []record.Span, level uint8) {
		var wanted []sharefs.ChunkID
		for _, s := range spans {
			wanted = append(wanted, s.ID)
		}
		b.Want(r, wanted...)
		for _, s := range spans {
			data, err := b.again(func() ([]byte, error) { return b.Get(t.Context(), r, s.ID) })
			if err != nil {
				t.Fatal(err)
			}
			if level == 0 {
				got = append(got, data...)
				continue
			}
			below, err := record.DecodeNode(data, s.Len)
			if err != nil {
				t.Fatal(err)
			}
			load(below, level-1)
		}
	}
	v := r.Body.(*record.Version)
	load(v.Spans, v.Level)
	b.Drop(r.ID())
	if !bytes.Equal(got, want) || len(ids) != 703 {
		t.Errorf("%d bytes, not %d; %d ids", len(got), len(want), len(ids))
	}
	b.fetchIdle(t)
}

// fetchIdle makes sure that nothing is left of what was wanted.
func (h *host) fetchIdle(t *testing.T) {
	t.Helper()
	f := h.Exchange.fetch
	wait(t, "nothing under way", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.inFlight == 0
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.wants)+len(f.of)+f.held != 0 {
		t.Errorf("%d wants of %d versions and %d bytes are left", len(f.wants), len(f.of), f.held)
	}
	for s := range f.sources {
		if s.asks+s.inFlight+s.own+len(s.tail)+len(s.pending) != 0 {
			t.Errorf("%d asks, %d bytes, %d own, %d in the tail, %d pending", s.asks, s.inFlight, s.own, len(s.tail), len(s.pending))
		}
	}
}

// Three hosts in a row: what the one in the middle takes goes on, records and content.
func TestThreeInARow(t *testing.T) {
	leakCheck(t)
	a, b, c := newHost(t, "anna"), newHost(t, "bert"), newHost(t, "cleo")
	pair(t, a, b, trust.Write, trust.Write)
	pair(t, b, c, trust.Write, trust.Write)
	list := a.write("hello")
	c.has(list...)
	id := idsOf(list[0])[0]
	told := c.told()
	if _, err := c.fetch(list[0], id); !isKind(err, sharefs.KindUnreachable) {
		t.Errorf("nobody has it: %v", err)
	}
	data, err := b.fetchAgain(list[0], id)
	if err != nil {
		t.Fatal(err)
	}
	b.keep(data)
	b.Complete(list[0].ID())
	wait(t, "cleo is told", func() bool { return c.told() > told })
	if data, err = c.fetchAgain(list[0], id); err != nil || string(data) != "hello" {
		t.Errorf("%q, %v", data, err)
	}
	back := c.write("back")
	a.has(back...)
}

// In a ring of three everything comes to everybody, and the talk ends.
func TestThreeInARing(t *testing.T) {
	leakCheck(t)
	hosts := []*host{newHost(t, "anna"), newHost(t, "bert"), newHost(t, "cleo")}
	for i := range hosts {
		pair(t, hosts[i], hosts[(i+1)%3], trust.Write, trust.Write)
	}
	var all []*record.Record
	for round := range 20 {
		for i, h := range hosts {
			all = append(all, h.write(fmt.Sprint(round, i))...)
		}
	}
	for _, h := range hosts {
		h.has(all...)
	}
	wait(t, "all acknowledged", func() bool {
		for i, h := range hosts {
			for j, o := range hosts {
				if i != j && h.with(o).Acked != h.Last(sharefs.PeerID{}) {
					return false
				}
			}
		}
		return true
	})
}
