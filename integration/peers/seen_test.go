package peers

import (
	"os"
	"slices"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs/integration/mounttest"
	"sharefs/peers/report"
)

// Who has a file open for writing, in whatever way, sees no other host's content come into it: what he writes then replaces what he saw, and is in conflict with what he did not.
func TestWhoHasAFileOpenSawWhatItHeld(t *testing.T) {
	hs := sharing(t, "anna", "bert")
	a, b := hs[0], hs[1]
	write := func(flags int) func(name string) func() {
		return func(name string) func() {
			f, err := os.OpenFile(b.Path(name), flags, 0)
			b.do(err)
			return func() {
				_, err := f.WriteString("by bert\n")
				b.do(err)
				b.do(f.Close())
			}
		}
	}
	ways := map[string]func(name string) func(){
		"reads and writes": write(os.O_RDWR),
		"writes":           write(os.O_WRONLY),
		"appends":          write(os.O_WRONLY | os.O_APPEND),
		"truncated":        write(os.O_WRONLY | os.O_TRUNC),
		"mapped": func(name string) func() {
			f, err := os.OpenFile(b.Path(name), os.O_RDWR, 0)
			b.do(err)
			m, err := unix.Mmap(int(f.Fd()), 0, 4, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			b.do(err)
			b.do(f.Close())
			return func() {
				copy(m, "BERT")
				b.do(unix.Munmap(m))
			}
		},
	}
	saves := map[string]func(name string){
		" as it is written":    func(name string) { a.write(name, "by anna\n") },
		" as an editor saves":  func(name string) { a.save(name, "by anna\n") },
		" removed, made again": func(name string) { a.do(os.Remove(a.Path(name))); a.write(name, "by anna\n") },
	}
	held := map[string]func(){}
	for way := range ways {
		for save := range saves {
			a.write(way+save, "of both\n")
		}
	}
	alike(t, "the beginning", hs, func(tree map[string]string) bool {
		for name := range tree {
			if !has(tree, name, "of both\n") {
				return false
			}
		}
		return len(tree) == len(ways)*len(saves)
	})
	for way, open := range ways {
		for save := range saves {
			held[way+save] = open(way + save)
		}
	}
	for way := range ways {
		for save, do := range saves {
			do(way + save)
		}
	}
	a.Settled()
	a.write("last", "of anna") // what is told before it has come when it has
	mounttest.WaitFor(t, "what anna did", func() bool { text, err := os.ReadFile(b.Path("last")); return err == nil && string(text) == "of anna" })
	for name := range held {
		if text, err := os.ReadFile(b.Path(name)); err != nil || string(text) == "by anna\n" {
			t.Errorf("%s: %q came under who has it open, %v", name, text, err)
		}
	}
	for _, end := range held {
		end()
	}
	for _, h := range hs {
		mounttest.WaitFor(t, "the conflicts on "+h.name, func() bool {
			all := h.conflicts()
			for name := range held {
				if !slices.ContainsFunc(all, func(c report.Conflict) bool { return c.Path == name && len(c.Sides) == 2 }) {
					return false
				}
			}
			return true
		})
	}
}

// Who has read a file and closed it, and writes it anew later, as editors do, replaces what it holds then: nothing tells what he saw. The time of the file tells him that it is another one,
// as editors look at before they save, and what he replaced stays in the history of both.
func TestWhatAnEditorReplaces(t *testing.T) {
	hs := sharing(t, "anna", "bert")
	a, b := hs[0], hs[1]
	saves := map[string]func(name string){
		"written": func(name string) { b.write(name, "by bert\n") },
		"renamed": func(name string) { b.save(name, "by bert\n") },
	}
	for name := range saves {
		a.write(name, "of both\n")
	}
	alike(t, "the beginning", hs, func(tree map[string]string) bool {
		return has(tree, "written", "of both\n") && has(tree, "renamed", "of both\n")
	})
	stat := func(name string) (st unix.Stat_t) {
		b.do(unix.Stat(b.Path(name), &st))
		return st
	}
	for name, save := range saves {
		before := stat(name)
		a.write(name, "by anna\n")
		alike(t, "what anna wrote", hs, func(tree map[string]string) bool { return has(tree, name, "by anna\n") })
		if now := stat(name); now.Mtim == before.Mtim {
			t.Errorf("%s: the time does not tell that it was changed: %+v", name, now)
		}
		save(name)
		alike(t, "what bert wrote", hs, func(tree map[string]string) bool { return has(tree, name, "by bert\n") })
		for _, h := range hs {
			if all := h.conflicts(); len(all) != 0 {
				t.Errorf("%+v", all)
			}
			mounttest.WaitFor(t, "the past on "+h.name, func() bool {
				for n := 1; ; n++ {
					text, err := os.ReadFile(h.Path(name + "@@" + strconv.Itoa(n)))
					if err != nil {
						return false
					}
					if string(text) == "by anna\n" {
						return true
					}
				}
			})
		}
	}
}
