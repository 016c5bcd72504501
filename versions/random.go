package versions

import (
	"crypto/rand"
	"sync"

	"sharefs"
)

// randomBytes fills b; crypto/rand ends the process rather than fail.
func randomBytes(b []byte) { rand.Read(b) } //nolint:errcheck // never returns an error (Go 1.24)

// fileIDs hands out random file ids, drawn many at a time.
type fileIDs struct {
	random func([]byte) // Config.Random

	mu   sync.Mutex
	pool [256 * 16]byte
	left int // bytes at the end of pool that were not used yet
}

func (f *fileIDs) next() (id sharefs.FileID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left == 0 {
		f.random(f.pool[:])
		f.left = len(f.pool)
	}
	copy(id[:], f.pool[len(f.pool)-f.left:])
	f.left -= len(id)
	return id
}
