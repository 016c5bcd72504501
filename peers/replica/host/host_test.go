package host

import (
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/internal/keyring"
	"sharefs/peers/record"
	"sharefs/peers/replica"
	"sharefs/versions"
)

var (
	share = record.ShareID(keyring.New([32]byte{}).Share()) // of trees that are opened without a key
	root  = versions.Caller{}
)

// site is a host: a tree, its replica, and whom it asks for chunks.
type site struct {
	t        testing.TB
	dir      string
	self     sharefs.PeerID
	key      ed25519.PrivateKey
	tree     *versions.Tree
	store    *failing
	rep      *replica.Replica
	all      []*site
	off      bool               // chunks do not come
	open     []*versions.Handle // of programs that write
	keys     keys               // nil: those of its tree
	ring     keyring.Ring
	standing func(sharefs.PeerID) replica.Standing
	bulk     func(sharefs.PeerID) replica.Bulk
	revoked  map[sharefs.PeerID]bool               // by the owner; nothing of them counts
	part     func(*record.Record) replica.Standing // of records, if it is not the same for all of an author
	most     uint64                                // records of another host
	wrote    func()                                // is told of each part that was written down; nil: nobody is
	staging  func()                                // happens while contents are made ready; nil: nothing
	putting  func() error                          // happens before a file is made, and may have that fail; nil: nothing
	named    func(name string)                     // happens when something was given a name; nil: nothing
	listing  func(most int) int                    // how many marks are listed at a time; nil: as many as are asked for
	damaged  string                                // content of which it cannot be told whether it is here
	unread   map[sharefs.Ino]string                // inodes of which something cannot be read: "attr", "content" or "names"
	chance   chance                                // of ids and of the order of names
	now      func() time.Time
}

// chance is what is random on a host.
type chance struct {
	mu  sync.Mutex // guards all; the tree and the replica draw from it
	all *rand.ChaCha8
}

func (c *chance) Read(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.all.Read(b)
}

// sites returns hosts. With a seed their ids, the order in which each looks at the names of a directory, and the times of their records follow from it. What is left to chance is which inodes the
// files of others get, and with that in which order what changed in them is told.
func sites(t testing.TB, n int, seed ...uint64) []*site {
	t.Helper()
	now := time.Now
	if len(seed) == 0 {
		seed = []uint64{rand.Uint64()}
	} else { // in the real time several records are of one instant, in the order of their hashes, which hold times of files
		var asked atomic.Int64
		now = func() time.Time {
			return time.Unix(1_700_000_000, 0).Add(time.Duration(asked.Add(1)) * time.Millisecond)
		}
	}
	all := make([]*site, n)
	for i := range all {
		key := make([]byte, ed25519.SeedSize)
		key[0] = byte(i + 1)
		var of [32]byte
		binary.BigEndian.PutUint64(of[:], seed[0])
		of[8] = byte(i)
		s := &site{t: t, dir: t.TempDir(), now: now, chance: chance{all: rand.NewChaCha8(of)}, key: ed25519.NewKeyFromSeed(key), all: all,
			standing: func(sharefs.PeerID) replica.Standing { return replica.Merged }, revoked: map[sharefs.PeerID]bool{}}
		copy(s.self[:], s.key.Public().(ed25519.PublicKey))
		check(t, os.Mkdir(filepath.Join(s.dir, "peers"), 0o700))
		all[i] = s
		s.start()
		t.Cleanup(func() { s.close() })
	}
	return all
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (s *site) start() {
	s.t.Helper()
	var err error
	s.tree, err = versions.Open(versions.Config{Dir: s.dir, Peer: s.self, Settle: time.Millisecond, Pause: time.Minute, Keys: s.ring,
		KeepKeys: func(r keyring.Ring) error { s.ring = r; return nil }, Random: func(b []byte) { s.chance.Read(b) }}) //nolint:errcheck // it returns none
	check(s.t, err)
	db, err := OpenStore(filepath.Join(s.dir, "peers"))
	check(s.t, err)
	s.store = &failing{Store: db}
	s.openReplica()
}

// keys are shares of which a host is said to have the first key, the one in use first.
type keys []record.ShareID

func (k keys) Share() record.ShareID           { return k[0] }
func (k keys) Takes(share record.ShareID) bool { return slices.Contains(k, share) }
func (k keys) Has(key sharefs.KeyID) bool      { return slices.Contains(k, record.ShareID(key)) }

func (s *site) openReplica() {
	s.t.Helper()
	var err error
	var keys replica.Keys = Keys{s.tree}
	if s.keys != nil {
		keys = s.keys
	}
	s.rep, err = replica.Open(replica.Config{
		Most: func(sharefs.PeerID) uint64 { return s.most },
		Wrote: func() {
			if s.wrote != nil {
				s.wrote()
			}
		},
		Tree: eventful{s.as(), s}, Store: s.store, Keys: keys, Self: s.self, Key: s.key, Rand: &s.chance, Now: s.now,
		Counts: func(author sharefs.PeerID) bool {
			return !s.revoked[author] && s.standing(author) != replica.PassedOver
		},
		Revoked: func(author sharefs.PeerID) (replica.Bulk, bool) { return tenAtMost(author), s.revoked[author] },
		Standing: func(rec *record.Record) replica.Standing {
			if s.revoked[rec.Author] {
				return replica.PassedOver
			}
			if s.part != nil {
				return s.part(rec)
			}
			return s.standing(rec.Author)
		},
		Bulk: s.bulk,
	})
	check(s.t, err)
}

// eventful is a tree in which something happens while contents are made ready.
type eventful struct {
	Tree
	s *site
}

func (e eventful) Stage(list []replica.Ready) ([]replica.Staged, []error, error) {
	if e.s.staging != nil {
		e.s.staging()
	}
	return e.Tree.Stage(list)
}

func (e eventful) Put(dir sharefs.Ino, name string, n replica.New) (sharefs.Ino, error) {
	if e.s.putting != nil {
		if err := e.s.putting(); err != nil {
			return 0, err
		}
	}
	ino, err := e.Tree.Put(dir, name, n)
	e.has(name, err)
	return ino, err
}

func (e eventful) Link(ino, dir sharefs.Ino, name string) error {
	err := e.Tree.Link(ino, dir, name)
	e.has(name, err)
	return err
}

func (e eventful) Pass(from, to replica.Name) error {
	err := e.Tree.Pass(from, to)
	e.has(to.Name, err)
	return err
}

// has has something happen behind what gave a name.
func (e eventful) has(name string, err error) {
	if e.s.named != nil && err == nil {
		e.s.named(name)
	}
}

func (e eventful) Sync() error {
	if e.s.store.syncs++; e.s.store.quick {
		return nil
	}
	return e.Tree.Sync()
}

func (e eventful) Changes(after replica.Mark, most int) ([]replica.Mark, error) {
	if e.s.listing != nil {
		if most = e.s.listing(most); most == 0 {
			return nil, nil
		}
	}
	return e.Tree.Changes(after, most)
}

// spoilt is the error of an inode of which something cannot be read.
func (e eventful) spoilt(ino sharefs.Ino, what string) error {
	if e.s.unread[ino] == what {
		return &sharefs.Error{Op: "read a backing file", Kind: sharefs.KindOther, Err: unix.EIO}
	}
	return nil
}

func (e eventful) Getattr(ino sharefs.Ino) (sharefs.Attr, error) {
	if err := e.spoilt(ino, "attr"); err != nil {
		return sharefs.Attr{}, err
	}
	return e.Tree.Getattr(ino)
}

func (e eventful) Latest(ino sharefs.Ino) (uint64, *record.Version, error) {
	if err := e.spoilt(ino, "content"); err != nil {
		return 0, nil, err
	}
	return e.Tree.Latest(ino)
}

func (e eventful) NameAt(dir sharefs.Ino, cookie uint64) (sharefs.Dentry, bool, error) {
	if err := e.spoilt(dir, "names"); err != nil {
		return sharefs.Dentry{}, false, err
	}
	return e.Tree.NameAt(dir, cookie)
}

func (e eventful) Here(v *record.Version) (bool, error) {
	if e.s.damaged != "" && v.Content() == e.s.damaged {
		return false, sharefs.KindCorrupt
	}
	return e.Tree.Here(v)
}

func (s *site) as() Tree { return Tree{Tree: s.tree, Cause: new(versions.Cause)} }

// Want and Get have a host ask all others for chunks.
func (s *site) Want(int, ...sharefs.ChunkID) {}

func (s *site) Get(_ int, id sharefs.ChunkID, _ func([]byte) bool) ([]byte, error) {
	for _, o := range s.all {
		if o == s || s.off || o.tree == nil {
			continue
		}
		if b, err := o.tree.Chunk(id, nil); err == nil {
			return b, nil
		}
	}
	return nil, &sharefs.Error{Op: "fetch", Kind: sharefs.KindNotExist, Detail: "nobody has it"}
}

// apply does what is possible and returns how many names wait.
func (s *site) apply() (waiting int, err error) {
	s.t.Helper()
	list, err := s.rep.Wanted(1<<20, nil)
	check(s.t, err)
	l, _, err := s.tree.Gather(Contents(list), s)
	check(s.t, err)
	defer l.End()
	return s.rep.Apply()
}

func (s *site) close() {
	if s.tree == nil {
		return
	}
	check(s.t, s.tree.Close())
	check(s.t, s.store.Close())
	s.tree = nil
}

func (s *site) reopen() { s.close(); s.start() }

// settle waits until what was written is in packs, so that the author can tell of it.
func (s *site) settle() {
	s.t.Helper()
	for until := time.Now().Add(time.Minute); time.Now().Before(until); time.Sleep(time.Millisecond) {
		if s.rested() {
			return
		}
	}
	s.t.Fatal("files do not come to rest")
}

func (s *site) rested() bool {
	done := true
	s.walk(sharefs.RootIno, "", func(_ string, a sharefs.Attr) {
		if !a.IsRegular() {
			return
		}
		if l, err := s.tree.Latest(a.Ino); err != nil || a.Changing || l.Own > 0 && !l.Kept || l.Own == 0 && a.Size > 0 {
			done = false
		}
	})
	return done
}

// walk calls fn for everything below a directory, in the order of names.
func (s *site) walk(dir sharefs.Ino, path string, fn func(path string, a sharefs.Attr)) {
	s.t.Helper()
	var list []sharefs.Dentry
	check(s.t, s.tree.ReadDir(dir, 0, false, func(d sharefs.Dentry, _ *sharefs.Attr) bool { list = append(list, d); return true }))
	slices.SortFunc(list, func(a, b sharefs.Dentry) int { return strings.Compare(a.Name, b.Name) })
	for _, d := range list {
		a, err := s.tree.Getattr(d.Ino)
		check(s.t, err)
		fn(path+d.Name, a)
		if a.IsDir() {
			s.walk(d.Ino, path+d.Name+"/", fn)
		}
	}
}

// shows describes the live tree.
func (s *site) shows() string {
	s.t.Helper()
	var b strings.Builder
	links := map[sharefs.Ino]string{}
	s.walk(sharefs.RootIno, "", func(path string, a sharefs.Attr) {
		fmt.Fprintf(&b, "%s %o", path, a.Mode)
		switch {
		case a.IsSymlink():
			target, err := s.tree.Readlink(a.Ino)
			check(s.t, err)
			fmt.Fprintf(&b, " to %s", target)
		case a.IsRegular():
			if links[a.Ino] == "" {
				links[a.Ino] = path
			}
			fmt.Fprintf(&b, " %q is %s", s.read(a.Ino), links[a.Ino])
			if a.Size > 0 { // an empty one may be made anew on each host
				fmt.Fprintf(&b, " of %d", a.Mtime)
			}
		}
		xattrs, err := s.as().Xattrs(a.Ino)
		check(s.t, err)
		fmt.Fprintf(&b, " %q\n", xattrs)
	})
	return b.String()
}

func (s *site) read(ino sharefs.Ino) string {
	s.t.Helper()
	h, err := s.tree.Open(ino, unix.O_RDONLY, root)
	check(s.t, err)
	defer h.Close()
	b := make([]byte, 1<<20)
	n, err := h.ReadAt(b, 0)
	check(s.t, err)
	return string(b[:n])
}

// find looks a path up; 0: it is not there.
func (s *site) find(path string) sharefs.Ino {
	ino := sharefs.RootIno
	for _, name := range strings.Split(path, "/") {
		if name == "" {
			continue
		}
		d, ok, err := s.tree.Slot(ino, name)
		check(s.t, err)
		if !ok {
			return 0
		}
		ino = d.Ino
	}
	return ino
}

func (s *site) at(path string) (sharefs.Ino, string) {
	s.t.Helper()
	dir, name := filepath.Split(path)
	return s.find(dir), name
}

func (s *site) write(path, content string) {
	s.t.Helper()
	dir, name := s.at(path)
	a, h, err := s.tree.Create(dir, name, unix.O_RDWR|unix.O_TRUNC, 0o644, root)
	check(s.t, err)
	if content != "" {
		_, err = h.WriteAt([]byte(content), 0)
		check(s.t, err)
	}
	check(s.t, h.Close())
	s.tree.Forget(a.Ino, 1)
}

func (s *site) mkdir(path string) {
	s.t.Helper()
	dir, name := s.at(path)
	a, err := s.tree.Mkdir(dir, name, 0o755, root)
	check(s.t, err)
	s.tree.Forget(a.Ino, 1)
}

func (s *site) rename(from, to string) {
	s.t.Helper()
	a, x := s.at(from)
	b, y := s.at(to)
	check(s.t, s.tree.Rename(a, x, b, y, 0))
}

func (s *site) unlink(path string) {
	s.t.Helper()
	dir, name := s.at(path)
	check(s.t, s.tree.Unlink(dir, name))
}

// tell writes down what changed.
func (s *site) tell() {
	s.t.Helper()
	_, err := s.rep.Author()
	check(s.t, err)
}

// hear takes items of another host that hold up to some records, or one item.
func (s *site) hear(o *site, most int) int {
	s.t.Helper()
	log, at, err := s.rep.Cursor(o.self)
	check(s.t, err)
	if log != o.rep.Log() {
		at = 0
	}
	items, next, err := o.rep.Since(at, most)
	check(s.t, err)
	_, err = s.rep.Take(o.self, travel(s.t, items))
	check(s.t, err)
	check(s.t, s.rep.SetCursor(o.self, o.rep.Log(), next))
	return len(items)
}

// travel returns items as they come over a wire.
func travel(t testing.TB, items []replica.Item) (all []replica.Item) {
	t.Helper()
	for _, i := range items {
		back, err := replica.DecodeItem(i.Append(nil))
		check(t, err)
		all = append(all, back)
	}
	return all
}

// records lists all records that a host has taken.
func (s *site) records() (all []*record.Record) {
	s.t.Helper()
	items, _, err := s.rep.Since(0, 1<<30)
	check(s.t, err)
	twice := map[record.ID]bool{}
	for _, i := range items {
		for _, rec := range i.Records {
			if !twice[rec.ID()] {
				twice[rec.ID()] = true
				all = append(all, rec)
			}
		}
	}
	return all
}

// meet has hosts tell each other everything until nothing is new.
func meet(t testing.TB, all ...*site) {
	t.Helper()
	for _, s := range all {
		s.settle()
	}
	var trouble []string
	for round := range 20 {
		more, waiting := 0, 0
		for _, s := range all {
			s.tell()
			for _, o := range all {
				if o != s {
					o.tell()
					more += s.hear(o, 1<<20)
				}
			}
			n, err := s.apply()
			if err != nil {
				t.Fatalf("%d names wait: %v", n, err)
			}
			waiting += n
			if round >= 18 && n > 0 {
				trouble = append(trouble, fmt.Sprintf("%s: %d wait: %v", s.self.Short(), n, err))
			}
			s.settle()
		}
		if more+waiting == 0 {
			return
		}
	}
	t.Fatalf("they do not come to an end: %q", trouble)
}

// same holds that hosts have one tree.
func same(t testing.TB, all ...*site) {
	t.Helper()
	for _, s := range all[1:] {
		if a, b := all[0].shows(), s.shows(); a != b {
			t.Fatalf("the trees differ:\n%s\nagainst\n%s", a, b)
		}
	}
}

func TestAFileAppears(t *testing.T) {
	all := sites(t, 2)
	a, b := all[0], all[1]
	a.mkdir("d")
	a.write("d/f", "hello")
	meet(t, all...)
	same(t, all...)
	if got := b.shows(); !strings.Contains(got, `d/f 100644 "hello"`) {
		t.Fatalf("b has\n%s", got)
	}
	b.write("d/f", "hello from b")
	meet(t, all...)
	same(t, all...)
	if got := a.read(a.find("d/f")); got != "hello from b" {
		t.Fatalf("a has %q", got)
	}
	v, err := a.tree.Versions(a.find("d/f"))
	check(t, err)
	if n := len(v); n != 2 || v[0].Author != a.self || v[1].Author != b.self {
		t.Fatalf("the history on a is %+v", v)
	}
	a.reopen()
	b.rename("d/f", "g")
	a.mkdir("e")
	b.unlink("g")
	b.write("g", "another")
	meet(t, all...)
	same(t, all...)
	if got, err := a.rep.Author(); got != 0 || err != nil {
		t.Fatalf("what was applied is written down: %d %v", got, err)
	}
}

// A new file is not told of before it is whole, neither while somebody writes it nor while its content is not kept yet, and it does not appear before its content is there.
func TestAFileAppearsWhole(t *testing.T) {
	for _, walked := range []bool{false, true} {
		t.Run(fmt.Sprint(walked), func(t *testing.T) {
			all := sites(t, 2)
			a, b := all[0], all[1]
			if walked {
				a.write("before", "x")
				meet(t, all...)
			}
			made, h, err := a.tree.Create(sharefs.RootIno, "f", unix.O_RDWR, 0o644, root)
			check(t, err)
			a.tree.Forget(made.Ino, 1)
			empty, e, err := a.tree.Create(sharefs.RootIno, "empty", unix.O_RDWR, 0o644, root)
			check(t, err)
			a.tree.Forget(empty.Ino, 1)
			a.mkdir("d")
			hear := func() {
				a.tell()
				b.hear(a, 1<<20)
				_, err := b.apply()
				check(t, err)
			}
			hear()
			_, err = h.WriteAt([]byte("whole"), 0)
			check(t, err)
			hear()
			if b.find("d") == 0 || b.find("f") != 0 || b.find("empty") != 0 {
				t.Fatalf("b has\n%s", b.shows())
			}
			for len(a.tree.Changed()) > 0 {
				<-a.tree.Changed()
			}
			check(t, e.Close())
			select {
			case <-a.tree.Changed():
			case <-time.After(time.Minute):
				t.Fatal("nobody is told that a file came to rest")
			}
			check(t, h.Close())
			a.settle()
			b.off = true
			hear()
			if b.find("f") != 0 || b.find("empty") == 0 {
				t.Fatalf("b has\n%s", b.shows())
			}
			b.off = false
			hear()
			same(t, all...)
			if got := b.read(b.find("f")); got != "whole" {
				t.Fatalf("b has %q", got)
			}
		})
	}
}

// A directory that is made under the name of one that was renamed or removed just before is another one, and nothing happens to it.
func TestADirectoryTakesAName(t *testing.T) {
	all := sites(t, 2)
	a := all[0]
	const many = 8 // which of two is shown hangs on their ids
	for i := range many {
		a.mkdir(fmt.Sprint("moved", i))
		a.write(fmt.Sprint("moved", i, "/f"), "old")
		a.mkdir(fmt.Sprint("removed", i))
	}
	meet(t, all...)
	for i := range many {
		a.rename(fmt.Sprint("moved", i), fmt.Sprint("x", i))
		a.mkdir(fmt.Sprint("moved", i))
		a.write(fmt.Sprint("moved", i, "/f"), "new")
		name := fmt.Sprint("removed", i)
		check(t, a.tree.Rmdir(sharefs.RootIno, name))
		a.mkdir(name)
	}
	before := a.shows()
	meet(t, all...)
	same(t, all...)
	if after := a.shows(); after != before {
		t.Errorf("there was\n%s\nand is\n%s", before, after)
	}
}
