package status

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sort"
	"strings"
	"time"

	"sharefs/internal/term"
	"sharefs/peers/report"
)

// JSON is status.json.
func (s *Status) JSON() []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(s); err != nil { // there is nothing in it that cannot be encoded
		return []byte("{}\n")
	}
	return b.Bytes()
}

// Text is what people read; now is when.
func (s *Status) Text(now time.Time) string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-12s %s\n", name, fmt.Sprintf(format, args...))
	}
	mode := ""
	if s.Mount.ReadOnly {
		mode = ", read-only"
	}
	if s.Mount.StoreReadOnly {
		mode = ", read-only as is the disk below"
	}
	line("ShareFS", "%s, process %d, mounted since %s (%s)", s.Version, s.PID, term.Time(s.Started), term.Span(now.Sub(s.Started).Round(time.Millisecond)))
	line("Mount", "%s%s", term.Quote(s.Mount.Point), mode)
	if s.Mount.Source == s.Mount.Store {
		line("Store", "%s", term.Quote(s.Mount.Store))
	} else {
		line("Store", "%s in %s", term.Quote(s.Mount.Source), term.Quote(s.Mount.Store))
	}
	line("Disk", "%s", s.disk())
	if s.Content.Passthrough {
		line("Content", "passthrough: reads and writes go to the disk without the daemon")
	} else {
		line("Content", "served: reads and writes go through the daemon (%s)", s.Content.Reason)
	}
	line("Self-test", "%s: %s", s.Content.SelfTest.State, s.Content.SelfTest.Detail)
	c := &s.Capture
	line("Versions", "%s captured since mount, %s waiting now (%s); a file settles after %s", term.Count(c.Captured),
		queue(c.QueueNow), term.Size(c.QueueBytes), term.Span(time.Duration(s.Mount.SettleMS)*time.Millisecond))
	line("", "%s captured since mount, %s of it new, which take %s", term.Size(c.PlainBytes), term.Size(c.NewBytes), term.Size(c.StoredBytes))
	if c.ByRanges+c.ByExtents+c.ByNames > 0 {
		line("", "%s of large files in part: by ranges %s, by extents %s, by names %s; %s taken over", term.Of(c.ByRanges+c.ByExtents+c.ByNames, "version"),
			term.Count(c.ByRanges), term.Count(c.ByExtents), term.Count(c.ByNames), term.Size(c.ReusedBytes))
	}
	line("", "no version since mount for %s closed unchanged, %s written again and %s removed before they settled, %s changed at once with no room for a copy",
		term.Count(c.Unchanged), term.Count(c.Joined), term.Count(c.Dropped), term.Count(c.TooLarge))
	line("Open now", "%s, %s for writing, %s settling, %s held by mappings or earlier programs", term.Of(uint64(s.Now.OpenFiles), "file"),
		term.Count(uint64(s.Now.OpenWriters)), term.Count(uint64(s.Now.Settling)), term.Count(uint64(s.Now.Lingering)))
	line("Memory now", "%s resident, %s and %s cached", term.Size(s.Now.ResidentBytes), term.Of(uint64(s.Now.CachedInodes), "inode"),
		term.Of(uint64(s.Now.CachedNames), "name"))
	line("Journal", "%s since mount; now %s not synced, %s not applied, %s in the journal", term.Of(s.Journal.Commits, "change"),
		term.Count(s.Journal.UnsyncedNow), term.Count(s.Journal.UnappliedNow), term.Size(uint64(s.Journal.JournalBytes)))
	switch cp := &s.Checkpoint; {
	case cp.Generation == 0 && cp.ExportingNow == 0:
		line("Checkpoint", "none yet")
	case cp.Generation == 0:
		line("Checkpoint", "the first is being made: %s so far", term.Of(cp.ExportingNow, "row"))
	default:
		line("Checkpoint", "%s and the changes since, %s; now %s not in it", term.Of(cp.Rows, "row"), term.Size(uint64(cp.Bytes)), term.Of(cp.UncopiedNow, "change"))
	}
	line("History", "%s", s.history())
	if t := s.Tier; t != nil {
		line("Bucket", "%s: %s, %s", term.Clean(t.URL), term.Of(uint64(t.Files), "file"), term.Size(uint64(t.Bytes)))
		switch {
		case !t.BehindSince.IsZero():
			line("", "it lacks %s, %s, since %s", term.Of(uint64(t.BacklogFiles), "file"), term.Size(uint64(t.BacklogBytes)), term.Second(t.BehindSince))
		case !t.Complete.IsZero():
			line("", "complete as of %s", term.Second(t.Complete))
		}
		if c := &t.Cache; c.RemotePacks > 0 || c.BudgetBytes > 0 {
			kept := term.Size(uint64(c.CacheBytes)) + " of that kept here"
			if c.BudgetBytes > 0 {
				kept = "all packs take " + term.SizeIn(uint64(c.BudgetBytes), uint64(c.HeldBytes)) + " of " + term.SizeIn(uint64(c.BudgetBytes), uint64(c.BudgetBytes)) + " here"
			}
			line("", "it alone has %s, %s; %s; since mount %s fetched, %s read from here", term.Of(uint64(c.RemotePacks), "pack"), term.Size(uint64(c.RemoteBytes)),
				kept, term.Size(c.FetchedBytes), term.Size(c.HitBytes))
		}
	}
	if k := &s.Keys; k.Known > 1 {
		line("Share keys", "%s, of %s; in use is epoch %s of share %.8s", term.Of(uint64(k.Known), "key"), term.Of(uint64(k.Shares), "share"), term.Count(uint64(k.Epoch)), term.Clean(k.Share))
	}
	if p := s.Peers; p != nil {
		where := "nowhere"
		if p.Listening != "" {
			where = p.Listening
		}
		line("Peers", "%s known, %s connected now; listening at %s", term.Count(uint64(p.Known)), term.Count(uint64(p.Connected)), where)
		if p.Sync != nil {
			line("", "%s", syncText(p.Sync))
		}
	}
	if r := s.Room; r != nil {
		line("Room", "%s", strings.Join(r.parts(), "; "))
		if text := r.lacks(); text != "" {
			line("", "%s", text)
		}
	}
	line("Requests", "%s since mount%s", term.Count(total(s.Requests)), most(s.Requests, 6))
	if len(s.Problems) == 0 {
		line("Problems", "none")
	}
	for i, p := range s.Problems {
		name := "Problems"
		if i > 0 {
			name = ""
		}
		line(name, "%s", term.Clean(p))
	}
	return b.String()
}

// disk tells of the disk below the store.
func (s *Status) disk() string {
	switch sp := &s.Space; {
	case sp.ReserveMissing > 0:
		return fmt.Sprintf("full: what is left of %s is for making room, and new files are refused", term.Size(sp.TotalBytes))
	case sp.ReserveBytes > 0:
		return fmt.Sprintf("%s of %s available, and %s kept back for making room", term.Size(sp.AvailableBytes), term.Size(sp.TotalBytes), term.Size(sp.ReserveBytes))
	default:
		return fmt.Sprintf("%s of %s available", term.Size(sp.AvailableBytes), term.Size(sp.TotalBytes))
	}
}

// history tells which moments are kept.
func (s *Status) history() string {
	switch r := &s.Retention; {
	case r.RunningNow:
		return "is being thinned"
	case r.Since.IsZero():
		return "every moment is kept"
	default:
		return fmt.Sprintf("every moment since %s is kept, and %s before", term.Second(r.Since), term.Count(uint64(r.Moments)))
	}
}

// queue is a count that ends at 1000.
func queue(n int) string {
	if n >= 1000 {
		return "1,000 or more"
	}
	return term.Count(uint64(n))
}

func total(counts map[string]uint64) (sum uint64) {
	for _, n := range counts {
		sum += n
	}
	return sum
}

// most names the n most frequent requests.
func most(counts map[string]uint64, n int) string {
	names := make([]string, 0, len(counts))
	for name, count := range counts {
		if count > 0 {
			names = append(names, name)
		}
	}
	sort.Slice(names, func(i, j int) bool {
		if counts[names[i]] != counts[names[j]] {
			return counts[names[i]] > counts[names[j]]
		}
		return names[i] < names[j]
	})
	if len(names) == 0 {
		return ""
	}
	names = names[:min(n, len(names))]
	for i, name := range names {
		names[i] = name + " " + term.Count(counts[name])
	}
	return ": " + strings.Join(names, ", ")
}

// syncText tells how far this host and its peers are.
func syncText(s *report.Sync) string { return strings.Join(syncParts(s), "; ") }

func syncParts(s *report.Sync) []string {
	if !s.On {
		return []string{"files do not travel: no peer may read them (sharefs grant PEER LEVEL)"}
	}
	parts := []string{term.Of(uint64(s.Changes), "change") + " of here and of peers"}
	if s.Walking {
		parts = append(parts, "the tree is being looked at for the first time")
	}
	if s.Contents > 0 {
		parts = append(parts, term.Of(uint64(s.Contents), "content")+" to be fetched, "+term.Size(s.Bytes))
	}
	if s.Names > 0 {
		parts = append(parts, term.Of(uint64(s.Names), "name")+" not yet as peers say")
	}
	if s.Conflicts > 0 {
		parts = append(parts, term.Of(uint64(s.Conflicts), "conflict")+" (sharefs conflicts)")
	}
	if s.Held > 0 {
		parts = append(parts, term.Count(uint64(s.Held))+" removals and renames of peers held for you (sharefs held)")
	}
	if s.Proposed > 0 {
		parts = append(parts, "peers propose changes of "+term.Of(uint64(s.Proposed), "file")+" (sharefs proposed)")
	}
	left := uint64(0)
	for i := range s.LeftOut {
		left += s.LeftOut[i].Changes
	}
	if left > 0 {
		parts = append(parts, term.Of(left, "change")+" of "+term.Of(uint64(len(s.LeftOut)), "host")+" left out, of which nothing counts here (sharefs peers)")
	}
	if len(parts) == 1 {
		parts[0] += ", all of it in the tree"
	}
	return parts
}
