package host

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"sharefs"
	"sharefs/peers/replica"
)

// An inode that cannot be read is named and keeps nothing else back, and what changed with it is told as soon as it can be read, also behind a restart. Nothing is removed anywhere meanwhile but
// what was removed.
func TestWhatCannotBeRead(t *testing.T) {
	for _, what := range []string{"attr", "content", "names"} {
		for _, new := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, new: %v", what, new), func(t *testing.T) {
				all := sites(t, 2)
				a, b := all[0], all[1]
				path := "dir/spoilt"
				a.mkdir("dir")
				for _, name := range []string{"other", "gone", "moved", "linked", path} {
					a.write(name, "old")
				}
				check(t, ignore(a.tree.Link(a.find("linked"), sharefs.RootIno, "link")))
				if !new { // else the whole tree is looked at
					meet(t, all...)
				}
				ino := a.find(path)
				named := path
				if what == "names" {
					ino, named = a.find("dir"), "dir"
				}
				a.unread = map[sharefs.Ino]string{ino: what}
				for _, name := range []string{"other", path} {
					a.write(name, "now")
				}
				a.unlink("gone")
				a.unlink("link")
				a.rename("moved", "dir/moved")
				if what != "names" {
					a.rename(path, "there")
					named = "there"
				}
				a.settle()
				a.tell()
				before := marked(t, a)
				for range 3 {
					if n, err := a.rep.Author(); n > 0 || err != nil {
						t.Errorf("%d records are told again, %v", n, err)
					}
				}
				if now := marked(t, a); len(now) == 0 || !reflect.DeepEqual(now, before) {
					t.Errorf("the marks were %v and are %v", before, now)
				}
				list, err := a.rep.Unread()
				if err != nil || len(list) != 1 || list[0].Ino != ino || list[0].Path != named && !(new && list[0].Path == "") {
					t.Errorf("it cannot be read: %+v, %v", list, err)
				}
				if !new {
					b.hear(a, 1<<20)
					_, err := b.apply()
					check(t, err)
					shown := b.shows()
					for _, want := range []string{"other", "linked", "spoilt", "moved"} {
						if want == "spoilt" && what != "names" {
							want = ""
						}
						if !strings.Contains(shown, want) {
							t.Errorf("the other host lacks %q:\n%s", want, shown)
						}
					}
					if b.read(b.find("other")) != "now" || strings.Contains(shown, "gone") {
						t.Errorf("the other host does not have what else is new:\n%s", shown)
					}
				}
				a.reopen()
				a.tell()
				if list, err := a.rep.Unread(); err != nil || len(list) != 1 {
					t.Errorf("behind a start: %+v, %v", list, err)
				}
				a.unread = nil
				meet(t, all...)
				if a.shows() != b.shows() || !strings.Contains(b.shows(), "linked") || strings.Contains(b.shows(), "gone") {
					t.Errorf("one has\n%sthe other one\n%s", a.shows(), b.shows())
				}
				if list, err := a.rep.Unread(); err != nil || len(list) > 0 {
					t.Errorf("it can be read: %+v, %v", list, err)
				}
			})
		}
	}
}

func ignore[T any](_ T, err error) error { return err }

// marked lists what a tree has marked.
func marked(t *testing.T, s *site) []replica.Mark {
	t.Helper()
	list, err := s.as().Changes(replica.Mark{}, 1<<20)
	check(t, err)
	return list
}

// A file was made for another host, its name is not in the account since the database failed, and then it cannot be read: when somebody removes it later, that is known to be a removal.
func TestWhatWasMadeAndCannotBeRead(t *testing.T) {
	for _, what := range []string{"attr", "content", "names"} {
		t.Run(what, func(t *testing.T) {
			all := filled(t, 2)
			a, b := all[0], all[1]
			meet(t, all...)
			a.write("made", "of a")
			a.settle()
			a.tell()
			b.hear(a, 1<<20)
			b.store.fail, b.store.only = true, uint8(slices.Index(replica.Spaces, "inode")+1)
			if _, err := b.apply(); err == nil {
				t.Fatal("it could be written down")
			}
			b.store.fail, b.store.only = false, 0
			b.reopen()
			ino := b.find("made")
			if ino == 0 {
				t.Fatal("it was not made")
			}
			if what == "names" {
				ino = sharefs.RootIno
			}
			b.unread = map[sharefs.Ino]string{ino: what}
			b.tell()
			b.tell()
			b.unread = nil
			b.unlink("made")
			meet(t, all...)
			same(t, all...)
			if a.find("made") != 0 {
				t.Errorf("what was removed came back:\n%s", a.shows())
			}
		})
	}
}

// outrun makes directories until one has a higher inode than files that are made after it: those are prepared ahead, and take their numbers then.
func (s *site) outrun() {
	s.t.Helper()
	s.write("first", "") // from then on files are prepared
	last := s.find("first")
	for i := 0; ; i++ {
		if i > 10000 {
			s.t.Fatal("no file is prepared")
		}
		name := fmt.Sprint("ahead", i)
		s.mkdir(name)
		now := s.find(name)
		if now > last+1 {
			return
		}
		last = now
		time.Sleep(time.Millisecond)
	}
}

// A file was made for another host by a process that ended before the account had it. When somebody removes it before the author comes, that is known to be a removal, whatever number its inode has, and
// also where an older build had said what it was about to make.
func TestWhatWasMadeWithAnyNumber(t *testing.T) {
	for _, older := range []bool{false, true} {
		t.Run(fmt.Sprintf("older build: %v", older), func(t *testing.T) {
			all := sites(t, 2)
			a, b := all[0], all[1]
			if !older {
				b.outrun()
			}
			meet(t, all...)
			highest := sharefs.Ino(0)
			b.walk(sharefs.RootIno, "", func(_ string, a sharefs.Attr) { highest = max(highest, a.Ino) })
			a.write("made", "of a")
			a.settle()
			a.tell()
			b.hear(a, 1<<20)
			b.store.fail, b.store.only = true, uint8(slices.Index(replica.Spaces, "inode")+1)
			if _, err := b.apply(); err == nil {
				t.Fatal("it could be written down")
			}
			b.store.fail, b.store.only = false, 0
			ino := b.find("made")
			if ino == 0 || !older && ino > highest {
				t.Fatalf("it was made as %d, and the highest inode was %d", ino, highest)
			}
			if older {
				b.madeByAnOlderBuild(ino - 1)
			}
			b.reopen()
			b.unlink("made")
			meet(t, all...)
			same(t, all...)
			if a.find("made") != 0 {
				t.Errorf("what was removed came back:\n%s", a.shows())
			}
			b.right()
		})
	}
}

// madeByAnOlderBuild has the rows of what was about to be made be what builds wrote that knew of the highest inode alone.
func (s *site) madeByAnOlderBuild(highest sharefs.Ino) {
	s.t.Helper()
	space := uint8(slices.Index(replica.Spaces, "making") + 1)
	var rows []replica.Row
	check(s.t, s.store.Scan(space, nil, nil, func(k, v []byte) bool {
		rows = append(rows, replica.Row{Space: space, Key: slices.Clone(k), Value: binary.BigEndian.AppendUint64(slices.Clone(v[:8]), uint64(highest))})
		return true
	}))
	if len(rows) != 1 {
		s.t.Fatalf("%d files were about to be made", len(rows))
	}
	check(s.t, s.store.Commit(rows))
}

// A file was removed here for another host, and is to be made again when the process ends. That the inode is gone which it was before is no removal of what was to be made.
func TestWhatWasRemovedBeforeItWasToBeMade(t *testing.T) {
	for _, older := range []bool{false, true} {
		t.Run(fmt.Sprintf("older build: %v", older), func(t *testing.T) {
			all := sites(t, 3)
			a, b, c := all[0], all[1], all[2]
			a.write("f", "of a")
			meet(t, all...)
			was := b.find("f")
			a.unlink("f")
			a.tell()
			nextMilli()
			c.rename("f", "g") // later, and without knowing that it is removed
			c.tell()
			b.hear(a, 1<<20)
			check(t, must2(b.apply()))
			if b.find("f") != 0 {
				t.Fatal("it was not removed")
			}
			b.hear(c, 1<<20)
			b.putting = func() error {
				b.store.fail = true
				return errDisk
			}
			if _, err := b.apply(); !errors.Is(err, errDisk) {
				t.Fatal(err)
			}
			b.store.fail, b.putting = false, nil
			if older {
				b.madeByAnOlderBuild(was)
			}
			b.reopen()
			meet(t, all...)
			same(t, all...)
			if got := b.find("g"); got == 0 || b.read(got) != "of a" {
				t.Errorf("what was to be made is taken for removed:\n%s", b.shows())
			}
			for _, s := range all {
				s.right()
			}
		})
	}
}
