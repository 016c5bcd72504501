package exchange

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"sharefs"
	"sharefs/peers/exchange/wire"
	"sharefs/peers/link"
	"sharefs/peers/pace"
	"sharefs/peers/record"
	"sharefs/peers/trust"
)

// What is granted on both sides decides what comes.
func TestLevels(t *testing.T) {
	for _, l := range trust.Levels()[trust.Paired:] {
		t.Run(l.String(), func(t *testing.T) {
			leakCheck(t)
			a, b := newHost(t, "anna"), newHost(t, "bert")
			a.ring, b.ring = []byte("a's keys"), []byte("b's keys")
			list, theirs := a.write("one"), b.write("two")
			pair(t, a, b, l, trust.Write) // anna grants it to bert, who trusts her
			r := l.Rights()
			if r.Relay {
				a.has(theirs...)
			}
			if r.Out == trust.OutPlain {
				b.has(list...)
				if data, err := b.fetchAgain(list[0], idsOf(list[0])...); err != nil || string(data) != "one" {
					t.Errorf("%q, %v", data, err)
				}
			}
			b.has(theirs...)
			wait(t, "the streams open", func() bool { return a.greets(b) && b.greets(a) })
			wait(t, "what is granted is offered", func() bool { return a.with(b).Sends == (r.Out == trust.OutPlain) && b.with(a).Sends })
			wait(t, "what counts is taken", func() bool { return a.with(b).Receives == r.Relay && b.with(a).Receives == (r.Out == trust.OutPlain) })
			wait(t, "the other side knows", func() bool { return a.with(b).Takes == (r.Out == trust.OutPlain) && b.with(a).Takes == r.Relay })
			if r.In >= trust.InQuarantine {
				wait(t, "keys there", func() bool { return a.ringOf(b) == "b's keys" })
			} else if got := a.ringOf(b); got != "" {
				t.Errorf("keys were taken: %q", got)
			}
			if r.Out < trust.OutPlain {
				if n := b.count(); n != 1 {
					t.Errorf("%d records at bert", n)
				}
				if got := b.ringOf(a); got != "" {
					t.Errorf("keys were given: %q", got)
				}
				if _, err := b.fetch(list[0], idsOf(list[0])...); !isKind(err, sharefs.KindUnreachable) {
					t.Errorf("content for who may have none: %v", err)
				}
			}
		})
	}
}

// greets reports whether the control stream to another host stands.
func (h *host) greets(o *host) bool {
	for _, p := range h.all() {
		p.mu.Lock()
		ok := p.id == o.key.ID && p.greeted
		p.mu.Unlock()
		if ok {
			return true
		}
	}
	return false
}

func (h *host) ringOf(o *host) string {
	h.memory.mu.Lock()
	defer h.memory.mu.Unlock()
	return h.rings[o.key.ID]
}

// Whichever end begins to exchange first, the other one does not wait for it to try again.
func TestOneBeginsLater(t *testing.T) {
	leakCheck(t)
	for range 3 { // either of them may have dialed
		a, b := newHost(t, "anna"), newHostBeside(t, "bert")
		list := a.write("one")
		pair(t, a, b, trust.Write, trust.Write)
		b.Over(b.hub)
		b.has(list...)
		a.has(b.write("two")...)
	}
}

// Of two sessions with a peer the one that has taken the place of the other is left, in whichever order they are told of.
func TestASessionInThePlaceOfAnother(t *testing.T) {
	leakCheck(t)
	for _, newFirst := range []bool{false, true} {
		a := newAlone(t, Limits{})
		a.set(far, trust.Read)
		before, now := newFake(true), newFake(true)
		defer before.end()
		defer now.end()
		current := func() (session, bool) { return now, true }
		a.connected(far, before)
		a.leave(far, current) // the other one is not served yet
		old := <-before.control
		if len(a.all()) != 1 {
			t.Fatal("a session is left though there is no other")
		}
		a.connected(far, now)
		a.leave(far, current)
		<-now.control
		if newFirst {
			a.leave(far, current) // by the one that was replaced
		}
		if _, err := io.Copy(io.Discard, old); err != nil && !errors.Is(err, io.ErrClosedPipe) {
			t.Error(err)
		}
		wait(t, "the new session alone", func() bool { list := a.all(); return len(list) == 1 && list[0].s == now && list[0].controlled() != nil })
	}
}

// Both ends have opened the control stream: one of them is left, and it is that of whoever dialed.
func TestTwoControlStreams(t *testing.T) {
	leakCheck(t)
	a := newAlone(t, Limits{})
	a.memory.write(t, "one")
	a.set(far, trust.Read)
	s := newFake(false)
	defer s.end()
	a.connected(far, s)
	ours := <-s.control // it opened one, although we dialed, because none came
	o := &other{t: t, a: a, id: far, s: s, got: make(chan wire.Message, 1000)}
	o.open()
	o.hello()
	until[*wire.Offer](o)
	if _, err := ours.Read(make([]byte, 1000)); err == nil {
		_, err = ours.Read(make([]byte, 1000))
		if err == nil {
			t.Error("both are left")
		}
	}
	second := o.stream((*peer).controlStream)
	if _, err := second.Read(make([]byte, 1)); err == nil {
		t.Error("another one")
	}

	b := newAlone(t, Limits{})
	b.set(far, trust.Read)
	d := newFake(true)
	defer d.end()
	b.connected(far, d)
	theirs := <-d.control
	go func() { _, _ = io.Copy(io.Discard, theirs) }()
	wait(t, "its own stream", func() bool { return len(b.all()) == 1 && b.all()[0].controlled() != nil })
	o = &other{t: t, a: b, id: far, s: d}
	if _, err := o.stream((*peer).controlStream).Read(make([]byte, 1)); err == nil {
		t.Error("another one than that of whoever dialed")
	}

	// And if that one comes a moment later.
	c := newAlone(t, Limits{})
	c.memory.write(t, "one")
	c.set(far, trust.Read)
	e := newFake(true)
	defer e.end()
	e.gate, e.asked = make(chan struct{}), make(chan struct{}, 16)
	c.connected(far, e)
	<-e.asked
	o = &other{t: t, a: c, id: far, s: e, got: make(chan wire.Message, 1000)}
	o.open()
	o.hello()
	until[*wire.Offer](o)
	close(e.gate)
	o.over()
	first := make([]byte, 5)
	if _, err := io.ReadFull(<-e.control, first); err != nil || wire.Kind(first[4]) != wire.KindHello {
		t.Errorf("%v, %v", first, err)
	}
}

// A grant that is raised or lowered while the two are connected holds at once.
func TestGrantsThatChange(t *testing.T) {
	leakCheck(t)
	a, b := newHost(t, "anna"), newHost(t, "bert")
	a.ring = []byte("keys")
	pair(t, a, b, trust.Paired, trust.Write)
	first := a.write("one")
	wait(t, "the streams open", func() bool { return a.greets(b) && b.greets(a) })
	a.grant(b, trust.Read)
	b.has(first...)
	wait(t, "keys there", func() bool { return b.ringOf(a) == "keys" })
	a.memory.mu.Lock()
	a.ring = []byte("other keys")
	a.memory.mu.Unlock()
	a.RingChanged()
	wait(t, "other keys there", func() bool { return b.ringOf(a) == "other keys" })
	if _, err := b.fetchAgain(first[0], idsOf(first[0])...); err != nil {
		t.Fatal(err)
	}
	a.grant(b, trust.Paired)
	wait(t, "nothing is offered", func() bool { return !a.with(b).Sends && !b.with(a).Receives })
	second := a.write("two")
	wait(t, "no content is served", func() bool {
		_, err := b.fetch(first[0], idsOf(first[0])...)
		return isKind(err, sharefs.KindUnreachable)
	})
	for i := range 20 { // whatever is said meanwhile
		b.has(b.write(fmt.Sprint(i))...)
	}
	b.memory.mu.Lock()
	leaked := b.records[second[0].ID()] != nil
	b.memory.mu.Unlock()
	if leaked {
		t.Error("what was written after the grant ended was sent")
	}
	a.grant(b, trust.Read)
	b.has(second...)
	if data, err := b.fetchAgain(second[0], idsOf(second[0])...); err != nil || string(data) != "two" {
		t.Errorf("%q, %v", data, err)
	}
}

// What a host is offered anew, and has because it came from there, is not said to be still to come.
func TestWhatIsOfferedAnewAndKnown(t *testing.T) {
	leakCheck(t)
	a, b := newHost(t, "anna"), newHost(t, "bert")
	pair(t, a, b, trust.Write, trust.Write)
	b.has(a.write("one")...)
	a.has(b.write("two", "three")...)
	a.grant(b, trust.Paired)
	wait(t, "nothing is offered", func() bool { return !a.with(b).Sends && !b.with(a).Receives })
	a.grant(b, trust.Write)
	wait(t, "all is here", func() bool {
		st := b.with(a)
		return st.Receives && st.Known >= 3 && st.Taken == st.Known
	})
	b.memory.mu.Lock()
	takes := b.takes
	b.memory.mu.Unlock()
	a.has(b.write("four")...)
	b.has(a.write("five")...)
	b.memory.mu.Lock()
	defer b.memory.mu.Unlock()
	if n := b.takes - takes; n != 1 {
		t.Errorf("it was told %d times of one change: what it wrote itself is no news", n)
	}
}

// meanwhile are keys that change, and rules with them, just when they are asked for.
type meanwhile struct {
	*memory
	do func() []byte // nil: nothing happens
	on atomic.Bool
}

func (r *meanwhile) Ring() []byte {
	if r.on.Swap(false) {
		return r.do()
	}
	return r.memory.Ring()
}

// The key that is made because a peer is not to have it does not go to that peer, however close upon the end of its grant.
func TestTheNextKeyIsNotForWhoIsShutOut(t *testing.T) {
	leakCheck(t)
	keys := &meanwhile{}
	a, b := newHost(t, "anna", func(c *Config, _ *link.Config) {
		keys.memory, c.Rings = c.Log.(*memory), keys
	}), newHost(t, "bert")
	a.ring = []byte("keys")
	pair(t, a, b, trust.Read, trust.Write)
	b.has(a.write("one")...)
	wait(t, "keys there", func() bool { return b.ringOf(a) == "keys" })
	keys.do = func() []byte {
		if _, err := a.book.Grant(b.name, trust.Store, trust.Pattern{}); err != nil {
			t.Error(err)
		}
		return []byte("keys, and the next one")
	}
	keys.on.Store(true)
	a.RingChanged()
	wait(t, "nothing is offered", func() bool { return !b.with(a).Receives })
	if got := b.ringOf(a); got != "keys" {
		t.Errorf("it was sent %q", got)
	}
}

// A peer with a rule for a part of the tree is offered another log than one who may read all of it, and content of what stands in that alone.
func TestARuleForAPart(t *testing.T) {
	leakCheck(t)
	a, b := newHost(t, "anna"), newHost(t, "bert")
	a.ring = []byte("a's keys")
	list := a.write("one", "two")
	a.know(b)
	a.tells(b.key.ID, list[0])
	b.know(a)
	photos, err := trust.ParsePattern("photos")
	if err != nil {
		t.Fatal(err)
	}
	rule := func(l trust.Level, pattern trust.Pattern) {
		t.Helper()
		if _, err := a.book.Grant(b.name, l, pattern); err != nil {
			t.Fatal(err)
		}
		a.Refresh()
	}
	rule(trust.Paired, trust.Pattern{})
	rule(trust.Write, photos)
	b.grant(a, trust.Write)
	a.hub.Sync()
	b.hub.Sync()
	theirs := b.write("three")
	b.has(list[0])
	a.has(theirs...)
	wait(t, "acknowledged", func() bool { return a.with(b).Acked == 1 && a.with(b).Last == 1 })
	if got := b.ringOf(a); got != "a's keys" {
		t.Errorf("keys: %q", got)
	}
	if data, err := b.fetchAgain(list[0], idsOf(list[0])...); err != nil || string(data) != "one" {
		t.Errorf("%q, %v", data, err)
	}
	if _, err := b.fetch(list[1], idsOf(list[1])...); !isKind(err, sharefs.KindUnreachable) {
		t.Errorf("content of another part: %v", err)
	}
	a.tells(b.key.ID, list[1])
	a.Grown()
	b.has(list[1])
	if data, err := b.fetchAgain(list[1], idsOf(list[1])...); err != nil || string(data) != "two" {
		t.Errorf("%q, %v", data, err)
	}
	// All of it, and then nothing.
	more := a.write("four")
	a.memory.mu.Lock()
	delete(a.parts, b.key.ID)
	a.memory.mu.Unlock()
	rule(trust.Write, trust.Pattern{})
	b.has(more...)
	if _, err := a.book.Grant(b.name, trust.Paired, trust.Pattern{}); err != nil {
		t.Fatal(err)
	}
	rule(trust.Paired, photos)
	wait(t, "nothing is offered", func() bool { return !a.with(b).Sends && !b.with(a).Receives })
	if _, err := b.fetch(more[0], idsOf(more[0])...); !isKind(err, sharefs.KindUnreachable) {
		t.Error(err)
	}
}

// A peer that asks for a version outside of what it may read learns nothing by that, also not that it came here later; and what was asked for under other rules is not answered under
// these.
func TestOutsideOfAPart(t *testing.T) {
	leakCheck(t)
	a := newAlone(t, Limits{})
	inside, ids := a.version(t, []byte("one"))
	outside, others := a.version(t, []byte("two"))
	a.author(t, inside, outside)
	a.tells(far, inside)
	part := func(path string) {
		t.Helper()
		pattern, err := trust.ParsePattern(path)
		if err != nil {
			t.Fatal(err)
		}
		a.mu.Lock()
		a.policy = trust.Policy{}.Grant(trust.Rule{Peer: far, Level: trust.Read, Pattern: pattern})
		a.mu.Unlock()
		a.Refresh()
	}
	o := a.meet(far, trust.Paired)
	part("photos")
	o.hello()
	offer := until[*wire.Offer](o)
	if err := o.w.Begin(wire.Begin{Run: 1, Log: offer.Log}); err != nil || offer.Last != 1 {
		t.Fatal(offer, err)
	}
	if items := until[*wire.Items](o); items.UpTo != 1 || len(items.Items) != 1 || items.Items[0].Batch != nil || items.Items[0].Records[0].ID() != inside.ID() {
		t.Fatalf("%+v", items)
	}
	c := o.stream((*peer).chunkStream)
	unknown := record.ID{1}
	one, two := wire.ID(ids[0]), wire.ID(others[0])
	group := func(v record.ID, id wire.ID) wire.Group { return wire.Group{Version: v, IDs: []wire.ID{id}} }
	o.ask(c, group(inside.ID(), one), group(outside.ID(), two), group(unknown, two), group(inside.ID(), two))
	if got := o.answers(c, 4); string(got[0]) != "one" || got[1] != nil || got[2] != nil || got[3] != nil {
		t.Fatalf("%q", got)
	}
	a.Complete(outside.ID())
	for range 2 { // whoever sends the second one has dealt with that before
		more, _ := a.version(t, []byte("more"))
		a.tells(far, more)
		a.Grown()
		for seen := false; !seen; {
			switch m := o.next().(type) {
			case *wire.Items:
				seen = m.Items[0].Records[0].ID() == more.ID()
			case *wire.Here:
				t.Fatalf("told of %v", m.Versions)
			}
		}
	}
	// Other rules do not end it, and what is asked from then on goes by them.
	part("photos/2026")
	a.memory.mu.Lock()
	a.parts[far].items = a.parts[far].items[1:]
	a.memory.mu.Unlock()
	o.ask(c, group(inside.ID(), one))
	if got := o.answers(c, 1); got[0] != nil {
		t.Errorf("%q", got)
	}
	a.set(far, trust.Read)
	part("photos")
	a.set(far, trust.Paired)
	a.mu.Lock()
	a.policy = trust.Policy{}.Grant(trust.Rule{Peer: far, Level: trust.Paired})
	a.mu.Unlock()
	a.Refresh()
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the stream goes on without a grant")
	}
}

// Who was of no account has its log taken from the beginning when it is trusted, if the log says so.
func TestRaisedTrustTakesAgain(t *testing.T) {
	leakCheck(t)
	a, b := newHost(t, "anna"), newHost(t, "bert")
	pair(t, a, b, trust.Write, trust.Read)
	first := a.write("one")
	b.has(first...)
	b.memory.mu.Lock()
	delete(b.records, first[0].ID()) // as if it had been passed over
	b.items = nil
	clear(b.batches)
	b.have = map[string]uint64{}
	b.memory.mu.Unlock()
	b.grant(a, trust.Write)
	b.has(first...)
}

// A host whose log begins anew, or has lost its end, has all of it taken again.
func TestLogsThatWereLost(t *testing.T) {
	leakCheck(t)
	a, b := newHost(t, "anna"), newHost(t, "bert")
	pair(t, a, b, trust.Write, trust.Write)
	first := a.write("one", "two")
	b.has(first...)
	wait(t, "acknowledged", func() bool { return a.with(b).Acked == a.Last(sharefs.PeerID{}) })
	// Another name.
	a.memory.mu.Lock()
	a.id[0]++
	a.items = nil
	clear(a.batches)
	clear(a.records)
	clear(a.have)
	a.writer = record.Writer{Share: share, Head: record.Head{Author: a.key.ID, Incarnation: 2}}
	a.memory.mu.Unlock()
	second := a.write("three")
	b.has(second...)
	// The same name: its end is gone.
	b.memory.mu.Lock()
	b.have[cursor(a.key.ID, a.ID(sharefs.PeerID{}))] = 1000
	b.memory.mu.Unlock()
	b.grant(a, trust.Paired)
	wait(t, "nothing is taken", func() bool { return !b.with(a).Receives })
	third := a.write("four")
	b.grant(a, trust.Write)
	b.has(third...)
}

// loses has a host lose its state after another one got what it authored, of which it returns the last.
func (h *host) loses(has *host) *record.Batch {
	h.t.Helper()
	r, _ := h.version(h.t, []byte("lost"))
	last := h.author(h.t, r)
	has.memory.mu.Lock()
	has.last[h.key.ID] = last
	has.memory.mu.Unlock()
	h.memory.mu.Lock()
	defer h.memory.mu.Unlock()
	h.writer = record.Writer{Share: share, Head: record.Head{Author: h.key.ID, Incarnation: 1}}
	h.items = nil
	return last
}

// A host that lost its state learns of what it authored before it is asked for more.
func TestAHostLearnsThatItLostItsState(t *testing.T) {
	leakCheck(t)
	a, b := newHost(t, "anna"), newHost(t, "bert")
	a.memory.write(t, "one")
	old := a.loses(b)
	pair(t, a, b, trust.Write, trust.Write)
	wait(t, "anna knows", func() bool {
		a.memory.mu.Lock()
		defer a.memory.mu.Unlock()
		return len(a.saw) > 0 && a.saw[0].Hash() == old.Hash() && a.writer.Head.Incarnation == 2
	})
}

// The log is another one then, which those are offered who had the one before.
func TestAHostThatLostItsStateOffersAnotherLog(t *testing.T) {
	leakCheck(t)
	a, b, c := newHost(t, "anna"), newHost(t, "bert"), newHost(t, "cleo")
	a.loses(b)
	offered := func() bool {
		id := a.ID(c.key.ID)
		for _, p := range c.Exchange.all() {
			p.mu.Lock()
			theirs := p.theirs
			p.mu.Unlock()
			if p.id == a.key.ID && theirs == id {
				return true
			}
		}
		return false
	}
	pair(t, a, c, trust.Write, trust.Write)
	wait(t, "cleo has the log", offered)
	before := a.ID(c.key.ID)
	pair(t, a, b, trust.Write, trust.Write)
	wait(t, "anna knows", func() bool { return a.ID(c.key.ID) != before })
	wait(t, "cleo has the other log", offered)
}

// What is bounded is bounded at either end, and neither records nor what others want wait behind it.
func TestRecordsDoNotWaitBehindContent(t *testing.T) {
	for _, where := range []string{"up", "down"} {
		t.Run(where, func(t *testing.T) {
			leakCheck(t)
			bound := func(at string) option {
				return func(c *Config, _ *link.Config) {
					var rates [2]uint64
					switch {
					case at != where:
					case at == "up":
						rates[0] = 20_000
					default:
						rates[1] = 20_000
					}
					c.Pace = pace.New(func(sharefs.PeerID) (up, down uint64) { return rates[0], rates[1] })
				}
			}
			a, b := newHost(t, "anna", bound("up")), newHost(t, "bert", bound("down"))
			var parts [][]byte
			for i := range 16 { // 4 MiB, for which 200 s are due
				parts = append(parts, noise(uint64(i), 256<<10))
			}
			r, ids := a.version(t, parts...)
			pair(t, a, b, trust.Read, trust.Write)
			a.author(t, r)
			a.Grown()
			b.has(r)
			wait(t, "content is asked for", func() bool { return b.with(a).Receives })
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan struct{})
			go func() {
				defer close(done)
				b.Want(r, ids...)
				for _, id := range ids {
					if _, err := b.Get(ctx, r, id); err != nil {
						return
					}
				}
				t.Error("content came faster than it may")
			}()
			wait(t, "content goes", func() bool { return a.with(b).Out.Bytes > 0 })
			b.has(a.write("one")...)
			a.has(b.write("two")...)
			b.has(a.write("three")...)
			select {
			case <-done:
				t.Error("the records came after the content")
			default:
			}
			cancel()
			<-done
			b.Drop(r.ID())
		})
	}
}

// unread is a stream that the peer has closed, which the first to write learns before anybody has read its end.
type unread struct {
	net.Conn
	closed chan struct{}
	once   *sync.Once
}

func (u unread) Write([]byte) (int, error) { return 0, syscall.EPIPE }

func (u unread) Read([]byte) (int, error) {
	<-u.closed
	return 0, net.ErrClosed
}

func (u unread) Close() error {
	u.once.Do(func() { close(u.closed) })
	return u.Conn.Close()
}

// A peer that takes no control stream exchanges nothing with this host, whether that is learnt by reading first or by writing.
func TestAPeerThatTakesNoStream(t *testing.T) {
	leakCheck(t)
	a := newAlone(t, Limits{})
	a.set(far, trust.Write)
	s := newFake(true)
	t.Cleanup(s.end)
	mine, theirs := net.Pipe()
	theirs.Close()
	s.stream = unread{mine, make(chan struct{}), new(sync.Once)}
	a.connected(far, s)
	wait(t, "it is known that the peer refuses", func() bool {
		all := a.Peers()
		return len(all) == 1 && all[0].Refused && all[0].Error == ""
	})
}
