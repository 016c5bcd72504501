package versions

import (
	"sync"
	"time"

	"sharefs"
)

// costs bounds how much of the time the capture takes for one large file that is saved again and again: after a capture the file does not come to rest by itself for
// restsLarge times as long as that took, so that the saves in between are one version, as saves within the settle time are. So no file costs more than a
// fifth of a core, however large it is, and one that is captured in part, in milliseconds, is not held up at all. Whoever asks for a version gets it at once.
type costs struct {
	mu   sync.Mutex // guards what follows; the last lock to be taken
	rest map[sharefs.Ino]time.Time
}

const (
	restsLarge = 4
	longRest   = time.Hour // at most, so that an hour that a capture once took does not stand in the way for ever
	noRest     = 50 * time.Millisecond
	maxCosts   = 4096
)

// note tells how long the capture of a large file took that has ended now.
func (c *costs) note(ino sharefs.Ino, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.rest, ino)
	if took < noRest {
		return
	}
	if c.rest == nil || len(c.rest) >= maxCosts {
		c.rest = map[sharefs.Ino]time.Time{}
	}
	c.rest[ino] = time.Now().Add(min(restsLarge*took, longRest))
}

// rests returns the instant before which a file is not to come to rest by itself, zero for most.
func (c *costs) rests(ino sharefs.Ino) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rest[ino]
}
