package peers

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs/integration/mounttest"
)

// A program reads a file, and has it mapped, while other content of a peer takes its place, and the daemon is killed within that: both hosts have the same afterwards, and the history of neither
// has anything that nobody wrote.
func TestKilledAtAdoption(t *testing.T) {
	hs := sharing(t, "anna", "bert")
	a, b := hs[0], hs[1]
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	const size = 3 << 20
	text := strings.Repeat("0123456789abcdef", size/16)
	written := map[string]bool{text: true}
	a.write("f", text)
	same := func() bool {
		got, err := os.ReadFile(b.Path("f"))
		return err == nil && string(got) == text
	}
	mounttest.WaitFor(t, "the file", same)
	for round := range mounttest.Number(t, "SHAREFS_PEER_KILLS", 2, 100) {
		f, err := os.Open(b.Path("f"))
		b.do(err)
		m, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
		b.do(err)
		if m[round] != text[round] {
			t.Errorf("the mapping has %q", m[round])
		}
		parts := []byte(text)
		for range 1 + r.IntN(40) {
			copy(parts[r.IntN(size-70_000):], fmt.Sprintf("%0*d", 1+r.IntN(70_000), r.Uint64()))
		}
		text = string(parts)
		written[text] = true
		a.write("f", text)
		if round%2 == 0 {
			time.Sleep(time.Duration(r.IntN(100)) * time.Millisecond)
			b.Kill()
			b.do(unix.Munmap(m))
			f.Close() // of a mount that is gone
			b.Mount.Mount()
			mounttest.WaitFor(t, "the new content", same)
			continue
		}
		mounttest.WaitFor(t, "the new content", same)
		mounttest.WaitFor(t, "the new content, for who had it open and mapped", func() bool {
			got := make([]byte, size)
			n, err := f.ReadAt(got, 0)
			return err == nil && n == size && string(got) == text && string(m) == text
		})
		b.do(unix.Munmap(m))
		b.do(f.Close())
	}
	for _, h := range hs {
		for n := 1; ; n++ {
			got, err := os.ReadFile(h.Path(fmt.Sprintf("f@@%d", n)))
			if errors.Is(err, fs.ErrNotExist) && n > 1 {
				break
			}
			h.do(err)
			if !written[string(got)] {
				t.Errorf("%s: version %d is nothing that was written", h.name, n)
			}
		}
	}
}
