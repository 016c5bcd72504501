package host

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"sharefs"
	"sharefs/integration/race"
	"sharefs/peers/record"
	"sharefs/peers/replica"
)

// The slow model of hosts that let contents go, read them again, and give promises back. Who has what, and all that is on its way, is plain to see; promises, questions and what is
// said to them are those of the replicas. Messages arrive in any order, and anybody is killed between any two steps.

// giving is the model.
type giving struct {
	t      *testing.T
	rng    *rand.Rand
	all    []*site
	ids    []record.ID
	has    [][]bool // by file and host: it has all of the content, whatever happens to it
	least  []int    // by host: copies that it demands of others
	way    []said
	doing  []map[int]*deed // by host, by number; gone with it
	number int
	free   int      // files that were let go
	back   int      // of what had been promised before
	bound  [][]bool // by file and host: it had promised it at some time
}

// said is a message.
type said struct {
	from, to, number, file int
	what                   string // keep, kept, release or released
	yes                    bool   // the answer; of release: others may be asked to promise the same
}

// deed is what a host is at: it lets a file go, looks for others on whom it could rely, or asks one who relies on it.
type deed struct {
	file    int
	end     func()
	ask     *replica.Ask
	release *said // for whom others are looked for
	waits   int   // answers that are still to come
	yes     int
	numbers []int
}

func newGiving(t *testing.T, seed uint64, hosts, files int) *giving {
	g := &giving{t: t, rng: rand.New(rand.NewPCG(seed, 9)), all: sites(t, hosts)}
	for i := range files {
		g.all[0].write(fmt.Sprint("f", i), fmt.Sprint("content ", i))
	}
	g.all[0].settle()
	for _, s := range g.all {
		s.tell()
	}
	meet(t, g.all...)
	for i := range files {
		rec, err := g.all[0].rep.Having(g.all[0].find(fmt.Sprint("f", i)), func(*record.Version) bool { return true })
		check(t, err)
		g.ids = append(g.ids, rec.ID())
		g.has = append(g.has, slices.Repeat([]bool{true}, hosts))
		g.bound = append(g.bound, make([]bool, hosts))
	}
	for range hosts {
		g.doing = append(g.doing, map[int]*deed{})
		g.all[len(g.doing)-1].store.quick = true
		g.least = append(g.least, 1+g.rng.IntN(hosts-1))
	}
	return g
}

func (g *giving) host(id sharefs.PeerID) int {
	return slices.IndexFunc(g.all, func(s *site) bool { return s.self == id })
}

// say sends a message of a deed.
func (g *giving) say(d *deed, m said) {
	g.number++
	m.number = g.number
	g.doing[m.from][m.number] = d
	d.numbers = append(d.numbers, m.number)
	d.waits++
	g.way = append(g.way, m)
}

// others has a host ask all others but one to promise to keep a file.
func (g *giving) others(d *deed, at, but int) {
	for o := range g.all {
		if o != at && o != but {
			g.say(d, said{from: at, to: o, file: d.file, what: "keep"})
		}
	}
}

// letGo begins to let a file go, or, if it is promised, to ask those who rely on it.
func (g *giving) letGo(at, file int, instead bool) {
	if !g.has[file][at] {
		return
	}
	end, err := g.all[at].rep.LetGo(g.ids[file])
	if err == nil {
		d := &deed{file: file, end: end}
		g.others(d, at, -1)
		return
	}
	if sharefs.KindOf(err) != sharefs.KindBusy {
		g.t.Fatal(err)
	}
	to, _, err := g.all[at].rep.Promised(g.ids[file])
	check(g.t, err)
	for _, id := range to {
		o := g.host(id)
		d := &deed{file: file, ask: g.all[at].rep.Ask(id, []record.ID{g.ids[file]})}
		g.say(d, said{from: at, to: o, file: file, what: "release", yes: instead})
	}
}

// arrive has one of the messages arrive.
func (g *giving) arrive() {
	if len(g.way) == 0 {
		return
	}
	i := g.rng.IntN(len(g.way))
	m := g.way[i]
	g.way = slices.Delete(g.way, i, i+1)
	syncs := g.all[m.to].store.syncs
	s, id, answer := g.all[m.to], g.ids[m.file], said{from: m.to, to: m.from, number: m.number, file: m.file}
	holds := func(*record.Record, sharefs.Ino) bool { return g.has[m.file][m.to] }
	switch m.what {
	case "keep":
		yes, err := s.rep.Promise(g.all[m.from].self, []record.ID{id}, holds)
		check(g.t, err)
		answer.what, answer.yes = "kept", len(yes) > 0
		g.synced(&answer, syncs)
		g.way = append(g.way, answer)
	case "release":
		spare, needed, err := s.rep.Needs([]record.ID{id}, holds)
		check(g.t, err)
		if len(needed) > 0 && m.yes {
			g.others(&deed{file: m.file, release: &m}, m.to, m.from)
			return
		}
		answer.what, answer.yes = "released", len(spare) > 0
		g.synced(&answer, syncs)
		g.way = append(g.way, answer)
	default: // an answer
		d := g.doing[m.to][m.number]
		if d == nil {
			return // to one who was killed since
		}
		if d.waits--; m.yes {
			d.yes++
		}
		if d.ask != nil && m.yes {
			check(g.t, d.ask.Released([]record.ID{id}))
		}
		if d.waits == 0 || g.rng.IntN(10) == 0 { // or it has waited long enough
			g.finish(m.to, d)
		}
	}
}

// synced fails if a host says yes to what is not safe from a loss of power.
func (g *giving) synced(answer *said, before int) {
	g.t.Helper()
	if answer.yes && g.all[answer.from].store.syncs == before {
		g.t.Errorf("host %d says %s before it is on its disk", answer.from, answer.what)
	}
}

// finish ends a deed.
func (g *giving) finish(at int, d *deed) {
	for _, n := range d.numbers {
		delete(g.doing[at], n)
	}
	switch {
	case d.ask != nil:
		d.ask.End()
	case d.release != nil:
		g.way = append(g.way, said{from: at, to: d.release.from, number: d.release.number, file: d.file, what: "released", yes: d.yes >= g.least[at]})
	default:
		if d.yes >= g.least[at] && g.has[d.file][at] {
			g.has[d.file][at] = false
			g.free++
			if g.bound[d.file][at] {
				g.back++
			}
		}
		d.end()
	}
}

// kill takes all from a host that is not on its disk.
func (g *giving) kill(at int) {
	g.doing[at] = map[int]*deed{}
	g.all[at].openReplica()
}

// again has a host read a file again, and keep it.
func (g *giving) again(at, file int) {
	if slices.Contains(g.has[file], true) {
		g.has[file][at] = true
	}
}

// promised remembers that a host has promised a file to somebody, if it has.
func (g *giving) promised(at, file int) {
	_, ok, err := g.all[at].rep.Promised(g.ids[file])
	check(g.t, err)
	g.bound[file][at] = g.bound[file][at] || ok
}

// copies fails if fewer are left than somebody demands who let it go.
func (g *giving) copies(seed uint64, step int) {
	g.t.Helper()
	for file, has := range g.has {
		n := 0
		for _, h := range has {
			if h {
				n++
			}
		}
		for at, h := range has {
			if !h && n < g.least[at] {
				g.t.Fatalf("seed %d, step %d: %d copies of content %d are left, and host %d relies on %d", seed, step, n, file, at, g.least[at])
			}
		}
	}
}

// However promises are given, relied on and given back, in whatever order messages come, and whoever is killed when, so many copies are left as each demands; what was promised is let go in the
// end where that may be; and when nobody relies on anything any more nothing is left of the promises.
func TestReleasesLeaveCopies(t *testing.T) {
	race.Leave(t, race.OneHand)
	seeds := uint64(12)
	if os.Getenv("SHAREFS_SOAK") != "" {
		seeds = 300
	}
	var free, back int
	for seed := range seeds {
		g := newGiving(t, seed, 3+int(seed%3), 3)
		hosts, files := len(g.all), len(g.ids)
		for step := range 1500 {
			at, file := g.rng.IntN(hosts), g.rng.IntN(files)
			switch op := g.rng.IntN(100); {
			case op < 12:
				g.promised(at, file)
				g.letGo(at, file, g.rng.IntN(3) > 0)
			case op < 18:
				g.again(at, file)
			case op == 18:
				g.kill(at)
			case op < 22: // somebody waits no more
				for _, n := range slices.Sorted(maps.Keys(g.doing[at])) {
					if d := g.doing[at][n]; d != nil && g.rng.IntN(2) == 0 {
						g.finish(at, d)
					}
				}
			default:
				g.arrive()
			}
			g.copies(seed, step)
		}
		g.quiet(seed)
		free, back = free+g.free, back+g.back
	}
	t.Logf("%d were let go, %d of them by who had promised them before", free, back)
	if free == 0 || back == 0 {
		t.Errorf("%d were let go, %d of them by who had promised them before", free, back)
	}
}

// quiet lets all messages arrive; then everybody reads everything again, and all that was promised is asked for. One file has another content by then, of which nobody reads the old one.
func (g *giving) quiet(seed uint64) {
	g.t.Helper()
	settled := func() {
		for len(g.way) > 0 {
			g.arrive()
			g.copies(seed, -1)
		}
	}
	settled()
	g.all[0].write("f0", "another content")
	g.all[0].settle()
	meet(g.t, g.all...)
	for at := range g.all {
		for file := range g.ids[1:] {
			g.again(at, file+1)
		}
	}
	for at := range g.all {
		list, err := g.all[at].rep.Promises(record.ID{}, 100)
		check(g.t, err)
		for _, id := range list {
			to, _, err := g.all[at].rep.Promised(id)
			check(g.t, err)
			for _, peer := range to {
				d := &deed{file: slices.Index(g.ids, id), ask: g.all[at].rep.Ask(peer, []record.ID{id})}
				g.say(d, said{from: at, to: g.host(peer), file: d.file, what: "release"})
			}
		}
	}
	settled()
	for at := range g.all {
		if list, err := g.all[at].rep.Promises(record.ID{}, 100); err != nil || len(list) > 0 {
			g.t.Errorf("seed %d: %d promises are left at host %d, of which nobody relies on any: %v", seed, len(list), at, err)
		}
	}
}
