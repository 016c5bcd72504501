package host

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"sharefs"
	"sharefs/peers/record"
	"sharefs/peers/replica"
)

// owner returns two hosts, of which the first takes what the second does for a proposal.
func owner(t testing.TB, seed ...uint64) (a, b *site) {
	t.Helper()
	all := sites(t, 2, seed...)
	a, b = all[0], all[1]
	a.standing = func(sharefs.PeerID) replica.Standing { return replica.Proposed }
	a.reopen()
	return a, b
}

// sees is the tree on a host as another one sees it that proposes, or its own.
func (s *site) sees(of *site) string {
	s.t.Helper()
	var b strings.Builder
	var walk func(dir string)
	walk = func(dir string) {
		list, err := s.rep.List(of.self, dir)
		check(s.t, err)
		for _, n := range list {
			path := strings.TrimPrefix(dir+"/"+n.Name, "/")
			found, ok, err := s.rep.Find(of.self, path)
			if !ok || err != nil || found.Version != n.Version || found.Attr != n.Attr || found.Name != n.Name || found.Type != n.Type {
				s.t.Fatalf("%s is listed as %+v and found as %+v: %v", path, n, found, err)
			}
			fmt.Fprintf(&b, "%s %s", path, n.Type)
			if n.Version != nil {
				fmt.Fprintf(&b, " %q", n.Version.Body.(*record.Version).Content())
			}
			if n.Attr != nil {
				fmt.Fprintf(&b, " %o %q", n.Attr.Body.(*record.Attr).Mode, n.Attr.Body.(*record.Attr).Xattrs)
			}
			if at, ok := record.Mtime(n.Version, n.Attr); ok {
				fmt.Fprintf(&b, " of %d", at)
			}
			b.WriteByte('\n')
			if n.Type == record.Directory {
				walk(path)
			}
		}
	}
	walk("")
	return b.String()
}

func (s *site) changes(of *site) []replica.Change {
	s.t.Helper()
	list, err := s.rep.Changes(of.self)
	check(s.t, err)
	return list
}

// tells writes changes as lines.
func tells(list []replica.Change) string {
	var b strings.Builder
	for i := range list {
		c := &list[i]
		mark := func(if_ bool, text string) {
			if if_ {
				b.WriteString(text)
			}
		}
		mark(c.Added, "added ")
		mark(c.Removed, "removed ")
		mark(c.Moved, "moved from "+c.From+" to ")
		mark(c.Content() && !c.Added, "written ")
		mark(c.Attr, "attributes ")
		mark(c.Beside, "beside ")
		b.WriteString(c.Path + "\n")
	}
	return b.String()
}

// accept takes changes with their contents, as far as these come.
func (s *site) accept(of *site, wanted func(*replica.Change) bool) (taken []replica.Change, left []replica.Left) {
	s.t.Helper()
	var list []*record.Record
	for _, c := range s.changes(of) {
		if c.Proposed != nil && c.Type == record.Regular {
			list = append(list, c.Proposed)
		}
	}
	l, _, err := s.tree.Gather(Contents(list), s)
	check(s.t, err)
	defer l.End()
	taken, left, err = s.rep.Accept(nil, of.self, wanted)
	check(s.t, err)
	_, err = s.apply()
	check(s.t, err)
	return taken, left
}

func all(*replica.Change) bool { return true }

func at(paths ...string) func(*replica.Change) bool {
	return func(c *replica.Change) bool { return slices.ContainsFunc(paths, c.Covers) }
}

func TestProposal(t *testing.T) {
	a, b := owner(t)
	a.mkdir("d")
	for _, name := range []string{"d/edited", "d/removed", "d/renamed", "kept"} {
		a.write(name, "before: "+name)
	}
	meet(t, a, b)
	same(t, a, b)
	if list := a.changes(b); len(list) > 0 || a.sees(b) != a.sees(a) {
		t.Fatalf("%+v", list)
	}
	before, history := a.shows(), a.records()
	b.write("d/edited", "after")
	b.unlink("d/removed")
	b.rename("d/renamed", "other")
	b.mkdir("new")
	b.write("new/file", "made there")
	b.rename("kept", "new/kept")
	mode := uint32(0o600)
	setMode(t, b, "d/edited", mode)
	meet(t, a, b)
	if now := a.shows(); now != before {
		t.Fatalf("a proposal changed the tree:\n%s\nit was\n%s", now, before)
	}
	for _, rec := range a.records()[len(history):] {
		if rec.Author == a.self {
			t.Errorf("a proposal had the owner tell something: %+v", rec.Body)
		}
	}
	if a.sees(b) != b.sees(b) {
		t.Fatalf("b is thought to see\n%s, and sees\n%s", a.sees(b), b.sees(b))
	}
	want := "written attributes d/edited\nremoved d/removed\nadded new\nadded new/file\nmoved from kept to new/kept\nmoved from d/renamed to other\n"
	if got := tells(a.changes(b)); got != want {
		t.Fatalf("%s", got)
	}
	if n, err := a.rep.Proposing(); err != nil || n[b.self] != 5 {
		t.Errorf("%v, %v", n, err)
	}
	if rec, err := a.rep.ProposedAt(b.self, "d/edited"); err != nil || rec == nil || rec.Author != b.self {
		t.Error(rec, err)
	}
	for _, path := range []string{"kept", "d", "none", "d/renamed"} {
		if rec, err := a.rep.ProposedAt(b.self, path); err != nil || rec != nil {
			t.Error(path, rec, err)
		}
	}
	a.reopen()
	// One thing takes what it needs with it.
	taken, left := a.accept(b, at("new/file"))
	if tells(taken) != "added new\nadded new/file\n" || len(left) > 0 {
		t.Fatalf("%s, %+v", tells(taken), left)
	}
	meet(t, a, b)
	if got := a.read(a.find("new/file")); got != "made there" || a.find("new/kept") != 0 {
		t.Fatalf("%q", got)
	}
	// What is refused is gone until its author changes it again.
	refused, err := a.rep.Refuse(b.self, at("d/edited", "other"))
	check(t, err)
	if tells(refused) != "written attributes d/edited\nmoved from d/renamed to other\n" {
		t.Fatalf("%s", tells(refused))
	}
	a.reopen()
	want = "removed d/removed\nmoved from kept to new/kept\n"
	if got := tells(a.changes(b)); got != want {
		t.Fatalf("%s", got)
	}
	if ok := strings.Contains(a.sees(b), "d/renamed"); !ok {
		t.Error("what was refused is shown")
	}
	b.write("d/edited", "after all")
	meet(t, a, b)
	if got := tells(a.changes(b)); got != "written attributes d/edited\n"+want {
		t.Fatalf("%s", got)
	}
	taken, left = a.accept(b, all)
	if len(taken) != 3 || len(left) > 0 {
		t.Fatalf("%s, %+v", tells(taken), left)
	}
	meet(t, a, b)
	b.rename("other", "d/renamed")
	meet(t, a, b)
	same(t, a, b)
	if list := a.changes(b); len(list) > 0 {
		t.Errorf("%s", tells(list))
	}
	noConflicts(t, a, b)
	if n, err := a.rep.Proposing(); err != nil || len(n) != 0 {
		t.Errorf("%v, %v", n, err)
	}
	if got := a.read(a.find("d/edited")); got != "after all" {
		t.Errorf("%q", got)
	}
}

func setMode(t testing.TB, s *site, path string, mode uint32) {
	t.Helper()
	check(t, s.as().SetMode(s.find(path), uint16(mode)))
}

// Where both changed a file, taking the proposal overrules what is here, which stays in the history; a new file under a name that is taken becomes the content of that file.
func TestProposalsBesideChanges(t *testing.T) {
	a, b := owner(t)
	a.write("f", "first")
	meet(t, a, b)
	b.write("f", "of b")
	b.write("g", "b's own")
	b.tell()
	a.write("f", "of a")
	a.write("g", "a's own")
	meet(t, a, b)
	if got := tells(a.changes(b)); got != "written beside f\nwritten beside g\n" && got != "written beside f\nwritten g\n" {
		t.Fatalf("%s", got)
	}
	for _, path := range []string{"f", "g"} {
		if rec, err := a.rep.ProposedAt(b.self, path); err != nil || rec == nil || rec.Author != b.self {
			t.Error(path, rec, err)
		}
	}
	taken, left := a.accept(b, all)
	if len(taken) != 2 || len(left) > 0 {
		t.Fatalf("%s, %+v", tells(taken), left)
	}
	meet(t, a, b)
	same(t, a, b)
	if f, g := a.read(a.find("f")), a.read(a.find("g")); f != "of b" || g != "b's own" {
		t.Errorf("%q, %q", f, g)
	}
	noConflicts(t, a, b)
	if v, err := a.tree.Versions(a.find("f")); err != nil || len(v) != 3 {
		t.Errorf("%d versions, %v", len(v), err)
	}
}

// What cannot be taken says why, and holds nothing else up.
func TestProposalsThatCannotBeTaken(t *testing.T) {
	a, b := owner(t)
	a.mkdir("x")
	a.mkdir("x/y")
	meet(t, a, b)
	b.rename("x/y", "y")
	b.rename("x", "y/x") // the other way round
	b.write("f", "elsewhere")
	b.write("small", "")
	meet(t, a, b)
	a.off = true
	taken, left := a.accept(b, at("y/x", "f", "small"))
	if tells(taken) != "added small\n" || len(left) != 2 {
		t.Fatalf("%s, %+v", tells(taken), left)
	}
	if !errors.Is(left[0].Err, sharefs.KindUnreachable) || !errors.Is(left[1].Err, sharefs.KindInvalid) {
		t.Errorf("%v, %v", left[0].Err, left[1].Err)
	}
	a.off = false
	taken, left = a.accept(b, all)
	if len(taken) != 3 || len(left) > 0 {
		t.Fatalf("%s, %+v", tells(taken), left)
	}
	meet(t, a, b)
	same(t, a, b)
}

// Two directories that are one here, for only a part was taken, and two with the author, go each its way.
func TestProposedDirectoriesPart(t *testing.T) {
	a, b := owner(t)
	a.mkdir("e")
	a.write("e/f", "old")
	meet(t, a, b)
	b.rename("e", "x")
	b.mkdir("e")
	b.write("e/f", "new")
	meet(t, a, b)
	taken, left := a.accept(b, func(c *replica.Change) bool { return c.Added && c.Path == "e" })
	if tells(taken) != "added e\n" || len(left) > 0 {
		t.Fatalf("%s, %+v", tells(taken), left)
	}
	meet(t, a, b)
	if taken, left = a.accept(b, all); len(left) > 0 {
		t.Fatalf("%s, %+v", tells(taken), left)
	}
	meet(t, a, b)
	same(t, a, b)
	noConflicts(t, a, b)
	for _, s := range []*site{a, b} {
		for path, want := range map[string]string{"x/f": "old", "e/f": "new"} {
			if s.find(path) == 0 || s.read(s.find(path)) != want {
				t.Errorf("%s is not there, or not %q:\n%s", path, want, s.shows())
			}
		}
	}
}

// What was accepted counts on a host that knows whoever accepted it, and nothing of who proposed it.
func TestWhatIsAcceptedCountsElsewhere(t *testing.T) {
	three := sites(t, 3)
	a, b, c := three[0], three[1], three[2]
	a.standing = func(id sharefs.PeerID) replica.Standing {
		if id == b.self {
			return replica.Proposed
		}
		return replica.Merged
	}
	c.standing = func(id sharefs.PeerID) replica.Standing {
		if id == b.self {
			return replica.PassedOver
		}
		return replica.Merged
	}
	a.reopen()
	c.reopen()
	a.write("f", "before")
	meet(t, three...)
	b.write("f", "of b")
	b.write("g", "new of b")
	meet(t, three...)
	a.accept(b, all)
	meet(t, three...)
	same(t, a, b, c)
	a.write("f", "after")
	meet(t, three...)
	same(t, a, b, c)
}

// Whatever somebody does who may propose: the tree that is shown for him is his, the live one stays as it is, and when all is taken both have the same,
// and nothing is in conflict.
func TestProposalsAtRandom(t *testing.T) {
	first, n := seeds(t, 2, 200)
	for seed := first; seed < first+n; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(seed, 9))
			a, b := owner(t, seed)
			n := 0
			var log []string
			defer func() {
				if t.Failed() {
					t.Log(strings.Join(log, "\n"))
				}
			}()
			work := func(s *site, most int) {
				for range rnd.IntN(most) {
					if did := s.work(rnd, &n); did != "" {
						log = append(log, s.self.Short()+": "+did)
					}
				}
				for len(s.open) > 0 {
					s.shut(rnd)
				}
			}
			work(a, 30)
			meet(t, a, b)
			for range 6 {
				work(b, 20)
				if rnd.IntN(2) == 0 {
					work(a, 8)
				}
				a.settle()
				a.tell()
				_, err := a.apply()
				check(t, err)
				before := a.shows()
				log = append(log, "meet")
				meet(t, a, b)
				if now := a.shows(); now != before {
					t.Fatalf("a proposal changed the tree:\n%s\nit was\n%s", now, before)
				}
				if x, y := a.sees(b), b.sees(b); x != y {
					t.Fatalf("b is thought to see\n%s, and sees\n%s", x, y)
				}
				if a.sees(a) == b.sees(b) && slices.ContainsFunc(a.changes(b), func(c replica.Change) bool { return !c.Beside && !c.Added }) {
					t.Fatalf("what is the same differs: %s", tells(a.changes(b)))
				}
				verb := rnd.IntN(4)
				if os.Getenv("SHAREFS_SOAK") == "" {
					verb = rnd.IntN(2)
				}
				switch verb {
				case 0:
					some := func(c *replica.Change) bool { return rnd.IntN(3) == 0 }
					taken, left := a.accept(b, some)
					log = append(log, fmt.Sprintf("accept some:\n%sleft: %v", tells(taken), left))
				case 1:
					refused, err := a.rep.Refuse(b.self, func(c *replica.Change) bool { return rnd.IntN(2) == 0 })
					check(t, err)
					log = append(log, "refuse:\n"+tells(refused))
					if rnd.IntN(2) == 0 {
						a.reopen()
					}
					for _, c := range a.changes(b) {
						if slices.ContainsFunc(refused, func(r replica.Change) bool {
							return r.Path == c.Path && r.Added == c.Added && r.Proposed == c.Proposed && r.Proposed != nil
						}) {
							t.Fatalf("%s is proposed still", c.Path)
						}
					}
					// All that was refused is to be had by who changed it again: for the rounds that follow.
					ids, err := a.rep.Aside(b.self, replica.Refused)
					check(t, err)
					for _, rec := range ids {
						check(t, a.rep.Decide(replica.Proposed, rec.ID()))
					}
				case 2:
					for tries := 0; ; tries++ {
						list := a.changes(b)
						log = append(log, "accept all:\n"+tells(list))
						if len(list) == 0 {
							break
						}
						taken, left := a.accept(b, all)
						why := ""
						moved := false
						for i := range left {
							why += left[i].Err.Error() + "\n"
							if dir, _ := a.at(left[i].Path); errors.Is(left[i].Err, sharefs.KindExist) && dir != 0 && a.find(left[i].Path) != 0 && !moved {
								moved = true
								n++
								a.rename(left[i].Path, fmt.Sprintf("aside%d", n))
							}
						}
						if len(left) > 0 && !moved || len(taken)+len(left) == 0 || tries > 9 {
							t.Fatalf("of\n%stook\n%sleft %s", tells(list), tells(taken), why)
						}
						log = append(log, why)
						meet(t, a, b)
					}
					same(t, a, b)
					noConflicts(t, a, b)
				}
			}
		})
	}
}

// A symlink of which nobody has said where it leads is not shown, and keeps nothing else from being shown.
func TestProposedSymlinkThatLeadsNowhere(t *testing.T) {
	a, b := owner(t)
	b.write("f", "of b")
	meet(t, a, b)
	items := b.log()
	place, err := record.New(items[0].Records[0].Share, b.self, 1, &record.Place{File: sharefs.FileID{7}, Type: record.Symlink, Parent: record.Root, Name: "link"})
	check(t, err)
	check(t, place.Sign(b.key))
	if n, err := a.rep.Take(b.self, []replica.Item{{Records: []*record.Record{place}}}); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if got := a.sees(b); !strings.HasPrefix(got, "f ") || strings.Contains(got, "link") {
		t.Errorf("a sees\n%s", got)
	}
	if _, ok, err := a.rep.Find(b.self, "link"); ok || err != nil {
		t.Error(ok, err)
	}
}
