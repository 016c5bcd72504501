package sim

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"sharefs"
	"sharefs/integration/race"
)

// history is what is done in a world: each number is a step.
type history struct {
	seed  uint64
	hosts int
	level level // of the intruder
	alone bool  // there is none
	steps []uint64

	timeless bool // nobody sets times of files
}

// historyOf makes a history from a seed.
func historyOf(seed uint64, most int) history {
	rnd := rand.New(rand.NewPCG(seed, 0))
	h := history{seed: seed, hosts: 2 + min(rnd.IntN(4), rnd.IntN(7)), level: level(rnd.IntN(3)), alone: rnd.IntN(2) == 0}
	if seed%16 == 15 {
		h.hosts = 6 + int(seed/16%3)
	}
	for range 20 + rnd.IntN(most) {
		h.steps = append(h.steps, rnd.Uint64())
	}
	return h
}

// run plays a history, and returns what failed, empty if nothing did, and what was done.
func (h history) run() (text string, w *world) {
	var i *intruder
	if !h.alone {
		i = newIntruder(h.level)
	}
	w = newWorld(h.seed, h.hosts, i)
	w.few, w.timeless = h.seed%2 == 0, h.timeless
	text = w.play(h.steps)
	return text, w
}

// guard does something and returns what failed; empty if nothing did.
func (w *world) guard(do func()) (text string) {
	defer func() {
		switch c := recover().(type) {
		case nil:
		case failure:
			text = c.text
		default:
			text = fmt.Sprintf("panic: %v\n%s", c, debug.Stack())
		}
	}()
	do()
	return ""
}

// play takes steps, and from time to time waits until everything is at rest and holds what must hold then.
func (w *world) play(steps []uint64) (text string) {
	return w.guard(func() {
		third := len(steps) / 3
		for i, step := range steps {
			w.step(step)
			if w.even {
				var all strings.Builder
				for _, h := range w.hosts {
					all.WriteString(h.tree.shows())
				}
				w.trees = append(w.trees, all.String())
			}
			if i == third || i == 2*third || i == len(steps)-1 {
				w.quiesce()
				w.check()
				if !w.even {
					w.hosts[step%uint64(len(w.hosts))].save(true)
				}
			}
		}
		w.aftermath(w.rng(1 << 41))
	})
}

// sortOf tells failures of one cause from others, as far as that can be seen: what it says without names and numbers.
func sortOf(text string) string { return strings.Join(words.FindAllString(text, 8), " ") }

var words = regexp.MustCompile(`\b[a-z]{3,}\b`)

// smaller returns a history that fails in the same way, with as few steps as can be found.
func (h history) smaller(why string) history {
	return h.smallerBy(why, func(less history) string { text, _ := less.run(); return text })
}

func (h history) smallerBy(why string, run func(history) string) history {
	tries := 150
	for n, before := len(h.steps)/2, 0; n > 0; n /= 2 {
		for at := 0; at+n <= len(h.steps) && tries > 0; tries-- {
			less := h
			less.steps = append(append([]uint64(nil), h.steps[:at]...), h.steps[at+n:]...)
			if text := run(less); sortOf(text) == sortOf(why) {
				h = less
			} else {
				at += n
			}
		}
		if n == 1 && len(h.steps) != before {
			before, n = len(h.steps), 4
		}
	}
	return h
}

func (h history) test(t *testing.T) {
	t.Helper()
	text, _ := h.run()
	if text == "" {
		return
	}
	small := h.smaller(text)
	why, w := small.run()
	t.Fatalf("seed %d: %s\n%d steps are enough for: %s\n%s", h.seed, text, len(small.steps), why, strings.Join(w.lines, "\n"))
}

// short and long are how many steps a history has at most, beside 20: those of each test run, and those of make soak.
const short, long = 120, 300

func soak() bool { return os.Getenv("SHAREFS_SOAK") != "" }

// TestHistories plays several hundred histories; make soak 10,000 longer ones.
func TestHistories(t *testing.T) {
	runSeeds(t, 300, 10_000, history.test)
}

// Histories that failed once, and by what.
func TestSeedsThatFailed(t *testing.T) {
	runFailed(t, history.test, []failedOnce{
		{0, short, "the account was on disk after a loss of power, and the tree that it told of was not", false},
		{259, long, "what a restored host wrote was not told anew from where its two histories part, but from a later batch", false},
		{299, long, "a file that became another thing by an earlier record was linked as what it had been", false},
		{632, long, "a symlink of which nobody had said where it leads ended the process", false},
		{1285, long, "a restored host gave numbers of arrival again that its peers had passed", false},
		{3027, long, "of two histories of a hostile writer a restored host counted the other one, which the simulation took for a change", false},
		{3752, long, "a directory that somebody was moving was to have a second name", false},
		{6505, long, "as 3027", false},
		{5006, long, "what a directory was like was told nobody, which was known for what is in it before its name was looked at", true},
		{7542, long, "an empty file that was made again just before a crash did not get the time that was set", true},
	})
}

// runSeeds plays the histories of so many seeds; in make soak of many, and longer ones; or of the one of SHAREFS_SIM_SEED alone.
func runSeeds(t *testing.T, few, many uint64, test func(history, *testing.T)) {
	t.Helper()
	race.Leave(t, race.OneHand)
	from, n, most := uint64(0), few, short
	if soak() {
		n, most = many, long
	}
	if s := os.Getenv("SHAREFS_SIM_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		from, n = seed, 1
	}
	for seed := from; seed < from+n; seed++ {
		h := historyOf(seed, most)
		t.Run(fmt.Sprint(seed), func(t *testing.T) { test(h, t) })
	}
}

// failedOnce is a history that failed once, and by what.
type failedOnce struct {
	seed  uint64
	most  int
	why   string
	timed bool // somebody sets times of files in it
}

// runFailed runs histories anew that failed once.
func runFailed(t *testing.T, test func(history, *testing.T), list []failedOnce) {
	race.Leave(t, race.OneHand)
	for _, c := range list {
		t.Run(fmt.Sprintf("%d: %s", c.seed, c.why), func(t *testing.T) {
			h := historyOf(c.seed, c.most)
			h.timeless = !c.timed
			test(h, t)
		})
	}
}

// The place of a directory comes, in the order of all records, after those of the directories that it is put into, though the clock went back: or it would be a circle.
func TestMovesAfterTheClockWentBack(t *testing.T) {
	race.Leave(t, race.OneHand)
	for seed := range uint64(8) {
		w := newWorld(seed, 2, nil)
		text := w.guard(func() {
			h := w.hosts[1]
			dir := func(in sharefs.Ino, name string) sharefs.Ino {
				return h.tree.create(in, name, inode{id: h.tree.newID(), mode: sharefs.ModeDir | 0o755})
			}
			b := dir(sharefs.RootIno, "b")
			h.author()
			w.clock = w.clock.Add(time.Minute)
			e := dir(b, "e")
			d := dir(e, "d")
			w.quiesce()
			h.skew = -1000 * time.Hour
			if err := h.tree.rename(e, "d", sharefs.RootIno, "d"); err != nil {
				w.fail("%v", err)
			}
			if err := h.tree.rename(sharefs.RootIno, "b", d, "b"); err != nil {
				w.fail("%v", err)
			}
			h.author()
			before := h.tree.shows()
			w.quiesce()
			w.check()
			if after := h.tree.shows(); after != before {
				w.fail("what was moved to\n%s\nis at\n%s", before, after)
			}
		})
		if text != "" {
			t.Errorf("seed %d: %s", seed, text)
		}
	}
}

// What somebody of low trust says changes nothing: two worlds, in one of which he is silent, have the same trees at each step.
func TestLowTrustChangesNothing(t *testing.T) {
	race.Leave(t, race.OneHand)
	seeds := uint64(30)
	if soak() {
		seeds = 1000
	}
	for seed := range seeds {
		h := historyOf(seed, short)
		h.alone, h.level = false, []level{stranger, proposer}[seed%2]
		var worlds [2]*world
		for i := range worlds {
			w := newWorld(h.seed, h.hosts, newIntruder(h.level))
			w.intruder.tells = seed%4 >= 2
			w.even, w.silent = true, i == 0
			if text := w.play(h.steps); text != "" {
				t.Fatalf("seed %d: %s", seed, text)
			}
			worlds[i] = w
		}
		for i, was := range worlds[0].trees {
			if now := worlds[1].trees[i]; now != was {
				t.Fatalf("seed %d: after step %d there is\n%s\nand where a %s spoke\n%s", seed, i, was, h.level, now)
			}
		}
	}
}

// A seed makes the same history each time.
func TestSameSeedSameHistory(t *testing.T) {
	race.Leave(t, race.OneHand)
	for seed := range uint64(10) {
		var sums [2]string
		for i := range sums {
			_, w := historyOf(seed, short).run()
			sums[i] = hex.EncodeToString(w.trace.Sum(nil)) + w.hosts[0].tree.shows()
			for _, r := range w.hosts[0].records() {
				sums[i] += r.ID().String()
			}
		}
		if sums[0] != sums[1] {
			t.Fatalf("seed %d: two histories", seed)
		}
	}
}
