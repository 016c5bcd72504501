package versions

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/integration/race"
)

// adoptionModel is a file that this host and another one change in turn, with readers, kills and failures within adoptions. Whatever happens the file holds what it did or what it was to, and
// no version of it is anything else.
type adoptionModel struct {
	t       *testing.T
	r       *rand.Rand
	p       *inPlaceTrees
	text    string // that the file holds
	written map[string]bool
	reader  *Handle
}

func TestAdoptionModel(t *testing.T) {
	race.Leave(t, race.OneHand)
	t.Parallel()
	steps, seeds := 12, uint64(1)
	if os.Getenv("SHAREFS_SOAK") != "" {
		steps, seeds = 100, 10
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 14))
			text := blob(r.Uint64(), 700_000)
			m := adoptionModel{t: t, r: r, text: text, written: map[string]bool{text: true}, p: inPlacePair(t, [2]sparse{{text: text}, {text: text}}, m0(r))}
			m.p.here.past.aside.clones = false
			for range steps {
				switch r.IntN(5) {
				case 0:
					m.write()
				case 1:
					m.read()
				default:
					m.adopt()
				}
				m.look()
			}
			m.drop()
			collect(t, m.p.here, GCOptions{})
			wantClean(t, m.p.here, FsckScrub)
		})
	}
}

// m0 has a tree patch whatever is large enough, at times.
func m0(r *rand.Rand) func(*Config) {
	size := int64(1) << r.IntN(22)
	return func(c *Config) { c.patchSize = size }
}

// changed returns other content.
func (m *adoptionModel) changed() string {
	text := m.text
	for range 1 + m.r.IntN(3) {
		if len(text) > 40_000 {
			text = spliced(text, m.r.IntN(len(text)-40_000), blob(m.r.Uint64(), 1+m.r.IntN(30_000)))
		}
	}
	switch m.r.IntN(5) {
	case 0:
		text = text[:m.r.IntN(len(text)+1)]
	case 1:
		text += blob(m.r.Uint64(), m.r.IntN(200_000))
	case 2:
		if n := len(text) / 2; n > 0 {
			text = text[:n/2] + string(make([]byte, n)) + text[n/2+n:]
		}
	}
	m.written[text] = true
	return text
}

// drop closes what is open for reading.
func (m *adoptionModel) drop() {
	if m.reader != nil {
		check(m.t, m.reader.Close())
		m.reader = nil
	}
}

// read opens the file, or closes it.
func (m *adoptionModel) read() {
	if m.reader != nil {
		m.drop()
		return
	}
	m.reader = must[*Handle](m.t)(m.p.here.Open(m.p.ino, unix.O_RDONLY, root))
}

// write changes the file here.
func (m *adoptionModel) write() {
	m.text = m.changed()
	h := must[*Handle](m.t)(m.p.here.Open(m.p.ino, unix.O_RDWR, root))
	// A part at a time, so that what the file held is under it.
	for at := 0; at < len(m.text); at += 65536 {
		must[int](m.t)(h.WriteAt([]byte(m.text[at:min(at+65536, len(m.text))]), int64(at)))
	}
	must[sharefs.Attr](m.t)(m.p.here.Setattr(m.p.ino, &SetAttr{Size: ptr(uint64(len(m.text)))}, root))
	check(m.t, h.Close())
	m.p.own = newestKept(m.t, m.p.here, m.p.ino).Own
}

// adopt takes over what the other host has, and something may go wrong within that.
func (m *adoptionModel) adopt() {
	t, p := m.t, m.p
	text := m.changed()
	c := newestKept(t, p.there.Tree, save(t, p.there.Tree, "f", text)).Content
	clear(p.there.wanted)
	l := gathered(t, p.here, p.there, c)
	defer l.End()
	fate, at, calls, copied := m.r.IntN(4), m.r.IntN(12), 0, ""
	p.here.cfg.adopts = func(place string) error {
		if calls++; calls != at+1 {
			return nil
		}
		switch fate {
		case 0:
			copied = storeAsKilled(t, p.here.cfg.Dir)
		case 1:
			return unix.ENOSPC
		}
		return nil
	}
	own, err := p.here.Adopt(p.ino, staged(t, p.here, Foreign{Content: c, Author: p.there.cfg.Peer, Onto: p.ino}), p.own)
	p.here.cfg.adopts = nil
	if err == nil {
		p.own, m.text = own, text
	} else if fate != 1 || calls <= at {
		t.Fatal(err)
	}
	if copied == "" {
		return
	}
	m.drop()
	old := p.here.cfg
	p.here = testTree(t, copied, byHand, func(c *Config) { c.Peer, c.patchSize = old.Peer, old.patchSize })
	p.here.past.aside.clones = false
	comeToRest(t, p.here)
	capture(t, p.here)
	p.own = must[Latest](t)(p.here.Latest(p.ino)).Own
	m.text = read(t, p.here, p.ino)
}

// look holds that all is as it is to be.
func (m *adoptionModel) look() {
	t, p := m.t, m.p
	t.Helper()
	wantNoAdoption(t, p.here)
	if got := read(t, p.here, p.ino); got != m.text || !m.written[got] {
		t.Fatal("it holds something else")
	}
	if m.reader != nil && readHandle(t, m.reader) != m.text {
		t.Fatal("who has it open sees something else")
	}
	for _, v := range must[[]sharefs.Version](t)(p.here.Versions(p.ino)) {
		if !m.written[readVersion(t, p.here, p.ino, v.Number)] {
			t.Fatalf("version %d is nothing that was written", v.Number)
		}
	}
	if m.r.IntN(3) == 0 {
		collect(t, p.here, GCOptions{})
	}
}
