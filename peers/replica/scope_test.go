package replica

import (
	"crypto/ed25519"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sharefs"
	"sharefs/integration/race"
	"sharefs/peers/converge"
	"sharefs/peers/record"
)

// noTree is a tree in which nothing happens.
type noTree struct{ Tree }

func (noTree) Follow() (bool, error) { return false, nil }
func (noTree) Sync() error           { return nil }

// rows is a database in memory.
type rows map[string][]byte

func rowKey(space uint8, key []byte) string { return string(rune(space)) + string(key) }

func (r rows) Get(space uint8, key []byte) ([]byte, bool, error) {
	v, ok := r[rowKey(space, key)]
	return v, ok, nil
}

func (r rows) Scan(space uint8, from, to []byte, fn func(key, value []byte) bool) error {
	for _, k := range slices.Sorted(maps.Keys(r)) {
		if k < rowKey(space, from) || k[0] != byte(space) || to != nil && k >= rowKey(space, to) {
			continue
		}
		if !fn([]byte(k[1:]), r[k]) {
			break
		}
	}
	return nil
}

func (r rows) Commit(list []Row) error {
	for _, row := range list {
		if row.Value == nil {
			delete(r, rowKey(row.Space, row.Key))
		} else {
			r[rowKey(row.Space, row.Key)] = row.Value
		}
	}
	return nil
}

func (r rows) Sync() error { return nil }

type anyKeys struct{}

func (anyKeys) Share() record.ShareID     { return record.ShareID{1} }
func (anyKeys) Takes(record.ShareID) bool { return true }
func (anyKeys) Has(sharefs.KeyID) bool    { return true }

// pen writes down what somebody does who works in a tree.
type pen struct {
	key  ed25519.PrivateKey
	tree *converge.Tree
	now  sharefs.HLC
	ids  byte
	new  []*record.Record // that nobody was told of
}

func newPen() *pen {
	seed := make([]byte, ed25519.SeedSize)
	seed[0] = 1
	return &pen{key: ed25519.NewKeyFromSeed(seed), tree: converge.New(), now: 1 << 16}
}

func (p *pen) author() (id sharefs.PeerID) {
	copy(id[:], p.key.Public().(ed25519.PublicKey))
	return id
}

func (p *pen) say(body record.Body) {
	p.now += 1 << 16
	rec, err := record.New(record.ShareID{1}, p.author(), p.now, body)
	if err == nil {
		err = rec.Sign(p.key)
	}
	if err != nil {
		panic(err)
	}
	p.tree.Add(converge.Input{Record: rec, Standing: converge.Merged})
	p.new = append(p.new, rec)
}

func (p *pen) slot(path string) (dir sharefs.FileID, name string) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return record.Root, path
	}
	return p.tree.Result()[path[:i]].Key.File, path[i+1:]
}

func (p *pen) place(key converge.Key, typ record.Type, path string) {
	dir, name := p.slot(path)
	p.say(&record.Place{File: key.File, Link: key.Link, Type: typ, Parent: dir, Name: name})
}

func (p *pen) file() sharefs.FileID { p.ids++; return sharefs.FileID{p.ids*37 + 1, p.ids} }

func (p *pen) version(file sharefs.FileID) {
	heads := p.tree.Heads(file)
	slices.SortFunc(heads, record.ID.Compare)
	p.say(&record.Version{File: file, Parents: heads, Mtime: sharefs.Time(p.now)})
}

func (p *pen) remove(n converge.Node) {
	gone := &record.Place{File: n.Key.File, Link: n.Key.Link, Type: n.Type, Parent: record.Nowhere}
	if n.Type == record.Regular {
		gone.Seen = p.tree.Heads(n.Key.File)
		slices.SortFunc(gone.Seen, record.ID.Compare)
	}
	p.say(gone)
}

// work does one thing, chosen by n.
func (p *pen) work(n func(int) int) {
	tree := p.tree.Result()
	all := slices.Sorted(maps.Keys(tree))[1:]
	var files, dirs []string
	dirs = append(dirs, "")
	for _, path := range all {
		if tree[path].Type == record.Directory {
			dirs = append(dirs, path)
		} else {
			files = append(files, path)
		}
	}
	free := func() (string, bool) {
		path := converge.Join(dirs[n(len(dirs))], []string{"a", "b", "c", "k.key"}[n(4)])
		_, taken := tree[path]
		return path, !taken && strings.Count(path, "/") < 4
	}
	to, ok := free()
	switch verb := n(12); {
	case verb < 2 && ok:
		p.place(converge.Key{File: p.file()}, record.Directory, to)
	case verb < 5 && ok:
		id := p.file()
		p.place(converge.Key{File: id}, record.Regular, to)
		p.version(id)
		p.say(&record.Attr{File: id, Mode: 0o644})
	case verb == 5 && ok && len(files) > 0:
		p.place(converge.Key{File: tree[files[n(len(files))]].Key.File, Link: uint64(p.now)}, record.Regular, to)
	case verb == 6 && len(files) > 0:
		p.version(tree[files[n(len(files))]].Key.File)
	case verb == 7 && len(files) > 0:
		p.remove(tree[files[n(len(files))]])
	case verb == 8 && len(dirs) > 1:
		top := dirs[1+n(len(dirs)-1)]
		for _, path := range slices.Backward(all) { // what is in a directory first
			if path == top || strings.HasPrefix(path, top+"/") {
				p.remove(tree[path])
			}
		}
	case verb < 11 && ok && len(all) > 0:
		if from := all[n(len(all))]; to != from && !strings.HasPrefix(to, from+"/") {
			p.place(tree[from].Key, tree[from].Type, to)
		}
	case len(all) > 0:
		p.say(&record.Attr{File: tree[all[n(len(all))]].Key.File, Mode: uint16(0o400 | n(8))})
	}
}

// scopeRules are what a peer may read in a test: that names below a path may be read, or not; the longest counts.
type scopeRules map[string]bool

func (s scopeRules) reads(path string) bool {
	if strings.HasSuffix(path, ".key") {
		return s["*.key"]
	}
	for at := path; ; {
		if yes, ok := s[at]; ok {
			return yes
		}
		i := strings.LastIndexByte(at, '/')
		if i < 0 {
			return s[""]
		}
		at = at[:i]
	}
}

func (s scopeRules) scope() Scope {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(s)) {
		fmt.Fprintln(&b, k, s[k])
	}
	return Scope{Print: sha256.Sum256([]byte(b.String())), Reads: s.reads}
}

// partial is a host with a peer that may read a part of its tree, whom it tells what it lacks.
type partial struct {
	t     fataler
	db    rows
	rep   *Replica
	rules scopeRules
	rand  *rand.Rand
	clock time.Time
}

type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

var reader = sharefs.PeerID{0xbe}

func newPartial(t fataler, rules scopeRules) *partial {
	p := &partial{t: t, db: rows{}, rules: rules, rand: rand.New(rand.NewPCG(1, 2)), clock: time.Unix(1e9, 0)}
	p.open()
	return p
}

func (p *partial) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(p.rand.Int())
	}
	return len(b), nil
}

func (p *partial) open() {
	p.t.Helper()
	p.clock = p.clock.Add(time.Second)
	var err error
	p.rep, err = Open(Config{Tree: noTree{}, Store: p.db, Self: sharefs.PeerID{0xaa}, Keys: anyKeys{}, Now: func() time.Time { return p.clock }, Rand: io.Reader(p),
		Counts: func(sharefs.PeerID) bool { return true }, Standing: func(*record.Record) Standing { return Merged },
		Scope: func(peer sharefs.PeerID) (Scope, bool) { return p.rules.scope(), peer == reader && p.rules != nil }})
	p.check(err)
}

func (p *partial) check(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatalf("%v", err)
	}
}

func (p *partial) take(list ...*record.Record) {
	p.t.Helper()
	var items []Item
	for _, rec := range list {
		items = append(items, Item{Records: []*record.Record{rec}})
	}
	_, err := p.rep.Take(sharefs.PeerID{1}, items)
	p.check(err)
}

// since lists what the peer lacks.
func (p *partial) since(after uint64) (list []*record.Record, last uint64) {
	p.t.Helper()
	log, last, err := p.rep.ScopeLog(reader)
	p.check(err)
	for after < last {
		items, err := p.rep.ScopeSince(reader, log, after, 7)
		p.check(err)
		if len(items) == 0 {
			p.t.Fatalf("nothing behind %d of %d", after, last)
		}
		for _, it := range items {
			if it.Number <= after {
				p.t.Fatalf("number %d behind %d", it.Number, after)
			}
			list, after = append(list, it.Records...), it.Number
		}
	}
	return list, last
}

// is holds that the peer is told what it is by the slow scope, and given the contents of the versions that it is told, and of no others.
func (p *partial) is(o *told) {
	p.t.Helper()
	list, _ := p.since(0)
	var got []record.ID
	for _, rec := range list {
		got = append(got, rec.ID())
	}
	p.rep.tree.Inputs(func(i converge.Input) {
		if i.Record.Body.Kind() == record.KindVersion {
			v, err := p.rep.ScopeVersion(reader, i.Record.ID())
			if p.check(err); (v != nil) != slices.Contains(got, i.Record.ID()) {
				p.t.Fatalf("its content is given: %v, which is not whether it is told: %+v", v != nil, i.Record.Body)
			}
		}
	})
	slices.SortFunc(got, record.ID.Compare)
	want := o.ids()
	if slices.Equal(got, want) {
		return
	}
	text := func(ids, others []record.ID) (s string) {
		for _, id := range ids {
			if !slices.Contains(others, id) {
				s += fmt.Sprintf("\t%+v\n", p.rep.tree.Record(id).Body)
			}
		}
		return s
	}
	p.t.Fatalf("%d are told, not %d\nnot told:\n%stoo many:\n%s", len(got), len(want), text(want, got), text(got, want))
}

func someRules(n func(int) int) scopeRules {
	rules := scopeRules{}
	for range 1 + n(4) {
		rules[[]string{"", "a", "b", "a/a", "a/b", "b/c/a", "*.key"}[n(7)]] = n(3) > 0
	}
	return rules
}

// TestScope changes a random tree, and what a peer may read of it, and holds after each step that the peer is told what it is by the slow definition: also after the host began
// again, and whatever the portions in which records come.
func TestScope(t *testing.T) {
	race.Leave(t, race.OneHand)
	if os.Getenv("SHAREFS_SOAK") == "" {
		check(t, flag.Set("rapid.seed", "1"))
		check(t, flag.Set("rapid.checks", "150"))
	} else {
		check(t, flag.Set("rapid.checks", "3000"))
	}
	rapid.Check(t, func(t *rapid.T) {
		n := func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "n") }
		pen, rules := newPen(), someRules(n)
		p := newPartial(t, rules)
		slow := newTold(rules)
		var all []*record.Record
		p.since(0) // from here on there is a log
		for range 30 {
			switch verb := n(12); {
			case verb < 9:
				pen.work(n)
				if n(3) == 0 {
					continue
				}
				news := pen.new
				pen.new = nil
				if n(4) == 0 {
					slices.Reverse(news)
				}
				p.take(news...)
				all = append(all, news...)
				slow.step(all, news)
			case verb == 9:
				now := someRules(n)
				if maps.Equal(now, rules) {
					break // nothing is looked at again then
				}
				rules, p.rules = now, now
				p.since(0)
				slow.regrant(rules, all)
			case verb == 10:
				p.open()
				for id := range slow.all { // directories are looked at as if they came into the scope
					slow.all[id] = slow.all[id] && !isDirectory(placeOf(all, id))
				}
				clear(slow.names) // and names as if they came
				slow.check(all)
			}
			p.is(slow)
		}
		p.converges()
	})
}

// TestScopeTellsNothingOfTheRest compares two worlds, in one of which more happens outside of what a peer may read: names, times, contents and attributes there, also of the
// directories that lead to what it reads, and in the same portions. What it is told is the same to the byte, after each step.
func TestScopeTellsNothingOfTheRest(t *testing.T) {
	race.Leave(t, race.OneHand)
	rounds := uint64(40)
	if os.Getenv("SHAREFS_SOAK") != "" {
		rounds = 3000
	}
	for seed := range rounds {
		rng := rand.New(rand.NewPCG(seed, 5))
		rules := scopeRules{"top/in": true, "*.key": seed%2 == 0}
		quiet, loud := newPen(), newPen()
		worlds := []*partial{newPartial(t, rules), newPartial(t, rules)}
		both := func(fn func(*pen)) { fn(quiet); fn(loud) }
		inside := func(path string) bool { return path == "top/in" || strings.HasPrefix(path, "top/in/") }
		both(func(p *pen) {
			p.place(converge.Key{File: sharefs.FileID{1}}, record.Directory, "top")
			p.place(converge.Key{File: sharefs.FileID{2}}, record.Directory, "top/in")
			p.place(converge.Key{File: sharefs.FileID{3}}, record.Directory, "out")
		})
		for step := range 60 {
			both(func(p *pen) { p.now, p.ids = sharefs.HLC(step+2)<<40, byte(3+4*step) })
			choice := rng.Uint64()
			switch rng.IntN(8) {
			case 0, 1, 2:
				both(func(p *pen) { p.within(choice, inside) })
			case 3, 4, 5:
				loud.within(choice, func(path string) bool {
					return !inside(path) && path != "top" && path != "out" && !(rules["*.key"] && strings.HasSuffix(path, ".key"))
				})
			case 6:
				loud.say(&record.Attr{File: sharefs.FileID{1}, Mode: uint16(step)})
				loud.say(&record.Cut{Author: sharefs.PeerID{1, byte(step)}, Number: uint64(step)})
			case 7:
				if step%5 == 0 {
					worlds[0].open()
					worlds[1].open()
				}
			}
			var told [2]string
			for i, p := range []*pen{quiet, loud} {
				worlds[i].take(p.new...)
				p.new = nil
				log, last, err := worlds[i].rep.ScopeLog(reader)
				check(t, err)
				items, err := worlds[i].rep.ScopeSince(reader, log, 0, 1<<20)
				check(t, err)
				told[i] = fmt.Sprintln(log, last)
				for _, it := range items {
					told[i] += fmt.Sprintln(it.Number)
					for _, rec := range it.Records {
						told[i] += fmt.Sprintf("%x\n", rec.Bytes())
					}
				}
			}
			if told[0] != told[1] {
				t.Fatalf("seed %d, step %d: in the quiet world\n%s\nand in the other one\n%s", seed, step, told[0], told[1])
			}
		}
	}
}

// within does one thing to what is where in says, or to nothing at all.
func (p *pen) within(choice uint64, in func(path string) bool) {
	tree := p.tree.Result()
	var all, dirs []string
	for _, path := range slices.Sorted(maps.Keys(tree)) {
		if in(path) && path != "" {
			all = append(all, path)
		}
		if tree[path].Type == record.Directory && in(path+"/x") {
			dirs = append(dirs, path)
		}
	}
	n := func(n int) int {
		i := choice % uint64(n)
		choice = choice/uint64(n) ^ choice<<40
		return int(i)
	}
	to := converge.Join(dirs[n(len(dirs))], []string{"a", "b", "c", "k.key"}[n(4)])
	_, taken := tree[to]
	ok := !taken && strings.Count(to, "/") < 6 && in(to)
	key := converge.Key{File: p.file()}
	switch verb := n(8); {
	case verb == 0 && ok:
		p.place(key, record.Directory, to)
	case verb < 3 && ok:
		p.place(key, record.Regular, to)
		p.version(key.File)
	case len(all) == 0:
	case verb < 5:
		if n := tree[all[n(len(all))]]; n.Type == record.Regular {
			p.version(n.Key.File)
		} else {
			p.say(&record.Attr{File: n.Key.File, Mode: 0o700})
		}
	case verb == 5:
		if path := all[n(len(all))]; tree[path].Type == record.Regular {
			p.remove(tree[path])
		}
	case ok:
		if from := all[n(len(all))]; from != "top/in" && to != from && !strings.HasPrefix(to, from+"/") {
			p.place(tree[from].Key, tree[from].Type, to)
		}
	}
}

func isRemoval(rec *record.Record) bool {
	b, ok := rec.Body.(*record.Place)
	return ok && b.Removed()
}

func placeOf(all []*record.Record, id sharefs.FileID) *record.Record {
	i := slices.IndexFunc(all, func(rec *record.Record) bool {
		_, ok := rec.Body.(*record.Place)
		return ok && fileOf(rec) == id
	})
	return all[i]
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestScopeRulesChangeAtTheStart takes a peer's rules away while the logs of scopes are read.
func TestScopeRulesChangeAtTheStart(t *testing.T) {
	p, w := newPartial(t, scopeRules{"": true}), newPen()
	w.say(&record.Place{File: sharefs.FileID{1}, Type: record.Regular, Parent: record.Root, Name: "f"})
	p.take(w.new...)
	if list, _ := p.since(0); len(list) != 1 {
		t.Fatal(list)
	}
	for often := range 4 {
		left := 3 - often
		cfg := p.rep.cfg
		cfg.Scope = func(sharefs.PeerID) (Scope, bool) {
			if left--; left < 0 {
				return Scope{}, false
			}
			return p.rules.scope(), true
		}
		_, err := Open(cfg)
		p.check(err)
	}
}
