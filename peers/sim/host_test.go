package sim

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"sharefs"
	"sharefs/peers/converge"
	"sharefs/peers/engine"
	"sharefs/peers/record"
	"sharefs/peers/replica"
)

// host is a peer: a tree, the database of its replica, and the replica as long as it runs.
type host struct {
	w     *world
	index int
	self  sharefs.PeerID
	key   ed25519.PrivateKey
	skew  time.Duration // of its clock against that of the world
	rnd   *rand.Rand    // of the step at work
	tree  *tree
	disk  *disk
	rep   *replica.Replica // nil: it is down
	saved *saved           // an image of its disk; nil: there is none
	calm  bool             // and that all was told when it was made
	bulk  replica.Bulk     // what others may remove and rename here
	fuse  int              // the host crashes at that call of tree or disk from now; 0: not
}

func newHost(w *world, i int) *host {
	h := &host{w: w, index: i, rnd: w.rng(uint64(i)), key: keyOf(byte(i + 1))}
	h.self = peerOf(h.key)
	h.tree, h.disk = newTree(h), newDisk(h)
	return h
}

func keyOf(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

func peerOf(key ed25519.PrivateKey) (id sharefs.PeerID) {
	copy(id[:], key.Public().(ed25519.PublicKey))
	return id
}

func (h *host) String() string { return fmt.Sprintf("host %d", h.index) }

func (h *host) now() time.Time {
	at := h.w.clock.Add(h.skew)
	if at.After(h.w.latest) {
		h.w.latest = at
	}
	return at
}

// chance is true once in n times.
func (h *host) chance(n int) bool { return h.rnd.IntN(n) == 0 }

// crashed is what a host that crashes panics with.
type crashed struct{ h *host }

// tick counts down to a crash.
func (h *host) tick() {
	if h.fuse > 0 {
		if h.fuse--; h.fuse == 0 {
			panic(crashed{h})
		}
	}
}

// mayCrash has the host crash once in n times, unless all is to come to rest.
func (h *host) mayCrash(n int) {
	if !h.w.still && h.chance(n) {
		panic(crashed{h})
	}
}

// open starts the replica.
func (h *host) open() {
	h.run(func() {
		config := replica.Config{
			Tree: h.tree, Store: h.disk, Keys: keys{}, Self: h.self, Key: h.key, Now: h.now, Rand: h,
			Counts:   func(author sharefs.PeerID) bool { return h.w.standing(h, author) != replica.PassedOver },
			Bulk:     func(sharefs.PeerID) replica.Bulk { return h.bulk },
			Standing: func(rec *record.Record) replica.Standing { return h.w.standing(h, rec.Author) },
			Revoked: func(author sharefs.PeerID) (replica.Bulk, bool) {
				return replica.Bulk{}, h.w.revoked != nil && author == h.w.revoked.self && h.w.strange[[2]int{h.index, h.w.revoked.index}]
			},
		}
		if p := h.w.parts; p != nil {
			config.Where = func(author sharefs.PeerID) (replica.Where, bool) { return engine.Where(p.policy(h), author) }
			config.Scope = func(peer sharefs.PeerID) (replica.Scope, bool) { return engine.Scope(p.policy(h), peer) }
		}
		rep, err := replica.Open(config)
		if err != nil && !errors.Is(err, errDisk) {
			h.w.fail("%s does not open: %v", h, err)
		}
		if err == nil {
			h.rep = rep
		}
	})
}

// run does something on a host; if it crashes, it is down.
func (h *host) run(do func()) (whole bool) {
	defer func() {
		switch c := recover().(type) {
		case nil:
			whole = true
		case crashed:
			h.down(h.chance(2))
		default:
			panic(c)
		}
	}()
	do()
	return true
}

// down ends the replica: by a loss of power, or alone, when nothing is lost that was committed.
func (h *host) down(power bool) {
	h.rep, h.fuse = nil, 0
	h.w.cut(h, nil)
	if power && !h.w.even {
		h.tree.crash(h.rnd.IntN)
		h.disk.crash(h.rnd.IntN)
		h.w.log("%s loses power", h)
		return
	}
	h.w.log("%s ends", h)
}

// saved is an image of a host's disk.
type saved struct {
	tree image
	rows [][]replica.Row
}

// save makes an image of the disk, as a backup does.
func (h *host) save(calm bool) {
	h.saved, h.calm = &saved{h.tree.clone(), slices.Clone(h.disk.log)}, calm
}

// restore has the disk be as it was, but for packs: or there would be content that nobody has any more.
func (h *host) restore() {
	h.down(false)
	if w := h.w; w.before == nil {
		w.before = map[record.ID]bool{}
		for _, o := range w.hosts {
			maps.Copy(w.before, o.has())
		}
	}
	packs := h.tree.chunks
	h.tree.image = h.saved.tree.clone()
	maps.Copy(h.tree.chunks, packs)
	h.tree.closed()
	h.tree.sync()
	h.disk.log = slices.Clone(h.saved.rows)
	h.disk.replay(len(h.disk.log))
}

// lose takes the database of the replica away.
func (h *host) lose() {
	h.down(false)
	h.disk.replay(0)
}

// up has the host run.
func (h *host) up() bool {
	for range 3 {
		if h.rep != nil {
			return true
		}
		h.open()
	}
	return h.rep != nil
}

// author writes down what changed. If the records were lost, that has to wait until another host has told all that it knows.
func (h *host) author() (n int) {
	if h.w.before != nil {
		before := h.has()
		defer func() {
			had := h.has()
			for id := range had {
				if !before[id] {
					h.w.had[id] = had
				}
			}
		}()
	}
	h.run(func() {
		if h.rep.Lost() {
			if !h.w.heard(h) {
				return
			}
			h.rep.Heard()
		}
		var err error
		n, err = h.rep.Author()
		h.recover("author", err)
	})
	h.settle()
	return n
}

// Read gives numbers that follow from the seed.
func (h *host) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(h.rnd.Uint64())
	}
	return len(b), nil
}

// keys are those of the one share that there is.
type keys struct{}

func (keys) Share() record.ShareID        { return share }
func (keys) Takes(of record.ShareID) bool { return of == share }
func (keys) Has(key sharefs.KeyID) bool   { return key == sharefs.KeyID(share) }

// apply does what the records say, with what can be had of their content.
func (h *host) apply() (waiting int) {
	h.run(func() {
		list, err := h.rep.Wanted(1<<20, nil)
		h.recover("wanted", err)
		for _, r := range list {
			h.gather(r)
		}
		if h.rep == nil {
			return
		}
		waiting, err = h.rep.Apply()
		h.recover("apply", err, sharefs.KindAgain, sharefs.KindUnreachable, sharefs.KindExist, sharefs.KindNotEmpty, sharefs.KindInvalid)
	})
	return waiting
}

// recover goes on after an error, which must be one that there may be.
func (h *host) recover(what string, err error, kinds ...sharefs.Kind) {
	switch {
	case err == nil:
		return
	case errors.Is(err, errDisk):
		h.w.log("%s: the disk fails", h)
		h.down(false)
		return
	}
	for _, k := range kinds {
		if errors.Is(err, k) {
			h.w.log("%s: %s: %v", h, what, err)
			return
		}
	}
	h.w.fail("%s: %s: %v", h, what, err)
}

// gather gets the chunks of a version from those who have them and can be reached.
func (h *host) gather(r *record.Record) {
	for _, s := range r.Body.(*record.Version).Spans {
		for _, o := range h.w.hosts {
			if p, ok := o.tree.chunks[s.ID]; ok && o.rep != nil && h.w.linked(h, o) && h.w.parts.gives(o, h, r.ID()) {
				h.tree.chunks[s.ID] = p
			}
		}
		for _, c := range contents {
			if h.w.intruder != nil && chunkID(c) == s.ID {
				h.tree.chunks[s.ID] = c
			}
		}
	}
}

// allowed holds what nothing from a peer may bring into a tree.
func (h *host) allowed(dir sharefs.Ino, name string, mode uint32) {
	parent := record.Nowhere
	if dir == sharefs.RootIno {
		parent = record.Root
	}
	if parent == record.Root && strings.HasPrefix(name, record.LimboName) {
		return // put aside by this host itself
	}
	if err := record.CheckName(parent, name); err != nil {
		h.w.fail("%s: a peer brings the name %q: %v", h, name, err)
	}
	if mode&^uint32(record.ModeBits) != 0 {
		h.w.fail("%s: a peer brings mode %o", h, mode)
	}
}

// told holds that what a file holds is written down, before that goes away by something that a record says.
func (h *host) told(n *inode) {
	if n.own() == 0 {
		return
	}
	v := record.Version{Size: uint64(len(n.content)), Spans: h.tree.pack(n.content), Key: keyFor(n.content)}
	want := v.Content()
	for _, r := range h.records() {
		if v, ok := r.Says().Body.(*record.Version); ok && v.Content() == want {
			return
		}
	}
	h.w.fail("%s: %q, which no record tells, is taken away", h, n.content)
}

// records returns the records that the host has.
func (h *host) records() (all []*record.Record) {
	_ = h.disk.Scan(spaceRecord, nil, nil, func(_, v []byte) bool {
		r, err := record.Decode(v[1:])
		if err != nil {
			h.w.fail("%s: a record on disk: %v", h, err)
		}
		all = append(all, r)
		return true
	})
	return all
}

// has returns the ids of the versions that the host has.
func (h *host) has() map[record.ID]bool {
	all := map[record.ID]bool{}
	for _, r := range h.records() {
		if r = r.Says(); r.Body.Kind() == record.KindVersion {
			all[r.ID()] = true
		}
	}
	return all
}

// counting returns the records that count for the tree of the host, and the others that it has, by what it has decided.
func (h *host) counting() (all []converge.Input) {
	_ = h.disk.Scan(spaceRecord, nil, nil, func(_, v []byte) bool {
		r, err := record.Decode(v[1:])
		if err != nil {
			h.w.fail("%s: a record on disk: %v", h, err)
		}
		in := converge.Input{Record: r, Standing: converge.Known}
		switch replica.Standing(v[0]) {
		case replica.Merged:
			in.Standing = converge.Merged
		case replica.Leading:
			in.Standing = converge.Leads
		}
		all = append(all, in)
		return true
	})
	return all
}

// spaceRecord is the space of records in the database of a replica: its number and form are on disk.
const spaceRecord = 2
