package host

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/peers/converge"
	"sharefs/peers/record"
	"sharefs/peers/replica"
	"sharefs/versions"
)

// paths lists what there is on a host.
func (s *site) paths() (dirs, files, all []string) {
	s.t.Helper()
	dirs = []string{""}
	s.walk(sharefs.RootIno, "", func(path string, a sharefs.Attr) {
		switch {
		case a.IsDir():
			dirs = append(dirs, path)
		case a.IsRegular():
			files = append(files, path)
		}
		all = append(all, path)
	})
	return dirs, files, all
}

func (s *site) symlinks() (all []string) {
	s.t.Helper()
	s.walk(sharefs.RootIno, "", func(path string, a sharefs.Attr) {
		if a.IsSymlink() {
			all = append(all, path)
		}
	})
	return all
}

// shut has a program write to the file that it has open and close it.
func (s *site) shut(rnd *rand.Rand) {
	s.t.Helper()
	h := s.open[0]
	s.open = s.open[1:]
	_, err := h.WriteAt([]byte("late"), int64(rnd.IntN(3)))
	check(s.t, err)
	check(s.t, h.Close())
}

// fine passes over what a kernel would refuse.
func (s *site) fine(err error, kinds ...sharefs.Kind) {
	s.t.Helper()
	for _, k := range kinds {
		if errors.Is(err, k) {
			return
		}
	}
	check(s.t, err)
}

// work does one thing that somebody could do on a host.
func (s *site) work(rnd *rand.Rand, n *int) string {
	s.t.Helper()
	*n++
	dirs, files, all := s.paths()
	pick := func(list []string) string {
		if len(list) == 0 {
			return ""
		}
		return list[rnd.IntN(len(list))]
	}
	free := func() string { return strings.TrimPrefix(pick(dirs)+"/"+string(rune('a'+rnd.IntN(5))), "/") }
	text := fmt.Sprintf("%d by %s", *n, s.self.Short())
	if p := pick(files); p != "" && rnd.IntN(12) == 0 {
		at := sharefs.Time(rnd.IntN(4)) * 1e9
		s.touch(p, at)
		return fmt.Sprintf("touch -d @%d %s", at/1e9, p)
	}
	switch verb := rnd.IntN(25); {
	case verb < 3:
		if p := free(); s.find(p) == 0 && strings.Count(p, "/") < 4 {
			s.mkdir(p)
			return "mkdir " + p
		}
	case verb < 7:
		if p := free(); s.find(p) == 0 {
			s.write(p, text)
			return "create " + p
		}
	case verb < 10:
		if p := pick(files); p != "" {
			s.write(p, text)
			return "write " + p
		}
	case verb < 11: // as sed -i and others save
		if p := pick(files); p != "" && s.find(p+".tmp") == 0 {
			s.write(p+".tmp", text)
			s.rename(p+".tmp", p)
			return "save " + p
		}
	case verb < 15:
		if p, to := pick(all), free(); p != "" && p != to {
			a, x := s.at(p)
			b, y := s.at(to)
			err := s.tree.Rename(a, x, b, y, 0)
			s.fine(err, sharefs.KindInvalid, sharefs.KindNotDir, sharefs.KindIsDir, sharefs.KindNotEmpty)
			return fmt.Sprintf("rename %s %s: %v", p, to, err)
		}
	case verb < 16: // two names change
		if p, q := pick(all), pick(all); p != "" && p != q {
			a, x := s.at(p)
			b, y := s.at(q)
			err := s.tree.Rename(a, x, b, y, unix.RENAME_EXCHANGE)
			s.fine(err, sharefs.KindInvalid)
			return fmt.Sprintf("exchange %s %s: %v", p, q, err)
		}
	case verb < 18:
		if p := pick(all); p != "" {
			dir, name := s.at(p)
			err := s.tree.Unlink(dir, name)
			if errors.Is(err, sharefs.KindIsDir) {
				err = s.tree.Rmdir(dir, name)
			}
			s.fine(err, sharefs.KindNotEmpty)
			return fmt.Sprintf("remove %s: %v", p, err)
		}
	case verb < 19:
		if p, to := pick(files), free(); p != "" && s.find(to) == 0 {
			dir, name := s.at(to)
			_, err := s.tree.Link(s.find(p), dir, name)
			check(s.t, err)
			s.tree.Forget(s.find(to), 1)
			return "link " + p + " " + to
		}
	case verb < 20:
		if p := free(); s.find(p) == 0 {
			dir, name := s.at(p)
			a, err := s.tree.Symlink(dir, name, text, root)
			check(s.t, err)
			s.tree.Forget(a.Ino, 1)
			return "symlink " + p
		}
	case verb < 21:
		if p := pick(all); p != "" {
			mode := uint32(0o600 + rnd.IntN(0o100))
			if a, err := s.tree.Getattr(s.find(p)); err != nil || a.IsSymlink() {
				return ""
			}
			_, err := s.tree.Setattr(s.find(p), &versions.SetAttr{Mode: &mode}, root)
			check(s.t, err)
			return "chmod " + p
		}
	case verb < 23: // somebody has a file open for a while
		if p := pick(files); p != "" && len(s.open) < 3 {
			h, err := s.tree.Open(s.find(p), unix.O_RDWR, root)
			check(s.t, err)
			_, err = h.WriteAt([]byte(text), 0)
			check(s.t, err)
			s.open = append(s.open, h)
			return "open and write " + p
		}
		if len(s.open) > 0 {
			s.shut(rnd)
			return "write and close"
		}
	case verb < 24: // ln -sfn
		if links := s.symlinks(); len(links) > 0 {
			p := pick(links)
			dir, name := s.at(p)
			if s.find(filepath.Dir(p)+"/new") != 0 {
				return ""
			}
			a, err := s.tree.Symlink(dir, "new", text, root)
			check(s.t, err)
			s.tree.Forget(a.Ino, 1)
			check(s.t, s.tree.Rename(dir, "new", dir, name, 0))
			return "replace the symlink " + p
		}
	default:
		if p := pick(files); p != "" {
			check(s.t, s.tree.Setxattr(s.find(p), "user.x", []byte(text), 0))
			return "setxattr " + p
		}
	}
	return ""
}

// mix gives a host some records of another one by themselves, in any order.
func (s *site) mix(o *site, rnd *rand.Rand) {
	s.t.Helper()
	var items []replica.Item
	for _, rec := range o.records() {
		items = append(items, replica.Item{Records: []*record.Record{rec}})
	}
	rnd.Shuffle(len(items), func(i, j int) { items[i], items[j] = items[j], items[i] })
	_, err := s.rep.Take(o.self, travel(s.t, items[:rnd.IntN(len(items)+1)]))
	check(s.t, err)
}

// right holds that a tree is what the specification makes of all records, and that no content is lost.
func (s *site) right() {
	s.t.Helper()
	var in []converge.Input
	byID := map[record.ID]*record.Record{}
	for _, rec := range s.records() {
		byID[rec.ID()] = rec
		in = append(in, converge.Input{Record: rec, Standing: converge.Merged})
		if inner := rec.Says(); inner != rec {
			byID[inner.ID()] = inner
			in = append(in, converge.Input{Record: inner, Standing: converge.Merged})
		}
		if v, ok := rec.Body.(*record.Version); ok && rec.Author == s.self {
			for _, span := range v.Spans {
				_, err := s.tree.Chunk(span.ID, nil)
				check(s.t, err)
			}
		}
	}
	want, _ := converge.Whole(in)
	contested := map[string]bool{}
	for path, n := range want {
		if len(n.Conflicts) > 0 {
			contested[path] = true
		}
	}
	list, err := s.rep.Conflicts("", 1<<20)
	check(s.t, err)
	for i := range list {
		if !contested[list[i].Path] {
			s.t.Fatalf("%s is no conflict", list[i].Path)
		}
		delete(contested, list[i].Path)
	}
	if len(contested) > 0 {
		s.t.Fatalf("not listed as conflicts: %v", contested)
	}
	seen := 0
	s.walk(sharefs.RootIno, "", func(path string, a sharefs.Attr) {
		seen++
		n, ok := want[path]
		if !ok {
			s.t.Fatalf("%s is there, and by the records it is not", path)
		}
		if typ := map[uint32]record.Type{sharefs.ModeDir: record.Directory, sharefs.ModeRegular: record.Regular, sharefs.ModeSymlink: record.Symlink}[a.Mode&sharefs.ModeType]; typ != n.Type {
			s.t.Fatalf("%s is a %s, not a %s", path, typ, n.Type)
		}
		if rec := byID[n.Attr]; rec != nil && uint16(a.Mode&record.ModeBits) != rec.Body.(*record.Attr).Mode {
			s.t.Fatalf("%s has mode %o, by the records %o", path, a.Mode, rec.Body.(*record.Attr).Mode)
		}
		if !a.IsRegular() {
			return
		}
		_, v, err := s.as().Latest(a.Ino)
		check(s.t, err)
		if rec := byID[n.Live]; (rec == nil) != (v == nil) || rec != nil && rec.Body.(*record.Version).Content() != v.Content() {
			s.t.Fatalf("%s holds %q, which is not what the records say", path, s.read(a.Ino))
		}
	})
	if seen != len(want)-1 {
		s.t.Fatalf("%d of %d names are there", seen, len(want)-1)
	}
}

// seeds returns those of a run: some, or more of them in a soak, from SHAREFS_TEST_SEED on.
func seeds(t testing.TB, few, many uint64) (first, n uint64) {
	t.Helper()
	if os.Getenv("SHAREFS_SOAK") == "" {
		return 0, few
	}
	if s := os.Getenv("SHAREFS_TEST_SEED"); s != "" {
		var err error
		first, err = strconv.ParseUint(s, 10, 64)
		check(t, err)
	}
	return first, many
}

// Whatever is done on hosts that meet now and then, in parts, in any order, with restarts and with databases that fail: in the end all have one tree, which is
// that of the records.
func TestHostsComeToOneTree(t *testing.T) {
	rounds := 3
	if os.Getenv("SHAREFS_SOAK") != "" {
		rounds = 8
	}
	first, seeds := seeds(t, 2, 200)
	for seed := first; seed < first+seeds; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(seed, 1))
			all := sites(t, 2+int(seed%2), seed)
			n := 0
			var log []string
			defer func() {
				if t.Failed() {
					t.Log(strings.Join(log, "\n"))
				}
			}()
			for range rounds {
				for range 60 {
					i := rnd.IntN(len(all))
					s, o := all[i], all[(i+1+rnd.IntN(len(all)-1))%len(all)]
					did := ""
					switch verb := rnd.IntN(20); {
					case verb < 12:
						did = s.work(rnd, &n)
					case verb < 13:
						if len(s.open) == 0 {
							did = "settle"
							s.settle()
						}
					case verb < 15:
						did = "tell"
						s.tryTell(rnd)
					case verb < 16:
						did = "hear"
						s.hear(o, 1+rnd.IntN(20))
					case verb < 17:
						did = "mix"
						s.mix(o, rnd)
					case verb < 19:
						did = "apply"
						s.tryApply(rnd)
					default:
						if len(s.open) == 0 {
							did = "reopen"
							s.reopen()
						}
					}
					if did != "" {
						log = append(log, fmt.Sprintf("%d: %s", i, did))
					}
				}
				log = append(log, "meet")
				for _, s := range all {
					for len(s.open) > 0 {
						s.shut(rnd)
					}
				}
				meet(t, all...)
				same(t, all...)
				for _, s := range all {
					s.right()
				}
			}
			for _, s := range all {
				before := s.shows()
				s.reopen()
				n, err := s.apply()
				check(t, err)
				if told, err := s.rep.Author(); n != 0 || told != 0 || err != nil || s.shows() != before {
					t.Fatalf("a restart leaves %d names and leads to %d records: %v", n, told, err)
				}
			}
		})
	}
}

// failing is a store whose next commit may fail.
type failing struct {
	Store
	fail bool
	only uint8 // 0: each commit fails; otherwise those with rows of this space

	quick bool // neither it nor the tree waits for the disk: the test loses no power
	syncs int  // how often it was to, and the tree
}

var errDisk = errors.New("the disk failed")

func (f *failing) Commit(rows []replica.Row) error {
	if f.fail && (f.only == 0 || slices.ContainsFunc(rows, func(r replica.Row) bool { return r.Space == f.only })) {
		return errDisk
	}
	return f.Store.Commit(rows)
}

func (f *failing) Sync() error {
	if f.syncs++; f.quick {
		return nil
	}
	return f.Store.Sync()
}

func (s *site) tryTell(rnd *rand.Rand) {
	s.t.Helper()
	s.store.fail = rnd.IntN(4) == 0
	_, err := s.rep.Author()
	s.recover(err)
}

func (s *site) tryApply(rnd *rand.Rand) {
	s.t.Helper()
	s.store.fail, s.off = rnd.IntN(4) == 0, rnd.IntN(4) == 0
	_, err := s.apply()
	s.recover(err)
}

// recover goes on after a failure as a new process would.
func (s *site) recover(err error) {
	s.t.Helper()
	s.store.fail, s.off = false, false
	if errors.Is(err, errDisk) {
		s.openReplica()
		return
	}
	s.fine(err, sharefs.KindAgain, sharefs.KindNotEmpty, sharefs.KindExist)
}

// workAndMeet has some of all sites do twelve things between them, and all come to know of it.
func workAndMeet(t *testing.T, all, some []*site, rnd *rand.Rand, n *int) {
	t.Helper()
	for range 12 {
		some[rnd.IntN(len(some))].work(rnd, n)
	}
	for _, s := range some {
		for len(s.open) > 0 {
			s.shut(rnd)
		}
	}
	meet(t, all...)
}
