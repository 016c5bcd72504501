package versions

import (
	"errors"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/versions/writers"
)

// heldInPlace is a hook that has an adoption wait at a place until it is let go, once.
func heldInPlace(want string) (hook func(string) error, there <-chan struct{}, letGo func()) {
	at, on := make(chan struct{}), make(chan struct{})
	var once, free sync.Once
	return func(place string) error {
		if place == want {
			once.Do(func() {
				close(at)
				<-on
			})
		}
		return nil
	}, at, func() { free.Do(func() { close(on) }) }
}

// waitsFor lists calls that wait for an adoption.
func waitsFor(tree *Tree, ino sharefs.Ino, name string) map[string]func(Caller) error {
	open := func(flags uint32) func(Caller) error {
		return func(who Caller) error {
			h, err := tree.Open(ino, flags, who)
			if err == nil {
				err = h.Close()
			}
			return err
		}
	}
	return map[string]func(Caller) error{
		"read":  open(unix.O_RDONLY),
		"write": open(unix.O_RDWR),
		"cut":   open(unix.O_WRONLY | unix.O_TRUNC),
		"create": func(who Caller) error {
			_, h, err := tree.Create(sharefs.RootIno, name, unix.O_RDWR, 0o644, who)
			if err == nil {
				tree.Forget(ino, 1)
				err = h.Close()
			}
			return err
		},
		"truncate": func(who Caller) error {
			_, err := tree.Setattr(ino, &SetAttr{Size: ptr(uint64(3))}, who)
			return err
		},
		"touch": func(who Caller) error {
			_, err := tree.Setattr(ino, &SetAttr{Mtime: ptr(sharefs.Time(3))}, who)
			return err
		},
	}
}

// wantGivenUp holds that a call which waits ends when its caller gives up.
func wantGivenUp(t *testing.T, name string, call func(Caller) error) {
	t.Helper()
	who, cancel, ended := root, make(chan struct{}), make(chan error)
	who.Cancel = cancel
	go func() { ended <- call(who) }()
	close(cancel)
	if err := <-ended; !errors.Is(err, unix.EINTR) {
		t.Errorf("%s that is given up: %v", name, err)
	}
}

// Whoever waits for an adoption may give up, and does not wait for one that does not get on.
func TestWaitingForAnAdoption(t *testing.T) {
	change := changesInPlace()["a part"]
	p := inPlacePair(t, change, func(c *Config) { c.adoptionStalls = 300 * time.Millisecond })
	h := must[*Handle](t)(p.here.Open(p.ino, unix.O_RDONLY, root))
	defer h.Close()
	hook, there, letGo := heldInPlace("write")
	defer letGo()
	p.here.cfg.adopts = hook
	s, done := staged(t, p.here, p.target), make(chan error)
	go func() {
		_, err := p.here.Adopt(p.ino, s, p.own)
		done <- err
	}()
	<-there
	for name, call := range waitsFor(p.here, p.ino, "f") {
		wantGivenUp(t, name, call)
		if err := call(root); !errors.Is(err, sharefs.KindBusy) {
			t.Errorf("%s: %v", name, err)
		}
	}
	letGo()
	check(t, <-done)
	if !wantOneOf(t, p.here, p.ino, change) {
		t.Error("it is not done")
	}
	// Who wants to change a file waits for others who have it locked, too.
	f := p.here.files.pin(p.ino)
	defer p.here.files.unpin(f)
	for name, call := range waitsFor(p.here, p.ino, "f") {
		if name == "read" {
			continue
		}
		f.content.Lock()
		wantGivenUp(t, name, call)
		f.content.Unlock()
		check(t, f.lock(nil)) // nobody has it who gave up
		f.content.Unlock()
	}
	if !wantOneOf(t, p.here, p.ino, change) {
		t.Error("somebody who gave up changed it")
	}
	wantClean(t, p.here, FsckScrub)
}

// cutShort returns a store of which the daemon was killed in the middle of an adoption.
func cutShort(t *testing.T, change [2]sparse) (dir string, ino sharefs.Ino) {
	t.Helper()
	p := inPlacePair(t, change)
	saveSparse(t, p.here, "other", sparse{text: "other"})
	h := must[*Handle](t)(p.here.Open(p.ino, unix.O_RDONLY, root))
	writes := 0
	p.here.cfg.adopts = func(place string) error {
		if place == "write" {
			if writes++; writes == 2 {
				dir = storeAsKilled(t, p.here.cfg.Dir)
			}
		}
		return nil
	}
	must[uint64](t)(p.here.Adopt(p.ino, staged(t, p.here, p.target), p.own))
	check(t, h.Close())
	return dir, p.ino
}

// A start does not wait for what it finishes: all else can be used, and whoever opens such a file waits for it.
func TestAStartFinishesAnAdoptionBehindIt(t *testing.T) {
	change := changesInPlace()["a part"]
	dir, ino := cutShort(t, change)
	hook, there, letGo := heldInPlace("write")
	tree := testTree(t, dir, func(c *Config) { c.Peer, c.adopts, c.Pause = sharefs.PeerID{1}, hook, time.Millisecond })
	defer letGo()
	<-there
	if got := read(t, tree, lookup(t, tree, sharefs.RootIno, "other").Ino); got != "other" {
		t.Errorf("another file holds %q", got)
	}
	if r := fsckNow(t, tree, FsckFast, false); r.Outcome != OutcomeClean || len(r.Findings) > 0 {
		t.Errorf("%s", r.Text())
	}
	wantGivenUp(t, "open", waitsFor(tree, ino, "f")["read"])
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if read(t, tree, ino) != change[1].text {
				t.Error("it was opened and holds something else")
			}
		})
	}
	letGo()
	wg.Wait()
	wantNoAdoption(t, tree)
	wantPast(t, tree, ino, change[0].text, change[1].text)
	wantClean(t, tree, FsckScrub)
}

// Whoever closes a tree does not wait for what a start has to finish: the next one does.
func TestAdoptionThatAStartFinishesIsStopped(t *testing.T) {
	change := changesInPlace()["a part"]
	dir, ino := cutShort(t, change)
	for range 2 {
		hook, there, letGo := heldInPlace("write")
		tree := testTree(t, dir, func(c *Config) { c.Peer, c.adopts = sharefs.PeerID{1}, hook })
		<-there
		closed := make(chan error)
		go func() { closed <- tree.Close() }()
		for !tree.closed.Load() {
			time.Sleep(time.Millisecond)
		}
		letGo()
		check(t, <-closed)
	}
	after := testTree(t, dir, byHand, func(c *Config) { c.Peer = sharefs.PeerID{1} })
	if !wantOneOf(t, after, ino, change) {
		t.Error("it is not done")
	}
	wantClean(t, after, FsckScrub)
}

// A mixture that nobody has open is replaced by a rename, and whenever the daemon is killed it is whole afterwards.
func TestMixtureIsReplacedByARename(t *testing.T) {
	change := changesInPlace()["a part"]
	dir, ino := cutShort(t, change)
	bad := func(place string) error {
		if place == "written" || place == "back" {
			return unix.EIO
		}
		return nil
	}
	here := testTree(t, dir, byHand, func(c *Config) { c.Peer, c.adopts = sharefs.PeerID{1}, bad })
	there := &other{testTree(t, t.TempDir(), byHand, func(c *Config) { c.Peer = sharefs.PeerID{2} }), t, map[sharefs.ChunkID]bool{}, 0, nil}
	newer := blob(9, 300_000)
	c := newestKept(t, there.Tree, saveSparse(t, there.Tree, "f", sparse{text: newer})).Content
	defer gathered(t, here, there, c).End()
	var stores []string
	here.hooks.settled = func(x *tx, f *file, r *row, ev writers.Event) error { // the new file is there, and no row says so
		if f.ino == ino && here.past.standing(ino).holds == holdsTarget {
			stores = append(stores, storeAsKilled(t, dir))
		}
		return here.past.settled(x, f, r, ev)
	}
	must[uint64](t)(here.Adopt(ino, staged(t, here, Foreign{Content: c, Author: sharefs.PeerID{2}, Onto: ino}), 1))
	check(t, here.unmark()) // a copy of a marked file is not as that was
	stores = append(stores, storeAsKilled(t, dir))
	if len(stores) != 2 {
		t.Fatalf("%d stores", len(stores))
	}
	for i, store := range stores {
		after := testTree(t, store, byHand, func(c *Config) { c.Peer = sharefs.PeerID{1} })
		wantOneOf(t, after, ino, [2]sparse{change[0], {text: []string{change[1].text, newer}[i]}})
		wantClean(t, after, FsckScrub)
	}
	if !wantOneOf(t, here, ino, [2]sparse{change[0], {text: newer}}) {
		t.Error("it is not done")
	}
	wantClean(t, here, FsckScrub)
}
