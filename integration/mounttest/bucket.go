package mounttest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"sharefs/internal/status"
)

// BucketPatience bounds every wait for a bucket; a daemon rests up to a minute after failures.
const BucketPatience = 5 * time.Minute

// Tier puts a section into the share.toml of a store that is not mounted, in the place of the one that it has.
func (m *Mount) Tier(section string) {
	m.t.Helper()
	path := filepath.Join(m.Store, "share.toml")
	text, err := os.ReadFile(path)
	if err != nil {
		m.t.Fatal(err)
	}
	text, _, _ = bytes.Cut(text, []byte("\n[tier]\n"))
	if err := os.WriteFile(path, append(text, "\n[tier]\n"+section+"\n"...), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// UntilTier waits until the status of the bucket is as it should be.
func (m *Mount) UntilTier(what string, holds func(*status.Tier) bool) *status.Tier {
	m.t.Helper()
	for deadline := time.Now().Add(BucketPatience); ; time.Sleep(20 * time.Millisecond) {
		s := m.Status()
		if s.Tier != nil && holds(s.Tier) {
			return s.Tier
		}
		if time.Now().After(deadline) {
			text, _ := json.Marshal(s.Tier)
			m.t.Fatalf("waited in vain until %s: %s", what, text)
		}
	}
}

// InBucketAtOnce brings the bucket up to date by mounting anew, which does that at once, and then it is done every now and again.
func (m *Mount) InBucketAtOnce() {
	m.t.Helper()
	m.Settled()
	m.Remount()
	m.UntilTier("all of it is in the bucket", func(s *status.Tier) bool {
		return !s.Complete.IsZero() && s.BehindSince.IsZero() && s.BacklogFiles == 0 && s.Error == ""
	})
}

// InBucket waits until all that was written is in the bucket: a root that was written later than all of it was captured names it. It writes the file "last",
// so that something changes after it and there is a root of that.
func (m *Mount) InBucket() {
	m.t.Helper()
	m.Settled()
	from := time.Now()
	if err := os.WriteFile(m.Path("last"), fmt.Append(nil, from.UnixNano()), 0o644); err != nil {
		m.t.Fatal(err)
	}
	m.Settled()
	m.UntilTier("the bucket is complete", func(s *status.Tier) bool {
		return s.Complete.After(from) && s.BehindSince.IsZero() && s.BacklogFiles == 0 && s.Error == ""
	})
}
