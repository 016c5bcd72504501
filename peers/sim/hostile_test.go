package sim

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"time"

	"sharefs"
	"sharefs/peers/record"
	"sharefs/peers/replica"
)

// intruder is a peer that says what it likes. What counts of it is the same on all hosts.
type intruder struct {
	key   ed25519.PrivateKey
	self  sharefs.PeerID
	level level
	said  []*record.Record
	chain record.Writer // of its batches
	fork  record.Writer // from where it tells two histories
	two   bool          // it told them
	tells bool          // it also tells what others said, or did not
	cuts  bool          // it says where others end, and nothing else that may be said
}

// level is how far an intruder is trusted.
type level uint8

const (
	stranger level = iota // nothing that it says counts
	proposer              // its versions are known, and change nothing
	writer                // it may write, and writes what no program does
)

func (l level) String() string { return [...]string{"stranger", "proposer", "writer"}[l] }

func newIntruder(l level) *intruder {
	key := keyOf(100 + byte(l))
	i := &intruder{key: key, self: peerOf(key), level: l}
	i.chain = record.Writer{Share: share, Head: record.Head{Author: i.self, Incarnation: 1}}
	i.fork = i.chain
	return i
}

// standing tells what counts of an author.
func (i *intruder) standing() replica.Standing {
	switch i.level {
	case proposer:
		return replica.Proposed
	case writer:
		return replica.Merged
	}
	return replica.PassedOver
}

// forge makes the bytes of a record, whatever is in it; package record says what they are.
func forge(key ed25519.PrivateKey, author sharefs.PeerID, of record.ShareID, at sharefs.HLC, kind byte, body []byte) []byte {
	const domain = "sharefs record 1\n"
	b := append([]byte{record.Format}, of[:]...)
	b = append(b, author[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(at))
	b = append(append(b, kind), body...)
	id := sha256.Sum256(append([]byte(domain), b...))
	return append(b, ed25519.Sign(key, append([]byte(domain), id[:]...))...)
}

// placeBody is the body of a placement with any name.
func placeBody(file sharefs.FileID, typ record.Type, parent sharefs.FileID, name string) []byte {
	b := append([]byte(nil), file[:]...)
	b = binary.BigEndian.AppendUint64(b, 0)
	b = append(append(b, byte(typ)), parent[:]...)
	return append(append(b, byte(len(name))), name...)
}

// unsayable makes the bytes of something that nobody may take, whoever signs it.
func (i *intruder) unsayable(rnd *rand.Rand, now sharefs.HLC, files []sharefs.FileID) []byte {
	file := files[rnd.IntN(len(files))]
	names := []string{"", ".", "..", "a/b", "/etc", "x\x00y", "../a", record.ControlDir}
	attr := func(mode uint16, xattr string) []byte {
		b := binary.BigEndian.AppendUint16(append([]byte(nil), file[:]...), mode)
		b = append(b, 0, 1, byte(len(xattr)))
		return append(append(b, xattr...), 1, 'x')
	}
	switch rnd.IntN(8) {
	case 0, 1, 2:
		return forge(i.key, i.self, share, now, record.KindPlace, placeBody(sharefs.FileID{1, byte(rnd.Int())}, record.Regular, record.Root, names[rnd.IntN(len(names))]))
	case 3:
		return forge(i.key, i.self, share, now, record.KindPlace, placeBody(file, record.Type(4+rnd.IntN(9)), record.Root, "device"))
	case 4:
		return forge(i.key, i.self, share, now, record.KindAttr, attr(uint16(0o6000|rnd.IntN(0o1000)), "user.a"))
	case 5:
		return forge(i.key, i.self, share, now, record.KindAttr, attr(0o644, []string{"security.capability", "trusted.x", "system.posix_acl_access"}[rnd.IntN(3)]))
	case 6: // more spans than bytes, or a list without end
		b := append(append([]byte(nil), file[:]...), 0)
		b = binary.BigEndian.AppendUint64(b, 0)
		b = binary.BigEndian.AppendUint64(append(b, 1), 1<<40)
		return forge(i.key, i.self, share, now, record.KindVersion, append(b, 0, 0xff, 0xff, 0xff, 0xff, 0x7f))
	}
	return forge(i.key, i.self, share, now, byte(5+rnd.IntN(200)), file[:])
}

// untrue makes the bytes of a record that is well formed and not what it says: of another author, another share, another time, or changed on the way.
func (i *intruder) untrue(rnd *rand.Rand, now sharefs.HLC, victim sharefs.PeerID, files []sharefs.FileID) []byte {
	body := placeBody(files[rnd.IntN(len(files))], record.Regular, record.Nowhere, "")
	body = append(body, 0)
	switch rnd.IntN(4) {
	case 0:
		return forge(i.key, victim, share, now, record.KindPlace, body)
	case 1:
		return forge(i.key, i.self, record.ShareID{9}, now, record.KindPlace, body)
	case 2:
		ahead := sharefs.HLC(uint64(time.Hour/time.Millisecond) << (16 + rnd.IntN(20)))
		return forge(i.key, i.self, share, now+ahead, record.KindPlace, body)
	}
	b := forge(i.key, i.self, share, now, record.KindPlace, body)
	b[rnd.IntN(len(b))] ^= 1 << rnd.IntN(8)
	return b
}

// mischief makes a record that may be said and that nobody would say: circles, files that become directories, removals of what it never saw, and versions of all
// that came before.
func (i *intruder) mischief(rnd *rand.Rand, now sharefs.HLC, all []*record.Record, files []sharefs.FileID, types map[sharefs.FileID]record.Type) *record.Record {
	file := files[rnd.IntN(len(files))]
	if rnd.IntN(6) == 0 {
		binary.BigEndian.PutUint64(file[:], rnd.Uint64())
	}
	typ := types[file]
	if typ == 0 || rnd.IntN(20) == 0 {
		typ = record.Type(1 + rnd.IntN(3))
	}
	seen := func(most int) (ids []record.ID) {
		for _, r := range all {
			if v, ok := r.Body.(*record.Version); ok && v.File == file && rnd.IntN(2) == 0 && len(ids) < most {
				ids = append(ids, r.ID())
			}
		}
		slices.SortFunc(ids, record.ID.Compare)
		return slices.Compact(ids)
	}
	at := now - sharefs.HLC(rnd.IntN(100_000))<<16
	if i.tells && len(all) > 0 && rnd.IntN(2) == 0 {
		return i.tell(rnd, now, all)
	}
	var body record.Body
	switch rnd.IntN(8) {
	case 0, 1, 2, 3:
		parent := files[rnd.IntN(len(files))]
		if rnd.IntN(3) == 0 {
			parent = record.Root
		}
		name := string(rune('a' + rnd.IntN(5)))
		if rnd.IntN(10) == 0 {
			name = []string{".sharefs-moving-a", "\x1b[31m", "CON", " "}[rnd.IntN(4)]
		}
		link := uint64(0)
		if typ != record.Directory {
			link = uint64(rnd.IntN(3))
		}
		body = &record.Place{File: file, Link: link, Type: typ, Parent: parent, Name: name}
	case 4, 5:
		body = &record.Place{File: file, Type: typ, Parent: record.Nowhere, Seen: seen(record.MaxSeen)}
	case 6:
		v := &record.Version{File: file, Parents: seen(record.MaxParents)}
		if typ == record.Symlink {
			v.Target = []string{"../../etc/passwd", "elsewhere"}[rnd.IntN(2)]
		} else if spans := contents[rnd.IntN(len(contents))]; spans != "" {
			v.Size, v.Spans = uint64(len(spans)), []record.Span{{Len: uint64(len(spans)), ID: chunkID(spans)}}
			v.Key = keyFor(spans)
		}
		body = v
	default:
		body = &record.Attr{File: file, Mode: uint16(rnd.IntN(0o1000))}
	}
	r, err := record.New(share, i.self, max(at, 1), body)
	if err != nil || r.Sign(i.key) != nil {
		return nil
	}
	return r
}

// contents are what an intruder writes; it gives them to whoever asks.
var contents = []string{"", "mine", "mine too"}

// item is a record as it is sent alone; package replica says how.
func item(record []byte) []byte {
	return append(binary.AppendUvarint([]byte{2}, uint64(len(record))), record...)
}

// single encodes records that are in no batch.
func single(list []*record.Record) (all [][]byte) {
	for _, r := range list {
		all = append(all, item(r.Bytes()))
	}
	return all
}

// intrude has an intruder say something to a host.
func (w *world) intrude(i *intruder, h, o *host, rnd *rand.Rand) {
	if h.rep == nil {
		return
	}
	h.rnd = rnd
	types := map[sharefs.FileID]record.Type{}
	all := append(h.records(), i.said...)
	for _, r := range all {
		if p, ok := r.Body.(*record.Place); ok {
			types[p.File] = p.Type
		}
	}
	files := []sharefs.FileID{{1}}
	for id := range types {
		files = append(files, id)
	}
	slices.SortFunc(files, func(a, b sharefs.FileID) int { return slices.Compare(a[:], b[:]) })
	now := sharefs.HLCAt(h.now())
	switch verb := rnd.IntN(8); {
	case verb > 1 && i.cuts:
		w.cuts(i, h, rnd)
	case verb == 0:
		h.take([][]byte{item(i.unsayable(rnd, now, files))})
	case verb == 1:
		h.take([][]byte{item(i.untrue(rnd, now, o.self, files))})
	case verb == 2 && len(i.said) > 0: // it says the same to somebody else, and what others said again
		h.take(single(i.said[:1+rnd.IntN(len(i.said))]))
	default:
		var news []*record.Record
		for range 1 + rnd.IntN(1+rnd.IntN(20)) {
			if r := i.mischief(rnd, now, all, files, types); r != nil {
				news, all = append(news, r), append(all, r)
			}
		}
		switch {
		case len(news) == 0:
		case verb < 5:
			h.take([][]byte{i.batch(rnd, now, news)})
		default:
			i.said = append(i.said, news...)
			h.take(single(news))
		}
	}
}

// tell makes a record that tells what another author said, or what he might have said.
func (i *intruder) tell(rnd *rand.Rand, now sharefs.HLC, all []*record.Record) *record.Record {
	of := all[rnd.IntN(len(all))]
	author, at := of.Author, of.HLC
	if rnd.IntN(3) == 0 {
		at = now - sharefs.HLC(1+rnd.IntN(100_000))<<16
	}
	if author == i.self {
		author = all[0].Author
	}
	inner, err := record.New(share, author, at, of.Says().Body)
	if err != nil {
		return nil
	}
	r, err := record.New(share, i.self, max(now, at+1), &record.Told{Record: inner})
	if err != nil || r.Sign(i.key) != nil {
		return nil
	}
	return r
}

// batch makes a batch of records: the next one, or one of a second history.
func (i *intruder) batch(rnd *rand.Rand, now sharefs.HLC, list []*record.Record) []byte {
	w := &i.chain
	switch rnd.IntN(6) {
	case 0:
		i.fork = i.chain
	case 1:
		w, i.two = &i.fork, true
	}
	var ids []record.ID
	var some []*record.Record
	for _, r := range list {
		if !slices.Contains(ids, r.ID()) {
			ids, some = append(ids, r.ID()), append(some, r)
			now = max(now, r.HLC)
		}
	}
	b, err := w.Batch(now, ids, i.key)
	if err != nil {
		panic(err)
	}
	item := replica.Item{Batch: b, Records: some}
	return item.Append(nil)
}
