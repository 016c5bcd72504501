package versions

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"sharefs"
	"sharefs/versions/kv"
)

// RetainReport is what a run of retention came to, or would come to where nothing was changed. What it says of bytes is estimated: before compression, and
// what other files share is counted as well.
type RetainReport struct {
	Began    time.Time `json:"began"`
	TookMS   int64     `json:"took_ms"`
	DryRun   bool      `json:"dry_run,omitempty"`
	Complete bool      `json:"complete"` // it came to its end

	Since    time.Time `json:"since,omitzero"` // every moment from here on is kept; zero: all
	Instants int       `json:"instants"`       // kept before that
	Named    int       `json:"named"`          // moments with a name, all of which are kept

	Versions uint64 `json:"versions"` // that were looked at
	Removed  uint64 `json:"versions_removed"`
	Bytes    uint64 `json:"bytes_removed"`

	States   RetainStates `json:"states"`
	Lineages uint64       `json:"lineages_removed"`
	Trash    uint64       `json:"trash_removed"` // entries of the trash

	Quota    *RetainQuota    `json:"quota,omitempty"`
	Examples []RetainExample `json:"examples,omitempty"` // of files that lose versions; with paths in a dry run alone
	Remarks  []string        `json:"remarks,omitempty"`  // what the user should know
}

// RetainStates counts former states of names, attributes and extended attributes.
type RetainStates struct {
	Looked  uint64 `json:"looked_at"`
	Removed uint64 `json:"removed"`
	Bytes   uint64 `json:"bytes"`
	Epochs  uint64 `json:"instants_forgotten"` // instants of which nothing is left; not known in a dry run
}

func (s *RetainStates) add(p *kv.PruneStats) {
	s.Looked += p.States
	s.Removed += p.Removed
	s.Bytes += p.Bytes
}

// RetainQuota is what came of a limit on the space that history takes.
type RetainQuota struct {
	Limit  uint64    `json:"limit"`
	Before uint64    `json:"before"`       // what history takes by the rules by age
	After  uint64    `json:"after"`        // and with what goes for the limit's sake
	Cut    time.Time `json:"cut,omitzero"` // of what is older moments with names are kept alone; zero: the rules by age are enough
}

// RetainExample is a file that loses versions.
type RetainExample struct {
	Path     string   `json:"path,omitempty"`
	Versions []uint64 `json:"versions"` // the newest exampleVersions of those that go
	Count    uint64   `json:"count"`
	Bytes    uint64   `json:"bytes"`

	ino sharefs.Ino
}

// Bounds of a report.
const (
	maxExamples     = 20
	exampleVersions = 8
	maxRemarks      = 20
)

func (r *thinner) remark(format string, args ...any) {
	if len(r.report.Remarks) < maxRemarks {
		r.report.Remarks = append(r.report.Remarks, fmt.Sprintf(format, args...))
	}
}

// nameExamples finds the paths of the examples.
func (r *thinner) nameExamples() {
	want := map[sharefs.Ino]bool{}
	for _, e := range r.report.Examples {
		want[e.ino] = true
	}
	if len(want) == 0 {
		return
	}
	paths := r.t.namesOf(want)
	for i := range r.report.Examples {
		r.report.Examples[i].Path = paths[r.report.Examples[i].ino]
	}
	r.report.Examples = joinExamples(r.report.Examples)
}

// joinExamples makes one example of those that bear one path: inodes that took the name from each other, as when an editor replaces a file, and whose
// versions are numbered as of one file.
func joinExamples(all []RetainExample) []RetainExample {
	var out []RetainExample
	for _, e := range all {
		k := slices.IndexFunc(out, func(o RetainExample) bool { return e.Path != "" && o.Path == e.Path })
		if k < 0 {
			out = append(out, e)
			continue
		}
		o := &out[k]
		o.Count += e.Count
		o.Bytes += e.Bytes
		o.Versions = append(slices.Clone(o.Versions), e.Versions...)
		slices.SortFunc(o.Versions, func(a, b uint64) int { return cmp.Compare(b, a) })
		o.Versions = slices.Compact(o.Versions)
		o.Versions = o.Versions[:min(len(o.Versions), exampleVersions)]
	}
	return out
}

// local writes a time as the lists of versions have it.
func local(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }

// Text returns the report for people; it ends in a line break.
func (r RetainReport) Text() string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-9s "+format+"\n", append([]any{name}, args...)...)
	}
	would := ""
	if r.DryRun {
		would = "would be "
		line("dry run", "nothing was changed")
	}
	if r.Since.IsZero() {
		line("kept", "every moment")
	} else {
		line("kept", "every moment since %s, and %d before", local(r.Since), r.Instants)
	}
	if r.Named > 0 {
		line("named", "%d moments with a name, which stay", r.Named)
	}
	line("versions", "%d of %d %sremoved, about %s before compression", r.Removed, r.Versions, would, byteText(r.Bytes))
	line("names", "%d of %d former states of names and attributes %sremoved", r.States.Removed, r.States.Looked, would)
	if r.States.Epochs > 0 {
		line("instants", "%d of which nothing is left are forgotten", r.States.Epochs)
	}
	if r.Trash > 0 {
		line("trash", "%d entries %staken out", r.Trash, would)
	}
	if q := r.Quota; q != nil {
		switch {
		case q.After > q.Limit:
			line("quota", "%s cannot be kept: about %s stay, the present, the newest versions of each file and moments with names", byteText(q.Limit), byteText(q.After))
		case q.Cut.IsZero():
			line("quota", "about %s of %s", byteText(q.Before), byteText(q.Limit))
		default:
			line("quota", "about %s of %s, for which nothing before %s is kept but moments with names", byteText(q.After), byteText(q.Limit), local(q.Cut))
		}
	}
	for _, e := range r.Examples {
		if e.Path == "" {
			continue
		}
		list := slices.Clone(e.Versions)
		slices.Reverse(list)
		text := strings.Trim(fmt.Sprint(list), "[]")
		if e.Count > uint64(len(list)) {
			text = "… " + text
		}
		line("", "%s: %d, about %s (%s)", e.Path, e.Count, byteText(e.Bytes), text)
	}
	for _, s := range r.Remarks {
		line("note", "%s", s)
	}
	took := time.Duration(r.TookMS) * time.Millisecond
	if r.Complete {
		line("took", "%v", took)
	} else {
		line("stopped", "after %v; the next run goes on there", took)
	}
	return b.String()
}
