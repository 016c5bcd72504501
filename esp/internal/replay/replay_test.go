package replay

import (
	"testing"

	"pgregory.net/rapid"
)

// slow remembers every number for ever.
type slow struct {
	seen map[uint64]bool
	next uint64
}

func (m *slow) accept(pn uint64) bool {
	if m.seen[pn] || pn+Size < m.next {
		return false
	}
	m.seen[pn] = true
	m.next = max(m.next, pn+1)
	return true
}

func TestAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w Window
		m := slow{seen: map[uint64]bool{}}
		near := rapid.Uint64Range(0, 3*Size)
		t.Repeat(map[string]func(*rapid.T){
			"near": func(t *rapid.T) {
				// Around the highest number: what a reordering path sends.
				pn := m.next + near.Draw(t, "pn")
				if pn < 2*Size {
					pn = pn % (2 * Size)
				} else {
					pn -= 2 * Size
				}
				step(t, &w, &m, pn)
			},
			"run": func(t *rapid.T) {
				for range rapid.IntRange(1, 300).Draw(t, "n") {
					step(t, &w, &m, m.next)
				}
			},
			"edge": func(t *rapid.T) {
				d := rapid.Uint64Range(0, 130).Draw(t, "d")
				if m.next > Size+65 {
					step(t, &w, &m, m.next-Size-65+d)
				}
			},
			"jump": func(t *rapid.T) {
				step(t, &w, &m, m.next+rapid.Uint64Range(0, 1<<40).Draw(t, "far"))
			},
		})
	})
}

func step(t *rapid.T, w *Window, m *slow, pn uint64) {
	t.Helper()
	may := w.Check(pn)
	got, want := w.Accept(pn), m.accept(pn)
	if got != want || may != got {
		t.Fatalf("Accept(%d) = %v (Check %v), want %v; next %d", pn, got, may, want, m.next)
	}
	if w.Next() != m.next {
		t.Fatalf("Next() = %d, want %d", w.Next(), m.next)
	}
	if w.Accept(pn) {
		t.Fatalf("Accept(%d) twice", pn)
	}
}

func TestLastNumberIsRefused(t *testing.T) {
	var w Window
	if w.Check(^uint64(0)) || w.Accept(^uint64(0)) {
		t.Fatal("the number that would wrap was accepted")
	}
	if !w.Accept(^uint64(0)-1) || w.Accept(^uint64(0)-1) {
		t.Fatal("the number below it must be accepted once")
	}
}

func BenchmarkAccept(b *testing.B) {
	var w Window
	for i := range b.N {
		w.Accept(uint64(i))
	}
}
