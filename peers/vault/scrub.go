package vault

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"sharefs/peers/pace"
)

func newSum() hash.Hash { return sha256.New() }

// scrubbed is how far a vault was read back: the file scrub.
type scrubbed struct {
	After string    `json:"after,omitempty"` // up to this key, in the order of keys
	Done  time.Time `json:"done,omitzero"`   // the last time that all of it had been
	// Damaged objects, and when each was put, in nanoseconds since 1970: one that was put since is another one.
	Damaged map[string]int64 `json:"damaged,omitempty"`
}

// readScrubbed takes over what was found before. v.mu is held.
func (v *Vault) readScrubbed() {
	if b, err := os.ReadFile(filepath.Join(v.dir, "scrub")); err != nil || json.Unmarshal(b, &v.scrub) != nil {
		v.scrub = scrubbed{}
	}
	for key, at := range v.scrub.Damaged {
		if o := v.objects[key]; o != nil && !o.damaged && o.written.UnixNano() == at {
			o.damaged = true
			v.bad++
		}
	}
}

// writeScrubbed keeps it.
func (v *Vault) writeScrubbed() error {
	v.mu.Lock()
	v.scrub.Damaged = map[string]int64{}
	for key, o := range v.objects {
		if o.damaged {
			v.scrub.Damaged[key] = o.written.UnixNano()
		}
	}
	b, err := json.Marshal(v.scrub)
	v.mu.Unlock()
	if err != nil {
		return err
	}
	return replace(filepath.Join(v.dir, "scrub"), b)
}

// Pace of reading back: what is read in a second, bytes, and how often all of it is.
const (
	scrubRate  = 4 << 20
	scrubEvery = 30 * 24 * time.Hour
	scrubLook  = time.Hour
)

// Scrub reads objects back, slowly, until the context ends: all of them about once in a month. One that is damaged is listed no more; its giver is told with the next answer, and puts it anew.
func (s *Store) Scrub(ctx context.Context) {
	for pace.Sleep(ctx, scrubLook) == nil {
		for _, v := range s.all() {
			if v.load() != nil { // only then it is known when that was done last
				continue
			}
			v.mu.Lock()
			due := time.Since(v.scrub.Done) > scrubEvery
			v.mu.Unlock()
			if due {
				s.scrubOne(ctx, v, scrubRate)
			}
		}
	}
}

// scrubOne reads the rest of a vault back; rate is in bytes a second, 0: as fast as can be.
func (s *Store) scrubOne(ctx context.Context, v *Vault, rate int64) {
	v.mu.Lock()
	var keys []string
	for key, o := range v.objects {
		if key > v.scrub.After && !o.damaged {
			keys = append(keys, key)
		}
	}
	v.mu.Unlock()
	slices.Sort(keys)
	unsaved := int64(0)
	for _, key := range keys {
		n := v.readBack(key)
		v.mu.Lock()
		v.scrub.After = key
		v.mu.Unlock()
		if unsaved += n; unsaved > 256<<20 {
			_ = v.writeScrubbed() // it is done again if it is not kept
			unsaved = 0
		}
		if rate > 0 && pace.Sleep(ctx, time.Duration(n)*time.Second/time.Duration(rate)) != nil || ctx.Err() != nil {
			_ = v.writeScrubbed()
			return
		}
	}
	v.mu.Lock()
	v.scrub.After, v.scrub.Done = "", time.Now()
	v.mu.Unlock()
	if err := v.writeScrubbed(); err != nil {
		s.cfg.Log.Warn("it could not be kept what was read back", "peer", v.peer.Short(), "error", err)
	}
}

// readBack reads one object, and returns how much that was.
func (v *Vault) readBack(key string) int64 {
	f, o, err := v.open(key)
	if err != nil {
		return charge
	}
	defer f.Close()
	for range 2 { // what a disk reads wrong once it may read right the next time
		sum := newSum()
		n, err := io.Copy(sum, io.NewSectionReader(f, 0, o.size))
		if err == nil && n == o.size && [32]byte(sum.Sum(nil)) == o.sum {
			return n + charge
		}
	}
	v.damage(key, o)
	return o.size + charge
}
