package host

import (
	"testing"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/peers/record"
	"sharefs/versions"
)

// touch sets the time of a file, as touch -d does.
func (s *site) touch(path string, at sharefs.Time) {
	s.t.Helper()
	_, err := s.tree.Setattr(s.find(path), &versions.SetAttr{Mtime: &at}, root)
	check(s.t, err)
}

// mtime returns when a file was changed last.
func (s *site) mtime(path string) sharefs.Time {
	s.t.Helper()
	a, err := s.tree.Getattr(s.find(path))
	check(s.t, err)
	return a.Mtime
}

// kinds counts what a host has told, by kind.
func (s *site) kinds() map[uint8]int {
	n := map[uint8]int{}
	for _, rec := range s.records() {
		if rec.Author == s.self {
			n[rec.Body.Kind()]++
		}
	}
	return n
}

// haveTime holds that a file was changed at a time on all hosts, and that nothing more is told or done.
func haveTime(t *testing.T, path string, at sharefs.Time, all ...*site) {
	t.Helper()
	for i, s := range all {
		if got := s.mtime(path); got != at {
			t.Errorf("host %d: %s was changed at %d, want %d", i, path, got, at)
		}
		if n, err := s.rep.Author(); err != nil || n > 0 {
			t.Errorf("host %d: %d records are told of what was done for others, %v", i, n, err)
		}
	}
}

const aTime = sharefs.Time(1_600_000_000_123_456_789)

// A time that is set behind the last write travels, whoever sets it, and is nobody's conflict or version.
func TestTimesThatAreSet(t *testing.T) {
	all := sites(t, 2)
	a, b := all[0], all[1]
	a.write("f", "one")
	meet(t, a, b)
	before := b.mtime("f")
	haveTime(t, "f", before, a, b)
	a.touch("f", aTime)
	meet(t, a, b)
	haveTime(t, "f", aTime, a, b)
	b.touch("f", before) // back: what the version says is a time that can be set, too
	meet(t, a, b)
	haveTime(t, "f", before, a, b)
	a.touch("f", aTime)
	meet(t, a, b)
	chmod(b, "f", 0o600)
	meet(t, a, b)
	haveTime(t, "f", aTime, a, b)
	if own, _, err := b.as().Latest(b.find("f")); err != nil || own != 1 {
		t.Errorf("the times made %d versions of one, %v", own, err)
	}
	b.write("f", "two")
	meet(t, a, b)
	haveTime(t, "f", b.mtime("f"), a, b)
	if a.mtime("f") == aTime {
		t.Error("a new content has the time that was set behind the one before")
	}
	same(t, a, b)
}

func chmod(s *site, path string, mode uint32) {
	s.t.Helper()
	_, err := s.tree.Setattr(s.find(path), &versions.SetAttr{Mode: &mode}, root)
	check(s.t, err)
}

// What is told of many new files is as much as before: a time that was set before the version was told goes with it.
func TestTimesOfNewFilesCostNothing(t *testing.T) {
	const files = 200
	all := sites(t, 2)
	a, b := all[0], all[1]
	var names []string
	for i := range files {
		names = append(names, "f"+string(rune('a'+i%26))+string(rune('a'+i/26)))
	}
	for i, name := range names {
		a.write(name, name)
		if i%2 == 0 { // rsync, tar
			a.touch(name, aTime+sharefs.Time(i))
		}
	}
	meet(t, a, b)
	for i, name := range names {
		if want := aTime + sharefs.Time(i); i%2 == 0 && (a.mtime(name) != want || b.mtime(name) != want) || a.mtime(name) != b.mtime(name) {
			t.Fatalf("%s was changed at %d and %d", name, a.mtime(name), b.mtime(name))
		}
	}
	if n := a.kinds(); n[record.KindPlace] != files || n[record.KindVersion] != files || n[record.KindAttr] != files {
		t.Errorf("of %d files are told, by kind: %v", files, n)
	}
	if n := b.kinds(); len(n) > 0 {
		t.Errorf("who received them told, by kind: %v", n)
	}
}

// Of two times that are set apart one wins on both hosts, and there is no conflict; of a time and a content one file comes.
func TestTimesSetApart(t *testing.T) {
	all := sites(t, 2)
	a, b := all[0], all[1]
	for _, name := range []string{"f", "g", "h"} {
		a.write(name, name)
	}
	meet(t, a, b)
	a.touch("f", aTime)
	a.touch("g", aTime)
	a.write("h", "other")
	b.touch("f", aTime+1)
	b.write("g", "other")
	b.touch("h", aTime)
	meet(t, a, b)
	for _, name := range []string{"f", "g", "h"} {
		haveTime(t, name, b.mtime(name), a, b)
	}
	if at := a.mtime("f"); at != aTime && at != aTime+1 {
		t.Errorf("nobody set the time %d", at)
	}
	same(t, a, b)
	for _, s := range all {
		if list, err := s.rep.Conflicts("", 9); err != nil || len(list) > 0 {
			t.Errorf("conflicts: %v, %v", list, err)
		}
	}
}

// An empty file that nobody wrote to has a time when somebody sets one, and none before.
func TestTimesOfEmptyFiles(t *testing.T) {
	all := sites(t, 2)
	a, b := all[0], all[1]
	a.write("f", "")
	meet(t, a, b)
	if n := b.kinds(); len(n) > 0 {
		t.Errorf("who received an empty file told, by kind: %v", n)
	}
	b.touch("f", aTime)
	meet(t, a, b)
	haveTime(t, "f", aTime, a, b)
	a.write("f", "now it is written to")
	meet(t, a, b)
	haveTime(t, "f", a.mtime("f"), a, b)
}

// The same content written again is no version; its time is told.
func TestTimeOfTheSameContent(t *testing.T) {
	all := sites(t, 2)
	a, b := all[0], all[1]
	a.write("f", "one")
	meet(t, a, b)
	before := a.mtime("f")
	a.write("f", "one")
	meet(t, a, b)
	if a.mtime("f") == before {
		t.Fatal("writing does not change the time")
	}
	haveTime(t, "f", a.mtime("f"), a, b)
}

// A file to which a program here may write keeps its time, until the program is done.
func TestTimeOfAFileThatIsOpen(t *testing.T) {
	all := sites(t, 2)
	a, b := all[0], all[1]
	for _, name := range []string{"f", "g"} {
		a.write(name, "one")
	}
	meet(t, a, b)
	before := b.mtime("f")
	var open []*versions.Handle
	for _, name := range []string{"f", "g"} {
		h, err := b.tree.Open(b.find(name), unix.O_RDWR, root)
		check(t, err)
		open = append(open, h)
		a.touch(name, aTime)
		chmod(a, name, 0o600)
	}
	a.tell()
	b.hear(a, 1<<20)
	waiting, err := b.apply()
	if check(t, err); waiting != 2 || b.mtime("f") != before {
		t.Errorf("with the file open %d wait, and it was changed at %d", waiting, b.mtime("f"))
	}
	_, err = open[1].WriteAt([]byte("two"), 0)
	check(t, err)
	for _, h := range open {
		check(t, h.Close())
	}
	meet(t, a, b)
	haveTime(t, "f", aTime, a, b)
	haveTime(t, "g", b.mtime("g"), a, b)
	if b.mtime("g") == aTime || b.read(b.find("g")) != "two" {
		t.Errorf("what the program wrote has the time %d, and is %q", b.mtime("g"), b.read(b.find("g")))
	}
	same(t, a, b)
}

// Times come in any order with what they are of, and a host that is new gets both.
func TestTimesInAnyOrder(t *testing.T) {
	all := sites(t, 3)
	a, b, c := all[0], all[1], all[2]
	a.write("f", "one")
	meet(t, a, b)
	a.write("f", "two")
	a.settle()
	a.tell()
	a.touch("f", aTime)
	a.tell()
	b.off = true // what is to have the time does not come
	b.hear(a, 1<<20)
	before := b.mtime("f")
	if _, err := b.apply(); err != nil || b.mtime("f") != before {
		t.Errorf("the content before was given the time of the one that is to come: %d, %v", b.mtime("f"), err)
	}
	b.tell()
	if n := b.kinds(); len(n) > 0 {
		t.Errorf("what was not done for others is told, by kind: %v", n)
	}
	b.off = false
	meet(t, b, a)
	haveTime(t, "f", aTime, a, b)
	meet(t, c, b)
	haveTime(t, "f", aTime, a, b, c)
	same(t, a, c)
}
