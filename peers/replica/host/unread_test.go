package host

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

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
			all := sites(t, 2)
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
