package exchange

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"sharefs"
	"sharefs/peers/exchange/wire"
	"sharefs/peers/identity"
	"sharefs/peers/pace"
	"sharefs/peers/record"
	"sharefs/peers/trust"
)

// foreign makes what another host authors.
func foreign(t testing.TB, contents ...string) (m *memory, list []*record.Record, batch *record.Batch) {
	t.Helper()
	m = newMemory(identity.New())
	for _, c := range contents {
		r, _ := m.version(t, []byte(c))
		list = append(list, r)
	}
	if len(list) > 0 {
		batch = m.author(t, list...)
	}
	return m, list, batch
}

// What cannot be said on a control stream ends it, and whoever said it is left out and named. Nobody else notices.
func TestWhatEndsAControlStream(t *testing.T) {
	_, list, batch := foreign(t, "one", "two")
	unsigned, err := record.New(share, list[0].Author, 5, list[0].Body)
	if err != nil {
		t.Fatal(err)
	}
	raw := func(b ...byte) func(*other) error {
		return func(o *other) error { _, err := o.c.Write(b); return err }
	}
	items := func(after, upTo uint64, fill func(*wire.ItemsWriter)) func(*other) error {
		return func(o *other) error {
			begin := o.offer(LogID{1})
			m := wire.NewItems(begin.Run, after)
			if fill != nil {
				fill(m)
			}
			return o.send(m.Message(upTo))
		}
	}
	for name, c := range map[string]struct {
		do    func(*other) error
		first bool // instead of hello
		kind  sharefs.Kind
		code  wire.Code
	}{
		"something else than hello": {first: true, do: func(o *other) error { return o.w.Stop() }, kind: sharefs.KindInvalid, code: wire.ByeProtocol},
		"hello again":               {do: func(o *other) error { return o.w.Hello(wire.Hello{Lowest: 1, Highest: 1}) }, kind: sharefs.KindInvalid, code: wire.ByeProtocol},
		"newer versions alone": {first: true, do: func(o *other) error {
			return o.w.Hello(wire.Hello{Lowest: wire.Version + 1, Highest: wire.Version + 2})
		}, code: wire.ByeVersion},
		"an unknown kind":          {do: raw(0, 0, 0, 1, 100), code: wire.ByeVersion},
		"no length":                {do: raw(0, 0, 0, 0, byte(wire.KindStop)), kind: sharefs.KindInvalid, code: wire.ByeProtocol},
		"a length beyond bounds":   {do: raw(0xff, 0xff, 0xff, 0xff, byte(wire.KindItems)), kind: sharefs.KindInvalid, code: wire.ByeProtocol},
		"a question for content":   {do: func(o *other) error { return o.w.Want(wire.Want{Groups: []wire.Group{{IDs: make([]wire.ID, 1)}}}) }, kind: sharefs.KindInvalid, code: wire.ByeProtocol},
		"a batch of somebody else": {do: func(o *other) error { return o.send(wire.SeenMessage(batch)) }, kind: sharefs.KindInvalid, code: wire.ByeProtocol},
		"a gap in the log":         {do: items(7, 8, nil), kind: sharefs.KindInvalid, code: wire.ByeProtocol},
		"a flood of changes": {do: func(o *other) error {
			for range 2 * controlBurst {
				if err := o.w.Stop(); err != nil {
					return nil // it has ended by now
				}
			}
			return nil
		}, kind: sharefs.KindInvalid, code: wire.ByeProtocol},
		"keys that are none": {do: func(o *other) error {
			o.a.memory.mu.Lock()
			o.a.badRing = true
			o.a.memory.mu.Unlock()
			return o.send(wire.RingMessage([]byte("?")))
		}, kind: sharefs.KindInvalid},
		"a record that is not signed": {do: items(0, 1, func(m *wire.ItemsWriter) { m.Record(unsigned) }), kind: sharefs.KindCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			leakCheck(t)
			a := newAlone(t, Limits{})
			o := a.meet(far, trust.Write)
			if !c.first {
				o.hello()
			}
			if err := c.do(o); err != nil && !errors.Is(err, net.ErrClosed) {
				t.Fatal(err)
			}
			if c.code != 0 {
				if bye := o.over(); bye == nil || bye.Code != c.code || bye.Text == "" {
					t.Errorf("%+v", bye)
				}
			}
			if c.kind != sharefs.KindOther {
				wait(t, "it is named", func() bool { return isKind(a.blame(far), c.kind) })
				if st := a.Peers(); len(st) != 1 || st[0].Error == "" {
					t.Errorf("%+v", st)
				}
			} else if err := a.blame(far); err != nil {
				t.Error(err)
			}
			good := a.meet(near, trust.Write)
			good.hello()
			begin := good.offer(LogID{2})
			m := wire.NewItems(begin.Run, 0)
			m.Batch(batch, list)
			if err := good.send(m.Message(2)); err != nil {
				t.Fatal(err)
			}
			if ack := until[*wire.Ack](good); ack.UpTo != 2 || ack.Log != (LogID{2}) {
				t.Errorf("%+v", ack)
			}
		})
	}
}

// What was not asked for is passed over: items of another run, before an offer, after it was taken back, of a peer whose log is not taken.
func TestItemsThatNobodyAskedFor(t *testing.T) {
	leakCheck(t)
	_, list, batch := foreign(t, "one")
	a := newAlone(t, Limits{})
	o := a.meet(far, trust.Write)
	o.hello()
	push := func(run uint32) {
		t.Helper()
		m := wire.NewItems(run, 0)
		m.Batch(batch, list)
		if err := o.send(m.Message(1)); err != nil {
			t.Fatal(err)
		}
	}
	push(0)
	push(1)
	begin := o.offer(LogID{1})
	push(begin.Run + 1)
	if err := o.w.Withdraw(); err != nil {
		t.Fatal(err)
	}
	push(begin.Run)
	begin = o.offer(LogID{1})
	a.set(far, trust.Store)
	until[*wire.Stop](o)
	push(begin.Run)
	a.set(far, trust.Write)
	begin = until[*wire.Begin](o)
	if a.count() != 0 {
		t.Error("it was taken")
	}
	push(begin.Run)
	until[*wire.Ack](o)
	if a.count() != 1 {
		t.Error("it was not taken")
	}
}

// A peer lies about what it has.
func TestLiesAboutNumbers(t *testing.T) {
	leakCheck(t)
	a := newAlone(t, Limits{})
	a.memory.write(t, "one", "two")
	o := a.meet(far, trust.Read)
	o.hello()
	offer := until[*wire.Offer](o)
	if offer.Log != a.ID(sharefs.PeerID{}) || offer.Last != 2 {
		t.Errorf("%+v", offer)
	}
	// Of a log that is none nothing comes, of one that is beyond its end all.
	for _, m := range []wire.Begin{{Run: 1, Log: LogID{7}}, {Run: 2, Log: offer.Log, After: 1 << 63}} {
		if err := o.w.Begin(m); err != nil {
			t.Fatal(err)
		}
	}
	items := until[*wire.Items](o)
	if items.Run != 2 || items.After != 0 || items.UpTo != 2 || len(items.Items) != 1 || len(items.Items[0].Records) != 2 {
		t.Errorf("%+v", items)
	}
	for _, m := range []wire.Ack{{Log: offer.Log, UpTo: 1 << 63}, {Log: LogID{7}, UpTo: 1}} {
		if err := o.w.Ack(m); err != nil {
			t.Fatal(err)
		}
	}
	wait(t, "acknowledged", func() bool { return a.Peers()[0].Acked == 2 })
	if err := a.blame(far); err != nil {
		t.Error(err)
	}
}

// A log that this host cannot take, for a reason of its own, is asked for again after Refresh, and after a while.
func TestADiskThatIsFull(t *testing.T) {
	leakCheck(t)
	_, list, batch := foreign(t, "one")
	a := newAlone(t, Limits{Again: time.Hour})
	a.refuse = func(sharefs.PeerID) error { return sharefs.KindNoSpace }
	o := a.meet(far, trust.Write)
	o.hello()
	push := func(begin *wire.Begin) {
		t.Helper()
		m := wire.NewItems(begin.Run, 0)
		m.Batch(batch, list)
		if err := o.send(m.Message(1)); err != nil {
			t.Fatal(err)
		}
	}
	push(o.offer(LogID{1}))
	until[*wire.Stop](o)
	if st := a.Peers()[0]; st.Error == "" || st.Receives {
		t.Errorf("%+v", st)
	}
	a.memory.mu.Lock()
	a.refuse = nil
	a.memory.mu.Unlock()
	a.Refresh()
	push(until[*wire.Begin](o))
	until[*wire.Ack](o)
	if st := a.Peers()[0]; st.Error != "" || !st.Receives || st.Taken != 1 {
		t.Errorf("%+v", st)
	}
	if err := a.blame(far); err != nil {
		t.Error(err)
	}
}

// What fails again and again is asked for without anybody's word, and taken as soon as it can be.
func TestADiskThatHasRoomAgain(t *testing.T) {
	leakCheck(t)
	_, list, batch := foreign(t, "one")
	a := newAlone(t, Limits{Again: time.Millisecond})
	failures := 0
	a.refuse = func(sharefs.PeerID) error {
		if failures++; failures < 5 {
			return sharefs.KindNoSpace
		}
		return nil
	}
	o := a.meet(far, trust.Write)
	o.hello()
	for m := wire.Message(o.offer(LogID{1})); ; m = o.next() {
		if _, taken := m.(*wire.Ack); taken {
			break
		}
		begin, ok := m.(*wire.Begin)
		if !ok {
			continue
		}
		items := wire.NewItems(begin.Run, 0)
		items.Batch(batch, list)
		if err := o.send(items.Message(1)); err != nil {
			t.Fatal(err)
		}
	}
	if st := a.Peers()[0]; st.Error != "" || !st.Receives || st.Taken != 1 {
		t.Errorf("%+v", st)
	}
}

// A peer that sends batches, of which no record comes, while this host's disk stands still, fills no memory.
func TestBatchesWithoutRecordsAreBounded(t *testing.T) {
	leakCheck(t)
	m, list, _ := foreign(t, "one")
	ids := make([]record.ID, record.MaxBatch)
	for i := range ids {
		ids[i] = record.ID{byte(i), byte(i >> 8), 1}
	}
	b := &record.Batch{Share: share, Author: m.key.ID, Incarnation: 1, Number: 1, HLC: list[0].HLC, Records: ids}
	if err := b.Seal(); err != nil {
		t.Fatal(err)
	}
	var big wire.Items
	for range 20 {
		big.Items = append(big.Items, Item{Batch: b})
	}
	for name, c := range map[string]struct {
		m    wire.Items
		most int
	}{"batches": {big, 4}, "nothing": {wire.Items{}, inboxMost / 200}} {
		a := newAlone(t, Limits{})
		p := newPeer(a.Exchange, far, newFake(false), &common{})
		p.began = true
		ctx, cancel := context.WithCancel(t.Context())
		came := 0
		done := make(chan struct{})
		go func() {
			defer close(done)
			for p.came(ctx, &c.m) == nil {
				p.mu.Lock()
				came++
				full := came > c.most
				p.mu.Unlock()
				if full {
					return
				}
			}
		}()
		wait(t, "no more is read", func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return came > c.most || p.inboxSize > inboxMost-sizeOfItems(&c.m)
		})
		cancel()
		<-done
		if came > c.most {
			t.Errorf("%s: %d messages are waiting", name, came)
		}
		p.end()
	}
}

// A peer that does not read what it asked for is given up, and holds nobody up before that.
func TestAPeerThatDoesNotRead(t *testing.T) {
	leakCheck(t)
	a := newAlone(t, Limits{GiveUp: 50 * time.Millisecond})
	a.memory.write(t, "one")
	a.set(far, trust.Read)
	s := newFake(false)
	defer s.end()
	a.connected(far, s)
	mine, theirs := net.Pipe() // without room: each byte is waited for
	defer mine.Close()
	over := make(chan struct{})
	go func() {
		defer close(over)
		a.serve(far, s, theirs, (*peer).controlStream)
	}()
	good := a.meet(near, trust.Read)
	good.hello()
	until[*wire.Offer](good)
	select {
	case <-over:
	case <-time.After(patience):
		t.Error("it is not given up")
	}
	if err := a.blame(far); err != nil {
		t.Error(err)
	}
}

// ask asks over a chunk stream.
func (o *other) ask(c net.Conn, groups ...wire.Group) {
	o.t.Helper()
	if err := wire.NewWriter(c, o.a.key.ID).Want(wire.Want{Groups: groups}); err != nil {
		o.t.Fatal(err)
	}
}

// answers reads so many answers.
func (o *other) answers(c net.Conn, n int) (out [][]byte) {
	o.t.Helper()
	for r := wire.NewReader(c); len(out) < n; {
		m, err := r.Next()
		if err != nil {
			o.t.Fatal(err)
		}
		chunks, ok := m.(*wire.Chunks)
		if !ok {
			o.t.Fatalf("%+v", m)
		}
		out = append(out, chunks.Data...)
	}
	return out
}

// A chunk is served as a part of a version that has it, and not as a part of another one, however well its name is known. Nothing is read for that.
func TestChunksOutsideOfAVersion(t *testing.T) {
	leakCheck(t)
	a := newAlone(t, Limits{})
	var parts [][]byte
	for i := range 400 {
		parts = append(parts, noise(uint64(i), 500))
	}
	large, largeIDs := a.version(t, parts...)
	small, smallIDs := a.version(t, []byte("secret"), []byte("s3cret"))
	hidden, hiddenIDs := a.version(t, []byte("hidden"))
	a.author(t, large, small)
	outside := a.keep([]byte("of no version"))
	o := a.meet(far, trust.Read)
	c := o.stream((*peer).chunkStream)
	group := func(v *record.Record, ids ...sharefs.ChunkID) wire.Group {
		g := wire.Group{Version: v.ID()}
		for _, id := range ids {
			g.IDs = append(g.IDs, id)
		}
		return g
	}
	unknown := sharefs.ChunkID{1, 2, 3}
	o.ask(c, group(small, smallIDs...), group(small, largeIDs[0], outside, unknown), group(large, smallIDs[0], outside, unknown), group(hidden, hiddenIDs...),
		wire.Group{Version: record.ID{9}, IDs: []wire.ID{smallIDs[0]}}, group(large, largeIDs[399], largeIDs[401], largeIDs[0]))
	got := o.answers(c, 13)
	for i, want := range [][]byte{[]byte("secret"), []byte("s3cret"), nil, nil, nil, nil, nil, nil, nil, nil, parts[399], a.chunks[largeIDs[401]], parts[0]} {
		if !bytes.Equal(got[i], want) {
			t.Errorf("%d: %q", i, got[i])
		}
	}
	a.memory.mu.Lock()
	if most := 2 + len(large.Body.(*record.Version).Spans) + 3; a.memory.reads != most {
		t.Errorf("%d chunks were read, not %d", a.memory.reads, most)
	}
	a.memory.mu.Unlock()
	for name, v := range map[string]*record.Record{"small": small, "large": large} {
		before := a.readsNow()
		o.ask(c, group(v, unknown, outside))
		if got := o.answers(c, 2); got[0] != nil || got[1] != nil || a.readsNow() != before {
			t.Errorf("%s: what is outside is told apart from what is unknown", name)
		}
	}
}

func (m *memory) readsNow() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.reads
}

// The scope of a version of which something is missing here is found out again when it is here, and one that is too large to be remembered each time.
func TestScopes(t *testing.T) {
	m := newMemory(identity.New())
	var parts [][]byte
	for i := range 1000 {
		parts = append(parts, noise(uint64(i), 100))
	}
	r, ids := m.version(t, parts...)
	for _, most := range []int{1 << 20, 1010, 500, 1} {
		s := newScopes(m, most)
		asked := append([]sharefs.ChunkID{{1}}, ids...)
		for range 2 {
			for i, ok := range s.belong(r, asked) {
				if ok != (i > 0) {
					t.Fatalf("%d: %d: %v", most, i, ok)
				}
			}
		}
		if s.total > most || most < 1000 && len(s.known) > 0 {
			t.Errorf("%d ids of %d versions, allowed are %d", s.total, len(s.known), most)
		}
	}
	s := newScopes(m, 1<<20)
	node := ids[1000]
	kept := m.chunks[node]
	delete(m.chunks, node)
	if got := s.belong(r, []sharefs.ChunkID{ids[0], ids[999], node}); got[0] || !got[1] || !got[2] {
		t.Error(got)
	}
	m.keep(kept)
	s.forget(r.ID()) // as Complete does
	if got := s.belong(r, []sharefs.ChunkID{ids[0]}); !got[0] {
		t.Error("not found again")
	}
	// Those that were not asked for for the longest time are forgotten.
	s = newScopes(m, 2500)
	var list []*record.Record
	for i := range 4 {
		v, _ := m.version(t, append([][]byte{noise(uint64(5000+i), 10)}, parts...)...)
		list = append(list, v)
		s.belong(v, []sharefs.ChunkID{{1}})
	}
	if len(s.known) != 2 || s.known[list[3].ID()] == nil || s.known[list[2].ID()] == nil {
		t.Errorf("%d are remembered", len(s.known))
	}
	attr, err := record.New(share, m.key.ID, 1, &record.Attr{File: sharefs.FileID{1}})
	if err != nil {
		t.Fatal(err)
	}
	if got := s.belong(attr, ids[:1]); got[0] {
		t.Error("content of what is no version")
	}
}

// Streams over which peers ask: without a grant there are none, of one peer so many, and what is malformed ends one, whatever of it came.
func TestStreamsOfWhoAsks(t *testing.T) {
	leakCheck(t)
	a := newAlone(t, Limits{Streams: 2})
	v, ids := a.version(t, []byte("content"))
	a.author(t, v)
	stranger := a.meet(near, trust.Store)
	c := stranger.stream((*peer).chunkStream)
	if m, err := wire.NewReader(c).Next(); err != nil || m.(*wire.Bye).Code != wire.ByePermission {
		t.Errorf("%+v, %v", m, err)
	}
	o := a.meet(far, trust.Read)
	ended := func(c net.Conn) {
		t.Helper()
		if n, err := c.Read(make([]byte, 1)); err == nil {
			t.Errorf("%d bytes", n)
		}
	}
	group := wire.Group{Version: v.ID(), IDs: []wire.ID{ids[0]}}
	one, two := o.stream((*peer).chunkStream), o.stream((*peer).chunkStream)
	o.ask(one, group)
	o.answers(one, 1)
	o.ask(two, group)
	o.answers(two, 1)
	ended(o.stream((*peer).chunkStream))
	// Cut at any byte: no fault of anybody.
	var b bytes.Buffer
	if err := wire.NewWriter(&b, a.key.ID).Want(wire.Want{Groups: []wire.Group{group}}); err != nil {
		t.Fatal(err)
	}
	one.Close()
	for n := range b.Len() {
		var c net.Conn
		wait(t, "a stream", func() bool {
			c = o.stream((*peer).chunkStream)
			if n == 0 {
				return true
			}
			_, err := c.Write(b.Bytes()[:n])
			return err == nil
		})
		c.Close()
	}
	if err := a.blame(far); err != nil {
		t.Fatal(err)
	}
	// The grant ends: the stream too, before Refresh has returned.
	a.set(far, trust.Paired)
	ended(two)
	a.set(far, trust.Read)
	wait(t, "a stream", func() bool {
		c = o.stream((*peer).chunkStream)
		_, err := c.Write([]byte{0, 0, 0, 1, byte(wire.KindStop)})
		return err == nil
	})
	wait(t, "it is named", func() bool { return isKind(a.blame(far), sharefs.KindInvalid) })
}

// Who asks and does not read is given up.
func TestWhoAsksAndDoesNotRead(t *testing.T) {
	leakCheck(t)
	a := newAlone(t, Limits{GiveUp: 20 * time.Millisecond})
	v, ids := a.version(t, noise(1, 100<<10))
	a.author(t, v)
	o := a.meet(far, trust.Read)
	c := o.stream((*peer).chunkStream)
	w := wire.NewWriter(c, a.key.ID)
	g := wire.Group{Version: v.ID()}
	for range 100 {
		g.IDs = append(g.IDs, ids[0])
	}
	asked := 0
	for ; ; asked++ {
		if err := w.Want(wire.Want{Groups: []wire.Group{g}}); err != nil {
			break
		}
	}
	if asked > 2*serveAhead+2 {
		t.Errorf("%d questions were read", asked)
	}
}

// What is served to a peer is no more than its rate allows.
func TestRates(t *testing.T) {
	leakCheck(t)
	const rate = 1 << 20
	a := newAlone(t, Limits{}, func(c *Config) {
		c.Pace = pace.New(func(id sharefs.PeerID) (up, down uint64) {
			if id == far {
				return rate, 0
			}
			return 0, 0
		})
	})
	v, ids := a.version(t, noise(1, 100<<10))
	a.author(t, v)
	serve := func(id sharefs.PeerID) time.Duration {
		o := a.meet(id, trust.Read)
		c := o.stream((*peer).chunkStream)
		start := time.Now()
		g := wire.Group{Version: v.ID(), IDs: []wire.ID{ids[0], ids[0], ids[0], ids[0], ids[0]}}
		o.ask(c, g)
		o.answers(c, 5)
		return time.Since(start)
	}
	serve(near)
	if d := serve(far); d < 300*time.Millisecond { // half a second's worth, of which a tenth is given ahead
		t.Errorf("500 KiB in %v", d)
	}
}

// A batch that is too large for a message comes all the same.
func TestALargeBatch(t *testing.T) {
	leakCheck(t)
	a, b := newHost(t, "anna"), newHost(t, "bert")
	var list []*record.Record
	for i := range 100 {
		r, err := record.New(share, a.key.ID, sharefs.HLC(i+1), &record.Attr{File: sharefs.FileID{1, byte(i)}, Mode: 0o600,
			Xattrs: []record.Xattr{{Name: "user.x", Value: string(noise(uint64(i), 60<<10))}}})
		if err == nil {
			err = r.Sign(a.key.Private())
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
	}
	a.author(t, list...)
	late := a.write("after it")
	pair(t, a, b, trust.Read, trust.Write)
	b.has(list...)
	b.has(late...)
	wait(t, "acknowledged", func() bool { return a.with(b).Acked == a.Last(sharefs.PeerID{}) })
	b.memory.mu.Lock()
	defer b.memory.mu.Unlock()
	if b.last[a.key.ID].Number != 2 {
		t.Error("the batch is missing")
	}
}

// The first messages of a log are small, so that the other end has something to look for while the others come, and then they grow.
func TestTheFirstItemsAreFew(t *testing.T) {
	leakCheck(t)
	a := newAlone(t, Limits{})
	const batch = 30 << 10
	for i := range 60 {
		r, err := record.New(share, a.key.ID, sharefs.HLC(i+1), &record.Attr{File: sharefs.FileID{1, byte(i)}, Mode: 0o600,
			Xattrs: []record.Xattr{{Name: "user.x", Value: string(noise(uint64(i), batch))}}})
		if err == nil {
			err = r.Sign(a.key.Private())
		}
		if err != nil {
			t.Fatal(err)
		}
		a.author(t, r)
	}
	o := a.meet(far, trust.Read)
	o.hello()
	offer := until[*wire.Offer](o)
	if err := o.w.Begin(wire.Begin{Run: 1, Log: offer.Log}); err != nil {
		t.Fatal(err)
	}
	for most, left := pushFirst, 60; left > 0; most = min(2*most, pushBytes) {
		n := len(until[*wire.Items](o).Items)
		if left -= n; n*batch > most+batch || left > 0 && n*batch < most-batch {
			t.Errorf("a message has %d batches of %d bytes, and is to have about %d bytes", n, batch, most)
		}
	}
}

// Many records at once: one sync for many of them.
func TestManyRecords(t *testing.T) {
	leakCheck(t)
	a, b := newHost(t, "anna"), newHost(t, "bert")
	pair(t, a, b, trust.Read, trust.Write)
	var last []*record.Record
	for i := range 100 {
		last = a.write(fmt.Sprint(i), fmt.Sprint(i, "x"))
	}
	b.has(last...)
	wait(t, "acknowledged", func() bool { return a.with(b).Acked == a.Last(sharefs.PeerID{}) })
	if n := b.count(); n != 200 {
		t.Errorf("%d records", n)
	}
}
