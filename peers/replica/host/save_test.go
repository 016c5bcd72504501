package host

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sharefs"
	"sharefs/peers/record"
)

// saves are ways to save a file, step by step; the file has its name, and what is to be in it, when the last is done.
var saves = map[string][]func(s *site, content string){
	"written to": {func(s *site, content string) { s.write("f", content) }},
	"renamed over": {
		func(s *site, content string) { s.write("f.tmp", content) },
		func(s *site, _ string) { s.rename("f.tmp", "f") },
	},
	"renamed over twice": {
		func(s *site, content string) { s.write("f.1", content) },
		func(s *site, _ string) { s.rename("f.1", "f.2") },
		func(s *site, _ string) { s.rename("f.2", "f") },
	},
	"renamed away": { // as vim does
		func(s *site, _ string) { s.rename("f", "f~") },
		func(s *site, content string) { s.write("f", content) },
		func(s *site, _ string) { s.unlink("f~") },
	},
}

// A file is saved in any way, and what was done of it is told between any two steps: it is the file that it was, on this host and on others, and who changed it apart is in conflict with a
// change of what both knew.
func TestSavesAreChanges(t *testing.T) {
	for name, steps := range saves {
		for told := range 1 << (len(steps) - 1) {
			for _, heard := range []bool{false, true} {
				if heard && told == 0 {
					continue
				}
				t.Run(fmt.Sprintf("%s, told %b, heard %v", name, told, heard), func(t *testing.T) {
					t.Parallel()
					all := sites(t, 3)
					a, b, apart := all[0], all[1], all[2]
					a.write("f", "before")
					meet(t, all...)
					for i, step := range steps {
						step(a, "of a")
						switch {
						case told>>i&1 == 0:
						case heard:
							meet(t, a, b)
						default:
							a.settle()
							a.tell()
						}
					}
					meet(t, a, b)
					same(t, a, b)
					for _, s := range []*site{a, b} {
						if shows := s.shows(); s.count() != 1 || s.read(s.find("f")) != "of a" {
							t.Fatalf("%s", shows)
						}
					}
					apart.write("f", "apart")
					meet(t, all...)
					same(t, all...)
					for _, s := range all {
						list := s.conflicts()
						if len(list) != 1 || list[0].Path != "f" || len(list[0].Others) != 1 || s.count() != 1 {
							t.Fatalf("%+v\n%s", list, s.shows())
						}
						if bases := s.bases(&list[0]); len(bases[0]) == 0 || bases[0][0].Body.(*record.Version).Size != uint64(len("before")) {
							t.Errorf("they come from %+v", bases)
						}
						if live := s.read(s.find("f")); live != "apart" { // who wrote later
							t.Errorf("%q is live", live)
						}
						s.right()
					}
				})
			}
		}
	}
}

// What is renamed over something, and was not made for that, is a file of its own: what others write to it meanwhile comes to its new name.
func TestARenameIsNoSave(t *testing.T) {
	for name, because := range map[string]func(t *testing.T, a, b *site){
		"it is old": func(_ *testing.T, a, _ *site) { a.reopen() },
		"somebody else told of it": func(t *testing.T, a, b *site) {
			b.write("g", "of b")
			meet(t, a, b)
		},
		"it has two names": func(t *testing.T, a, _ *site) {
			_, err := a.tree.Link(a.find("g"), sharefs.RootIno, "h")
			check(t, err)
			a.settle()
			a.tell()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := sites(t, 2)
			a, b := all[0], all[1]
			a.write("f", "of f")
			a.write("g", "of g")
			meet(t, all...)
			because(t, a, b)
			meet(t, all...)
			b.write("g", "of g, and more")
			a.rename("g", "f")
			meet(t, all...)
			same(t, all...)
			if got := a.read(a.find("f")); got != "of g, and more" || a.find("g") != 0 || strings.Contains(a.shows(), "of f") {
				t.Errorf("%s", a.shows())
			}
		})
	}
}

// A host that lost its records knows a file again that was saved by another one of which it had told, and has happen to it what others did.
func TestWhatWasSavedIsKnownAgain(t *testing.T) {
	all := sites(t, 2)
	a, b := all[0], all[1]
	a.write("f", "before")
	meet(t, all...)
	a.write("f.tmp", "saved")
	a.settle()
	a.tell()
	a.rename("f.tmp", "f")
	meet(t, all...)
	a.close()
	dir := filepath.Join(a.dir, "peers")
	check(t, os.RemoveAll(dir))
	check(t, os.Mkdir(dir, 0o700))
	a.start()
	b.unlink("f")
	b.tell()
	a.hear(b, 1<<20)
	a.rep.Heard()
	meet(t, all...)
	same(t, all...)
	if a.count() != 0 {
		t.Errorf("there is\n%s", a.shows())
	}
}
