package peers

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sharefs/integration/linkem"
	"sharefs/integration/mounttest"
)

// valueSize is how long all contents are, in bytes: so a write is one call, which happens or does not.
const valueSize = 600

func valueText(v int) string {
	head := fmt.Sprintf("value %d\n", v)
	return head + strings.Repeat(string(rune('a'+v%26)), valueSize-len(head))
}

// valueOf returns the value that a content is; whole is false for what is none, as that of a file which is being filled under who has it open.
func valueOf(text string) (v int, whole bool) {
	head, _, _ := strings.Cut(text, "\n")
	v, err := strconv.Atoi(strings.TrimPrefix(head, "value "))
	return v, err == nil && text == valueText(v)
}

// play is one run of programs on hosts.
type play struct {
	t  *testing.T
	hs []*host

	mu    sync.Mutex // guards what follows
	story story
	next  int
}

// note puts a deed into the story and returns where.
func (p *play) note(d deed) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.story = append(p.story, d)
	return len(p.story) - 1
}

// sure says that a deed succeeded, or that it did not.
func (p *play) sure(at int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.story[at].sure = err == nil
}

func (p *play) fresh() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next++
	return p.next
}

// client is a program on a host. Those on one host take turns, as well-behaved programs do that lock what they write to.
type client struct {
	*play
	host int
	turn *sync.Mutex
	rnd  *rand.Rand
}

// work does so many things.
func (c *client) work(n int) {
	for range n {
		c.turn.Lock()
		c.step()
		c.turn.Unlock()
		time.Sleep(time.Duration(c.rnd.IntN(40)) * time.Millisecond)
	}
}

// step does one thing. What fails, as where the daemon was killed, is known to have failed: whether it happened is not.
func (c *client) step() {
	dir := c.hs[c.host].Path([]string{"x", "y"}[c.rnd.IntN(2)])
	all, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	verb := c.rnd.IntN(20)
	if len(all) == 0 || verb < 3 {
		v := c.fresh()
		at := c.note(deed{verb: create, host: c.host, value: v})
		c.sure(at, c.make(filepath.Join(dir, fmt.Sprintf("f%d", v)), v))
		return
	}
	name := filepath.Join(dir, all[c.rnd.IntN(len(all))].Name())
	f, err := os.OpenFile(name, os.O_RDWR, 0) // whoever has it open for writing sees no other host's content come
	if err != nil {
		return
	}
	defer f.Close()
	var buf [valueSize + 1]byte
	n, _ := f.ReadAt(buf[:], 0)
	old, whole := valueOf(string(buf[:n]))
	switch {
	case !whole:
	case verb < 10:
		c.note(deed{read, c.host, old, 0, true})
	case verb < 17:
		v := c.fresh()
		at := c.note(deed{verb: write, host: c.host, value: v, old: old})
		_, err := f.WriteAt([]byte(valueText(v)), 0)
		c.sure(at, errors.Join(err, f.Close()))
	case verb < 18:
		at := c.note(deed{verb: move, host: c.host, value: old})
		c.sure(at, os.Rename(name, c.hs[c.host].Path([]string{"x", "y"}[c.rnd.IntN(2)], fmt.Sprintf("m%d", c.fresh()))))
	default:
		at := c.note(deed{verb: remove, host: c.host, value: old})
		c.sure(at, os.Remove(name))
	}
}

func (c *client) make(name string, v int) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(valueText(v))
	return errors.Join(err, f.Close())
}

// ends returns the values that a host shows, live or in conflict.
func (p *play) ends(h *host) (map[int]bool, error) {
	all := map[int]bool{}
	look := func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil || len(text) == 0 { // made, and not written to before the daemon was killed
			return err
		}
		v, whole := valueOf(string(text))
		if !whole {
			return fmt.Errorf("%s holds %.40q, which nobody wrote", path, text)
		}
		all[v] = true
		return nil
	}
	for _, dir := range []string{"x", "y", ".share/conflicts"} {
		if err := filepath.WalkDir(h.Path(dir), look); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// atRest reports whether hosts have all of each other, and nothing waits.
func atRest(hs []*host) bool {
	for _, h := range hs {
		if s := h.Status(); s.Now.OpenWriters != 0 || s.Now.Settling != 0 || s.Capture.QueueNow != 0 {
			return false
		}
		for _, o := range hs {
			if o == h {
				continue
			}
			if f := h.peer(o.name).Files; f == nil || !f.Sends || !f.Receives || f.Lacks != 0 || f.Waiting {
				return false
			}
		}
		if s := h.sync(); s.Missing+s.Waiting > 0 {
			return false
		}
	}
	return true
}

// finish waits until all is told, and holds what is there against the story.
func (p *play) finish() {
	p.t.Helper()
	why := ""
	explained := func() bool {
		why = "they do not come to rest"
		if !atRest(p.hs) {
			return false
		}
		var trees []map[string]string
		for _, h := range p.hs {
			tree, err := h.tree()
			if err != nil {
				why = err.Error()
				return false
			}
			trees = append(trees, tree)
		}
		for i, tree := range trees {
			if !maps.Equal(tree, trees[0]) {
				why = fmt.Sprintf("%s and %s have different trees:\n%.2000v\n%.2000v", p.hs[0].name, p.hs[i].name, trees[0], tree)
				return false
			}
		}
		for _, h := range p.hs {
			ends, err := p.ends(h)
			if err != nil {
				why = err.Error()
				return false
			}
			if why = p.story.explain(ends); why != "" {
				why = h.name + ": " + why
				return false
			}
		}
		return true
	}
	for end := time.Now().Add(mounttest.Patience); !explained(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			var b strings.Builder
			for i, d := range p.story {
				fmt.Fprintf(&b, "%d: %+v\n", i, d)
			}
			for _, h := range p.hs {
				fmt.Fprintf(&b, "%s: %s\n%s%s", h.name, h.ctl("sync.json"), h.must("peers"), h.must("conflicts", "--json"))
				if dir := os.Getenv("SHAREFS_PEER_KEEP"); dir != "" {
					out, err := exec.Command("cp", "-a", h.Store, filepath.Join(dir, h.name)).CombinedOutput()
					fmt.Fprintf(&b, "kept in %s: %s, %v\n", dir, out, err)
				}
				tree, _ := h.tree()
				for _, path := range slices.Sorted(maps.Keys(tree)) {
					fmt.Fprintf(&b, "%s: %.30q\n", path, tree[path])
				}
			}
			p.t.Fatalf("not within %v: %s\n%s", mounttest.Patience, why, b.String())
		}
	}
}

// run has clients work on all hosts, and finishes. Meanwhile is called while they do, by this goroutine.
func (p *play) run(seed uint64, steps int, meanwhile func(rnd *rand.Rand)) {
	p.t.Helper()
	var hands sync.WaitGroup
	for i := range p.hs {
		turn := new(sync.Mutex)
		for k := range 2 {
			c := &client{play: p, host: i, turn: turn, rnd: rand.New(rand.NewPCG(seed, uint64(10*i+k)))}
			hands.Go(func() { c.work(steps) })
		}
	}
	if meanwhile != nil {
		meanwhile(rand.New(rand.NewPCG(seed, 1000)))
	}
	hands.Wait()
	p.finish()
}

func newPlay(t *testing.T, names ...string) *play {
	p := &play{t: t, hs: sharing(t, names...)}
	for _, h := range p.hs {
		for _, o := range p.hs {
			if o != h {
				h.must("grant", o.name, "manage") // of whose removals none are held
			}
		}
	}
	for _, name := range []string{"x", "y"} {
		p.hs[0].do(os.Mkdir(p.hs[0].Path(name), 0o755))
	}
	alike(t, "two directories", p.hs, func(tree map[string]string) bool { return len(tree) == 2 })
	return p
}

// seedOf is that of the test: printed, so that what programs do can be done again.
func seedOf(t *testing.T) uint64 {
	seed := uint64(mounttest.Number(t, "SHAREFS_PEER_SEED", 1, int(time.Now().Unix())))
	t.Logf("SHAREFS_PEER_SEED=%d", seed)
	return seed
}

// Programs on hosts that are cut off from each other now and then read, write, move and remove files; see explain_test.go for what must be so then.
func TestMysteries(t *testing.T) {
	if !mounttest.Soak() {
		t.Skip("what it finds depends on when things happen: a part of make soak")
	}
	p := newPlay(t, "anna", "bert", "cleo")
	seed := seedOf(t)
	steps := mounttest.Number(t, "SHAREFS_PEER_STEPS", 0, 200)
	for round := range mounttest.Number(t, "SHAREFS_PEER_ROUNDS", 0, 20) {
		p.run(seed+uint64(round), steps, func(rnd *rand.Rand) {
			for range steps / 25 {
				time.Sleep(time.Duration(rnd.IntN(300)) * time.Millisecond)
				cut := p.hs[rnd.IntN(len(p.hs))]
				for _, l := range cut.links {
					l.Set(linkem.Conditions{Loss: 1})
				}
				time.Sleep(time.Duration(rnd.IntN(500)) * time.Millisecond)
				for _, l := range cut.links {
					l.Set(linkem.Conditions{})
				}
			}
		})
	}
	t.Logf("%d deeds, %d values", len(p.story), p.next)
}

// Whichever daemon is killed, and whenever, all that was closed is there: live, replaced by whoever saw it, or in conflict.
func TestKilledAtAnyInstant(t *testing.T) {
	if !mounttest.Soak() {
		t.Skip("what it finds depends on when things happen: a part of make soak, and TestKilledAtWork is the short form")
	}
	p := newPlay(t, "anna", "bert")
	seed := seedOf(t)
	kills := mounttest.Number(t, "SHAREFS_PEER_KILLS", 0, 100)
	for done := 0; done < kills; done += 10 {
		now := min(10, kills-done)
		p.run(seed+uint64(done), 15*now, func(rnd *rand.Rand) {
			for range now {
				time.Sleep(time.Duration(rnd.IntN(300)) * time.Millisecond)
				h := p.hs[rnd.IntN(2)]
				h.Kill()
				h.Mount.Mount()
			}
		})
	}
	t.Logf("%d kills, %d deeds, %d values", kills, len(p.story), p.next)
}

// sync is how far a host is, as sync.json says.
func (h *host) sync() (s struct {
	Missing int `json:"contents_missing"`
	Waiting int `json:"names_waiting"`
}) {
	h.t.Helper()
	if err := json.Unmarshal([]byte(h.ctl("sync.json")), &s); err != nil {
		h.t.Fatal(err)
	}
	return s
}
