package versions

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"sharefs"
)

// FsckMode says how thoroughly a store is looked through.
type FsckMode string

// The modes.
const (
	FsckFast  FsckMode = "fast"  // rows against rows and files, without reading content
	FsckScrub FsckMode = "scrub" // every record of every pack is read as well
)

// Severity says how bad a finding is.
type Severity string

// The severities, the worst first.
const (
	SeverityDamage Severity = "damage" // content or names cannot be had, or are wrong
	SeverityFault  Severity = "fault"  // something does not fit, and all content can be had
	SeverityUnread Severity = "unread" // something could not be looked at: nothing is known of it, good or bad
	SeverityNote   Severity = "note"   // nothing that asks for anything: a file that is not the store's, a loss known before
)

// Kinds of findings.
const (
	FoundTree    = "tree"         // names, inodes, extended attributes
	FoundLive    = "live"         // backing files of live files
	FoundVersion = "version"      // rows of versions, their queue, their manifests
	FoundLineage = "lineage"      // whose past a file continues
	FoundAside   = "aside"        // content that was set aside
	FoundChunk   = "chunk"        // content that the store's rows lead to no record of
	FoundRecord  = "record"       // a record of a pack that does not read
	FoundPack    = "pack"         // a pack that is missing or too short, or whose header or index is damaged
	FoundTail    = "tail"         // bytes at the end of a pack that a crash left
	FoundLost    = "lost"         // a version of which a part was lost before, and marked so
	FoundUnknown = "unknown file" // a file in the store's directories that is not the store's
	FoundMeta    = "meta.db"      // a row that cannot be read at all
)

// VersionRef names one version.
type VersionRef struct {
	Ino    sharefs.Ino `json:"inode"`
	Number uint64      `json:"number"` // as users see it
	Path   string      `json:"path"`   // of the file that has it in its history; of a removed one the last, as far as that is known
}

// Finding is one thing that is not as it has to be, or a group of records of one pack.
type Finding struct {
	Kind     string       `json:"kind"`
	Severity Severity     `json:"severity"`
	Where    string       `json:"where"` // a file below the store's directory, or an inode
	Ino      sharefs.Ino  `json:"inode,omitempty"`
	Detail   string       `json:"detail"`
	Count    uint64       `json:"count,omitempty"`    // of records or chunks, where it stands for several
	Paths    []string     `json:"paths,omitempty"`    // of the files concerned, in the mount
	Versions []VersionRef `json:"versions,omitempty"` // that cannot be read whole
	More     uint64       `json:"more_versions,omitempty"`
	Repair   string       `json:"repair,omitempty"` // what was done, or can be
	Repaired bool         `json:"repaired,omitempty"`

	inos map[sharefs.Ino]bool // to be named
}

// Outcome is what a check of a store came to.
type Outcome string

// The outcomes. The tool's exit status is 0 for the first two, 3 for the third, 1 for the last, 2 where the check could not be carried out.
const (
	OutcomeClean    Outcome = "clean"    // nothing but notes
	OutcomeRepaired Outcome = "repaired" // all that was found is repaired
	OutcomeUnread   Outcome = "unread"   // the same, but a part could not be checked
	OutcomeDamage   Outcome = "damage"   // something is left
)

// FsckReport is what a check of a store found.
type FsckReport struct {
	Mode     FsckMode  `json:"mode"`
	Repair   bool      `json:"repair"`
	Outcome  Outcome   `json:"outcome"`
	Findings []Finding `json:"findings"` // the worst first
	Omitted  uint64    `json:"omitted"`  // findings that are not listed, beyond MaxFindings

	Inodes   uint64 `json:"inodes"`
	Names    uint64 `json:"names"`
	Versions uint64 `json:"versions"`
	Chunks   uint64 `json:"chunks"`
	Packs    uint64 `json:"packs"`
	Bytes    uint64 `json:"pack_bytes"`     // in packs
	Read     uint64 `json:"scrubbed_bytes"` // of those, read back
	Far      uint64 `json:"bucket_packs"`   // packs that the bucket alone has
	FarBytes uint64 `json:"bucket_bytes"`   // in them; a scrub reads them only if it is asked to
	Unread   uint64 `json:"unread"`         // records and packs that could not be looked at, for the bucket does not answer
	Healed   uint64 `json:"healed"`         // chunks that were written anew
	Lost     uint64 `json:"lost"`           // chunks that have no other copy
	TookMS   int64  `json:"took_ms"`
	// HoldUS is the longest time for which changes of the tree had to wait for the check, in microseconds.
	HoldUS int64 `json:"longest_hold_us"`
}

// MaxFindings bounds how many findings a report lists; the worst are kept.
const MaxFindings = 10_000

// rank orders severities.
func (s Severity) rank() int {
	switch s {
	case SeverityDamage:
		return 0
	case SeverityFault:
		return 1
	case SeverityUnread:
		return 2
	}
	return 3
}

// settle sorts the findings and says what they come to.
func (r *FsckReport) settle() {
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Severity.rank(), b.Severity.rank()), boolOrder(a.Repaired, b.Repaired), cmp.Compare(a.Kind, b.Kind),
			cmp.Compare(a.Ino, b.Ino), cmp.Compare(a.Where, b.Where))
	})
	if n := len(r.Findings); n > MaxFindings {
		r.Omitted += uint64(n - MaxFindings)
		r.Findings = r.Findings[:MaxFindings:MaxFindings]
	}
	r.Outcome = OutcomeClean
	for i := range r.Findings {
		switch f := &r.Findings[i]; {
		case f.Severity == SeverityNote || r.Outcome == OutcomeDamage:
		case f.Severity == SeverityUnread:
			r.Outcome = OutcomeUnread
		case !f.Repaired:
			r.Outcome = OutcomeDamage
		case r.Outcome == OutcomeClean:
			r.Outcome = OutcomeRepaired
		}
	}
}

func boolOrder(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// Text is the report for people: a line or more for each finding, then one that sums up.
func (r FsckReport) Text() string {
	var b strings.Builder
	for i := range r.Findings {
		r.Findings[i].text(&b)
	}
	if r.Omitted > 0 {
		fmt.Fprintf(&b, "… and %s that are not listed\n", plural(r.Omitted, "finding", "findings"))
	}
	fmt.Fprintf(&b, "%s: %s, %s and %s in %s (%s", r.sentence(), plural(r.Inodes, "inode", "inodes"), plural(r.Versions, "version", "versions"),
		plural(r.Chunks, "chunk", "chunks"), plural(r.Packs, "pack", "packs"), mebibytes(r.Bytes))
	if r.Mode == FsckScrub {
		fmt.Fprintf(&b, ", %s read back", mebibytes(r.Read))
		if r.TookMS > 0 {
			fmt.Fprintf(&b, " at %.0f MB/s", float64(r.Read)/1000/float64(r.TookMS))
		}
	}
	if r.Far > 0 {
		fmt.Fprintf(&b, "; of these the bucket alone has %s, %s, looked for there and not read", plural(r.Far, "pack", "packs"), mebibytes(r.FarBytes))
	}
	fmt.Fprintf(&b, ") in %v\n", (time.Duration(r.TookMS) * time.Millisecond).Round(10*time.Millisecond))
	return b.String()
}

// sentence is the outcome in words.
func (r FsckReport) sentence() string {
	switch r.Outcome {
	case OutcomeDamage:
		return "damage is left"
	case OutcomeUnread:
		return "nothing wrong is left in what could be checked, but a part could not be checked"
	case OutcomeRepaired:
		return "all that was wrong is repaired"
	}
	return "all is well"
}

// textVersions bounds how many versions the text names for each finding; JSON has them all.
const textVersions = 20

func (f *Finding) text(b *strings.Builder) {
	fmt.Fprintf(b, "%s  %s: %s\n", f.Severity, f.Where, f.Detail)
	for i, v := range f.Versions {
		if i == textVersions {
			break
		}
		fmt.Fprintf(b, "        version %d of %s\n", v.Number, printable(v.Path))
	}
	if more := f.More + uint64(max(0, len(f.Versions)-textVersions)); more > 0 {
		fmt.Fprintf(b, "        and %s more\n", plural(more, "version", "versions"))
	}
	if len(f.Versions) == 0 {
		for i, p := range f.Paths {
			if i == textVersions {
				fmt.Fprintf(b, "        and %d more\n", len(f.Paths)-i)
				break
			}
			fmt.Fprintf(b, "        %s\n", printable(p))
		}
	}
	if f.Repair != "" {
		fmt.Fprintf(b, "        %s\n", f.Repair)
	}
}

// printable quotes what would not stay on its line.
func printable(path string) string {
	for _, r := range path {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return fmt.Sprintf("%q", path)
		}
	}
	return path
}

func plural(n uint64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func mebibytes(n uint64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 10<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d KiB", (n+1023)>>10)
}
