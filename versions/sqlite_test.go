package versions

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
)

// fakeHold holds nothing.
type fakeHold struct {
	file, log sharefs.Ino
	lost      bool // it was not held for long enough
	released  *int
}

func (h fakeHold) Files() (file, log sharefs.Ino) { return h.file, h.log }

func (h fakeHold) Release() bool {
	*h.released++
	return !h.lost
}

// openDatabase makes the files of a database that stay open for writing until the test ends.
func openDatabase(t *testing.T, tree *Tree, dir sharefs.Ino) (file, log, journal sharefs.Ino) {
	t.Helper()
	open := func(name, text string) sharefs.Ino {
		a, h, err := tree.Create(dir, name, unix.O_RDWR, 0o644, root)
		check(t, err)
		t.Cleanup(func() { check(t, h.Close()) })
		writeAll(t, h, text)
		return a.Ino
	}
	return open("app.db", sqliteMagic+"pages"), open("app.db-wal", walMagic+"\x82frames"), open("app.db-journal", journalMagic+"pages before")
}

func lastOf(t *testing.T, tree *Tree, ino sharefs.Ino) sharefs.Version {
	t.Helper()
	all := must[[]sharefs.Version](t)(tree.Versions(ino))
	if len(all) == 0 {
		return sharefs.Version{}
	}
	return all[len(all)-1]
}

// A database and its log are taken together, whichever of them is asked for, and are torn unless they were held all the time.
func TestDatabaseIsTakenWithItsLog(t *testing.T) {
	t.Parallel()
	type world struct {
		hold     fakeHold
		err      error
		asked    string
		released int
	}
	for name, w := range map[string]*world{
		"held":                  {},
		"held for the log":      {},
		"not held":              {err: errors.New("busy")},
		"not held long enough":  {hold: fakeHold{lost: true}},
		"another file was held": {hold: fakeHold{file: sharefs.RootIno}},
	} {
		t.Run(name, func(t *testing.T) {
			tree := testTree(t, t.TempDir(), byHand, func(c *Config) {
				c.holdFor = time.Hour
				c.Hold = func(path string) (Hold, error) {
					w.asked = path
					return w.hold, w.err
				}
			})
			dir := must[sharefs.Attr](t)(tree.Mkdir(sharefs.RootIno, "papers", 0o755, root)).Ino
			file, log, journal := openDatabase(t, tree, dir)
			w.hold.log, w.hold.released = log, &w.released
			if w.hold.file == 0 {
				w.hold.file = file
			}
			asked := file
			if name == "held for the log" {
				asked = log
			}
			h := &tree.past
			h.timed = []timedJob{{journal}, {asked}}
			capture(t, tree)
			if w.asked != "papers/app.db" {
				t.Errorf("%q was to be held", w.asked)
			}
			if w.err == nil && w.released != 1 {
				t.Errorf("released %d times", w.released)
			}
			one, two := lastOf(t, tree, file), lastOf(t, tree, log)
			torn := w.err != nil || w.hold.lost || w.hold.file != file
			if one.Number != 1 || two.Number != 1 || one.At != two.At || !one.Timed || !two.Timed || one.Torn != torn || two.Torn != torn {
				t.Errorf("%+v, log %+v", one, two)
			}
			if v := lastOf(t, tree, journal); v.Number != 0 {
				t.Errorf("the journal has %+v", v)
			}
			if got := readVersion(t, tree, file, 1); got != sqliteMagic+"pages" {
				t.Errorf("read %q", got)
			}

			// What stood still all the same is not torn once that is known.
			w.hold.file, w.hold.lost, w.err = file, false, nil
			if _, fresh, err := tree.Commit(file, "again"); fresh || err != nil {
				t.Error(fresh, err)
			}
			one, two = lastOf(t, tree, file), lastOf(t, tree, log)
			if one.Number != 1 || two.Number != 1 || one.Torn || two.Torn || one.Note != "again" {
				t.Errorf("%+v, log %+v", one, two)
			}
			noProblems(t, tree)
		})
	}
}

// A snapshot takes the databases that are open, unless they are what they were, and nothing that cannot be held.
func TestSnapshotTakesDatabases(t *testing.T) {
	var w fakeHold
	var err error
	holds := 0
	w.released = new(int)
	tree := testTree(t, t.TempDir(), byHand, func(c *Config) {
		c.holdFor, c.within = time.Hour, time.Hour
		c.Hold = func(string) (Hold, error) {
			holds++
			return w, err
		}
	})
	w.file, w.log, _ = openDatabase(t, tree, sharefs.RootIno)
	time.Sleep(2 * stampTick) // a change that has just been made cannot be told from the next one
	at := must[sharefs.HLC](t)(tree.Snapshot())
	view := must[*View](t)(tree.ViewAt(at))
	for _, ino := range []sharefs.Ino{w.file, w.log} {
		if v := must[sharefs.Version](t)(view.Version(ino)); v.At > at || v.Torn {
			t.Errorf("%+v at %v", v, at)
		}
	}
	snapshot := func(why string, wantHolds, wantVersions int) {
		t.Helper()
		must[sharefs.HLC](t)(tree.Snapshot())
		all := must[[]sharefs.Version](t)(tree.Versions(w.log))
		if holds != wantHolds || len(all) != wantVersions || all[len(all)-1].Torn {
			t.Errorf("%s: held %d times, %d versions %+v", why, holds, len(all), all)
		}
	}
	snapshot("nothing has changed", 1, 1)
	change := func(text string) {
		h := must[*Handle](t)(tree.Open(w.log, unix.O_WRONLY, root))
		defer h.Close()
		writeAll(t, h, text)
	}
	change(walMagic + "\x82other frames")
	err = errors.New("busy")
	snapshot("it cannot be held", 2, 1)
	err = nil
	snapshot("it can be held again", 3, 2)
	noProblems(t, tree)
}

// A view shows no journal and no log that does not belong to the database in it: SQLite would apply it.
func TestViewWithoutTheJournalOfAnother(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	a, db, err := tree.Create(sharefs.RootIno, "app.db", unix.O_RDWR, 0o644, root)
	check(t, err)
	writeAll(t, db, sqliteMagic+"pages")
	for _, closed := range []bool{false, true} {
		want := 0
		if closed { // as after a crash: then they belong together
			check(t, db.Close())
			want = 1
		}
		for name, text := range map[string]string{"app.db-journal": journalMagic + "pages", "app.db-wal": walMagic + "\x82frames"} {
			ino, h, err := tree.Create(sharefs.RootIno, name, unix.O_RDWR, 0o644, root)
			check(t, err)
			writeAll(t, h, text)
			check(t, h.Close())
			must[sharefs.HLC](t)(tree.Snapshot())
			if all := must[[]sharefs.Version](t)(tree.Versions(ino.Ino)); len(all) != want {
				t.Errorf("%s, database closed %t: %+v", name, closed, all)
			}
			check(t, tree.Unlink(sharefs.RootIno, name))
			tree.Forget(ino.Ino, 1)
		}
	}
	if v := lastOf(t, tree, a.Ino); v.Number != 1 {
		t.Errorf("%+v", v)
	}
}

// Files that are removed while a snapshot is made do no harm.
func TestSnapshotAmongRemovals(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 300 {
			name := fmt.Sprint(i)
			a, h, err := tree.Create(sharefs.RootIno, name, unix.O_RDWR, 0o644, root)
			if err == nil {
				err = h.Close()
			}
			if err == nil {
				err = tree.Unlink(sharefs.RootIno, name)
			}
			if err != nil {
				t.Error(err)
				return
			}
			tree.Forget(a.Ino, 1)
		}
	}()
	for going := true; going; {
		select {
		case <-done:
			going = false
		default:
		}
		must[sharefs.HLC](t)(tree.Snapshot())
	}
}

// Snapshots that are asked for while databases are taken have them taken once more for all of them.
func TestSnapshotsShareTheTaking(t *testing.T) {
	h := &history{t: testTree(t, t.TempDir(), byHand)}
	h.taking.mu.Lock()
	errs := make(chan error, snapshotWaiting)
	for range snapshotWaiting {
		go func() { errs <- h.takeDatabases() }()
	}
	for h.taking.waiting.Load() < snapshotWaiting {
		time.Sleep(time.Millisecond)
	}
	if err := h.takeDatabases(); err != nil { // in a crowd it does not wait
		t.Error(err)
	}
	h.taking.mu.Unlock()
	for range snapshotWaiting {
		check(t, <-errs)
	}
	if n := h.taking.begun.Load(); n != 1 {
		t.Errorf("the databases were taken %d times", n)
	}
}

// Only so many databases are held at once, and only so many wait for that.
func TestTurns(t *testing.T) {
	turns := newTurns()
	for range maxHolds {
		if !turns.take(nil, time.Hour) {
			t.Fatal("there is no turn")
		}
	}
	stop, done := make(chan struct{}), make(chan bool, holdsWaiting)
	for range holdsWaiting {
		go func() { done <- turns.take(stop, time.Hour) }()
	}
	for turns.waiting.Load() < holdsWaiting {
		time.Sleep(time.Millisecond)
	}
	if turns.take(nil, time.Hour) {
		t.Error("a turn in a crowd")
	}
	turns.give()
	if !<-done {
		t.Error("a turn was given back, and nobody has it")
	}
	close(stop)
	for range holdsWaiting - 1 {
		if <-done {
			t.Error("a turn that nobody gave back")
		}
	}
	if n := turns.waiting.Load(); n != 0 {
		t.Errorf("%d wait", n)
	}
}

// A version that was torn is the one that was closed, once that is found to have the same content.
func TestTornVersionThatWasClosed(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	a, h, err := tree.Create(sharefs.RootIno, "app.db", unix.O_RDWR, 0o644, root)
	check(t, err)
	writeAll(t, h, sqliteMagic+"pages")
	if v, _, err := tree.Commit(a.Ino, ""); err != nil || !v.Torn || !v.Timed {
		t.Errorf("%+v %v", v, err)
	}
	check(t, h.Close())
	settle(t, tree, a.Ino)
	capture(t, tree)
	if v := lastOf(t, tree, a.Ino); v.Number != 1 || v.Torn || v.Timed {
		t.Errorf("%+v", v)
	}
	noProblems(t, tree)
}

// What came to rest while a timed version was read is not followed by one of what it held before.
func TestTimedVersionThatComesLate(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	past := &tree.past
	a, h, err := tree.Create(sharefs.RootIno, "file", unix.O_RDWR, 0o644, root)
	check(t, err)
	writeAll(t, h, "what was read")
	b := past.newBatch(past.newTools())
	defer b.lease.end()
	one, err := past.readSteady(b, a.Ino)
	check(t, err)
	writeAll(t, h, "what was closed")
	check(t, h.Close())
	settle(t, tree, a.Ino)
	capture(t, tree)
	if _, fresh, err := past.keepTimed(b, []heldContent{one}, ""); fresh || err != nil {
		t.Error(fresh, err)
	}
	wantHistory(t, tree, a.Ino, "what was closed")
}

// A file that has its name beside a database from somebody else gets no version by that.
func TestLogThatIsAnothersFile(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	file, log, _ := openDatabase(t, tree, sharefs.RootIno)
	must[sharefs.Attr](t)(tree.Link(log, sharefs.RootIno, "elsewhere"))
	if v, fresh, err := tree.Commit(file, ""); err != nil || !fresh || !v.Torn {
		t.Errorf("%+v %t %v", v, fresh, err)
	}
	if v := lastOf(t, tree, log); v.Number != 0 {
		t.Errorf("%+v", v)
	}
}

// A file with several names cannot be told to be the one that the programs opened: their log has a name of its own.
func TestDatabaseWithTwoNamesIsTorn(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand, func(c *Config) {
		c.Hold = func(path string) (Hold, error) {
			t.Errorf("%q is to be held", path)
			return nil, sharefs.KindInvalid
		}
	})
	file, _, _ := openDatabase(t, tree, sharefs.RootIno)
	must[sharefs.Attr](t)(tree.Link(file, sharefs.RootIno, "other.db"))
	v, fresh, err := tree.Commit(file, "")
	if err != nil || !fresh || !v.Torn {
		t.Errorf("%+v %t %v", v, fresh, err)
	}
}
