package engine

import (
	"bytes"
	"crypto/ed25519"
	"maps"
	"slices"
	"testing"
	"time"

	"sharefs"
	"sharefs/peers/exchange"
	"sharefs/peers/record"
	"sharefs/peers/replica"
	"sharefs/peers/trust"
)

// noTree is a tree in which nothing happens.
type noTree struct{ replica.Tree }

func (noTree) Follow() (bool, error) { return false, nil }
func (noTree) Sync() error           { return nil }

// rows is a database in memory.
type rows [1 << 8]map[string][]byte

func (r *rows) Get(space uint8, key []byte) ([]byte, bool, error) {
	v, ok := r[space][string(key)]
	return v, ok, nil
}

func (r *rows) Scan(space uint8, from, to []byte, fn func(key, value []byte) bool) error {
	for _, k := range slices.Sorted(maps.Keys(r[space])) {
		if to != nil && k >= string(to) || k >= string(from) && !fn([]byte(k), r[space][k]) {
			break
		}
	}
	return nil
}

func (r *rows) Commit(list []replica.Row) error {
	for _, row := range list {
		if r[row.Space] == nil {
			r[row.Space] = map[string][]byte{}
		}
		if r[row.Space][string(row.Key)] = row.Value; row.Value == nil {
			delete(r[row.Space], string(row.Key))
		}
	}
	return nil
}

func (r *rows) Sync() error { return nil }

// oneShare is the ring of a host that knows one share.
type oneShare struct{}

func (oneShare) Share() record.ShareID     { return record.ShareID{1} }
func (oneShare) Takes(record.ShareID) bool { return true }
func (oneShare) Has(sharefs.KeyID) bool    { return true }

func everybody(sharefs.PeerID) bool          { return true }
func merged(*record.Record) replica.Standing { return replica.Merged }

// Numbers of arrival jump whenever a log is opened: whoever got a part of what is listed goes on behind that part.
func TestALogIsListedWithoutGaps(t *testing.T) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	author := sharefs.PeerID(key.Public().(ed25519.PublicKey))
	var db rows
	log := Log{Policy: func() trust.Policy { return trust.Policy{}.Grant(trust.Rule{Peer: author, Level: trust.Read}) }}
	for i := range byte(6) {
		if i%3 == 0 {
			r, err := replica.Open(replica.Config{Tree: noTree{}, Store: &db, Self: sharefs.PeerID{9}, Keys: oneShare{},
				Counts: everybody, Standing: merged})
			if err != nil {
				t.Fatal(err)
			}
			log.Use(r)
		}
		rec, err := record.New(record.ShareID{1}, author, 5, &record.Attr{File: sharefs.FileID{i + 1}})
		if err == nil {
			err = rec.Sign(key)
		}
		if err == nil {
			_, err = log.r.Take(author, []replica.Item{{Records: []*record.Record{rec}}})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	log.Look()
	all, err := log.Since(author, log.ID(author), 0, 100)
	if err != nil || len(all) != 6 || all[5].Next != log.Last(author) {
		t.Fatalf("%d items, %v", len(all), err)
	}
	for i := range all {
		rest, err := log.Since(author, log.ID(author), all[i].Next, 100)
		if err != nil || len(rest) != len(all)-1-i {
			t.Errorf("behind item %d there are %d, %v", i, len(rest), err)
		}
	}
}

// What is later than now is asked for again, and so is what came behind it; nothing else waits for it.
func TestWhatComesTooEarly(t *testing.T) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	author, peer, name := sharefs.PeerID(key.Public().(ed25519.PublicKey)), sharefs.PeerID{3}, exchange.LogID{4}
	now := time.Unix(1e9, 0)
	var db rows
	r, err := replica.Open(replica.Config{Tree: noTree{}, Store: &db, Self: sharefs.PeerID{9}, Keys: oneShare{}, Now: func() time.Time { return now },
		Counts: everybody, Standing: merged})
	if err != nil {
		t.Fatal(err)
	}
	took, anew := 0, time.Duration(0)
	log := Log{Policy: func() trust.Policy { return trust.Policy{} }, Took: func() { took++ }, Anew: func(d time.Duration) { anew = d }, Stop: func() error { return nil }}
	log.Use(r)
	take := func(at time.Time, file byte, upTo uint64) {
		t.Helper()
		rec, err := record.New(record.ShareID{1}, author, sharefs.HLCAt(at), &record.Attr{File: sharefs.FileID{file}})
		if err == nil {
			err = rec.Sign(key)
		}
		if err == nil {
			err = log.Take(peer, name, []exchange.Item{{Records: []*record.Record{rec}}}, upTo)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	have := func(want uint64) {
		t.Helper()
		if n, err := log.Have(peer, name); n != want || err != nil {
			t.Errorf("the log is taken up to %d, not %d, %v", n, want, err)
		}
	}
	take(now, 1, 10)
	have(10)
	take(now.Add(time.Hour), 2, 11)
	take(now, 3, 12)
	if took != 2 || anew != earlyPause {
		t.Errorf("taken %d times, asked for again after %v", took, anew)
	}
	have(10)
	now = now.Add(time.Hour)
	take(now, 2, 11)
	take(now, 3, 12)
	have(12)
}

// A host that learns that it has lost its state offers a log of another name, so that nobody goes on in it by numbers of the one before.
func TestALogThatIsAnotherOne(t *testing.T) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	self := sharefs.PeerID(key.Public().(ed25519.PublicKey))
	r, err := replica.Open(replica.Config{Tree: noTree{}, Store: &rows{}, Self: self, Key: key, Keys: oneShare{}})
	if err != nil {
		t.Fatal(err)
	}
	log := Log{Policy: func() trust.Policy { return trust.Policy{} }}
	log.Use(r)
	before := log.ID(sharefs.PeerID{8})
	w := record.Writer{Share: record.ShareID{1}, Head: record.Head{Author: self, Incarnation: 1 << 62}}
	b, err := w.Batch(5, []record.ID{{1}}, key)
	if err == nil {
		err = log.Saw(b)
	}
	if err != nil {
		t.Fatal(err)
	}
	another := func() {
		t.Helper()
		now := log.ID(sharefs.PeerID{8})
		if now == before || now != exchange.LogID(r.Log()) {
			t.Errorf("the log was %x, is said to be %x and is %x", before, now, r.Log())
		}
		before = now
	}
	another()
	// So it is where a batch tells it of which all records are here.
	log.Stop, log.Took = func() error { return nil }, func() {}
	rec, err := record.New(record.ShareID{1}, self, 5, &record.Attr{File: sharefs.FileID{1}})
	if err == nil {
		err = rec.Sign(key)
	}
	if err == nil {
		err = log.Take(sharefs.PeerID{8}, exchange.LogID{1}, []exchange.Item{{Records: []*record.Record{rec}}}, 1)
	}
	if err != nil {
		t.Fatal(err)
	}
	w = record.Writer{Share: record.ShareID{1}, Head: record.Head{Author: self, Incarnation: 1<<62 + 7}}
	b, err = w.Batch(5, []record.ID{rec.ID()}, key)
	if err == nil {
		err = log.Take(sharefs.PeerID{8}, exchange.LogID{1}, []exchange.Item{{Batch: b, Records: []*record.Record{rec}}}, 2)
	}
	if err != nil {
		t.Fatal(err)
	}
	another()
}

// A peer that names ever other logs, from which something is missing, fills no memory.
func TestManyLogsAreNotRemembered(t *testing.T) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	author := sharefs.PeerID(key.Public().(ed25519.PublicKey))
	r, err := replica.Open(replica.Config{Tree: noTree{}, Store: &rows{}, Self: sharefs.PeerID{9}, Keys: oneShare{},
		Counts: everybody, Standing: merged})
	if err != nil {
		t.Fatal(err)
	}
	log := Log{Policy: func() trust.Policy { return trust.Policy{} }, Stop: func() error { return nil }}
	log.Use(r)
	rec, err := record.New(record.ShareID{1}, author, 5, &record.Attr{File: sharefs.FileID{1}})
	if err != nil {
		t.Fatal(err)
	}
	w := record.Writer{Share: record.ShareID{1}, Head: record.Head{Author: author, Incarnation: 1, Number: 1, Hash: record.Hash{1}}}
	b, err := w.Batch(5, []record.ID{rec.ID()}, key)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 * mostAnew {
		err := log.Take(author, exchange.LogID{byte(i), byte(i >> 8)}, []exchange.Item{{Batch: b, Records: []*record.Record{rec}}}, 1)
		if sharefs.KindOf(err) != sharefs.KindAgain {
			t.Fatal(err)
		}
	}
	if n := len(log.anew); n > mostAnew {
		t.Errorf("%d logs are remembered", n)
	}
}

// Whoever relays a batch may give its records other signatures, at which nobody looks. Who may read a part is told of such a record as soon as somebody brings it with the right one, for which
// all is asked for again.
func TestARecordWithAnotherSignatureIsAskedForAgain(t *testing.T) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	author, relay, reader := sharefs.PeerID(key.Public().(ed25519.PublicKey)), sharefs.PeerID{1}, sharefs.PeerID{2}
	part, err := trust.ParsePattern("part")
	if err != nil {
		t.Fatal(err)
	}
	policy := trust.Policy{}.Grant(trust.Rule{Peer: author, Level: trust.Write}).Grant(trust.Rule{Peer: relay, Level: trust.Read}).Grant(trust.Rule{Peer: reader, Level: trust.Read, Pattern: part})
	var db rows
	took, anew := 0, 0
	log := Log{Policy: func() trust.Policy { return policy }, Took: func() { took++ }, Anew: func(time.Duration) { anew++ }, Stop: func() error { return nil }}
	open := func() {
		r, err := replica.Open(replica.Config{Tree: noTree{}, Store: &db, Self: sharefs.PeerID{9}, Keys: oneShare{}, Counts: everybody, Standing: merged,
			Scope: func(peer sharefs.PeerID) (replica.Scope, bool) { return Scope(policy, peer) }})
		if err != nil {
			t.Fatal(err)
		}
		log.Use(r)
	}
	open()
	var ids []record.ID
	var good, forged []*record.Record
	for i := range byte(3) {
		rec, err := record.New(record.ShareID{1}, author, sharefs.HLC(5+i), &record.Place{File: sharefs.FileID{i + 1}, Type: record.Regular, Name: []string{"a", "part", "c"}[i]})
		if err == nil {
			err = rec.Sign(key)
		}
		if err != nil {
			t.Fatal(err)
		}
		raw := bytes.Clone(rec.Bytes())
		raw[len(raw)-1] ^= 1
		other, err := record.Decode(raw)
		if err != nil {
			t.Fatal(err)
		}
		ids, good, forged = append(ids, rec.ID()), append(good, rec), append(forged, other)
	}
	w := record.Writer{Share: record.ShareID{1}, Head: record.Head{Author: author, Incarnation: 1}}
	batch, err := w.Batch(9, ids, key)
	if err != nil {
		t.Fatal(err)
	}
	name, at := exchange.LogID{1}, uint64(0)
	take := func(from sharefs.PeerID, list []*record.Record) {
		t.Helper()
		if err := log.Take(from, name, []exchange.Item{{Batch: batch, Records: list}}, 1); err != nil {
			t.Fatal(err)
		}
	}
	told := func() (list []record.ID) {
		t.Helper()
		items, err := log.Since(reader, log.ID(reader), at, 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range items {
			at = i.Next
			for _, rec := range i.Records {
				list = append(list, rec.ID())
			}
		}
		return list
	}
	asked := func(want bool) {
		t.Helper()
		if n, err := log.Have(relay, name); err != nil || (n == 0) != want {
			t.Errorf("asked for again: %d %v", n, err)
		}
	}
	take(relay, forged)
	asked(false)
	if list := told(); len(list) != 0 || anew != 1 {
		t.Fatalf("%v are told, and asked for again %d times", list, anew)
	}
	take(relay, forged) // what was under way
	asked(true)
	open()
	was := took
	take(relay, forged)
	if list := told(); len(list) != 0 || anew != 1 || took != was {
		t.Fatalf("%v are told, and asked for again %d times", list, anew)
	}
	take(relay, good)
	if list := told(); !slices.Equal(list, ids[1:2]) || took != was+1 {
		t.Fatalf("%v are told", list)
	}
	if list := told(); len(list) != 0 || anew != 1 {
		t.Fatalf("%v are told again", list)
	}
	open()
	at = 0
	if list := told(); !slices.Equal(list, ids[1:2]) || anew != 1 {
		t.Fatalf("%v are told to one who has nothing", list)
	}
}
