package versions

import (
	"fmt"
	"strings"
	"time"

	"sharefs"
)

// GCReport is what a garbage collection came to, or would come to where nothing was changed. Bytes of packs are those that they take on the disk.
type GCReport struct {
	Began  time.Time `json:"began"`
	TookMS int64     `json:"took_ms"`
	DryRun bool      `json:"dry_run,omitempty"`

	BytesBefore uint64 `json:"bytes_before"` // in packs
	BytesAfter  uint64 `json:"bytes_after"`  // what was captured meanwhile among them
	Freed       uint64 `json:"bytes_freed"`  // given back, less what was copied for it
	// BucketFreed is in packs that the bucket alone had, which drops them a day later.
	BucketFreed uint64 `json:"bucket_bytes_freed,omitempty"`

	Versions      uint64 `json:"versions"` // that are kept
	Nodes         uint64 `json:"nodes"`    // of their manifests, read from packs
	Chunks        uint64 `json:"chunks"`   // that packs had when it began
	ChunksRemoved uint64 `json:"chunks_removed"`
	Passes        int    `json:"passes"`     // over all versions
	MarkBytes     int64  `json:"mark_bytes"` // of memory, at most

	Packs          int    `json:"packs"` // when it began
	PacksRemoved   int    `json:"packs_removed"`
	PacksRewritten int    `json:"packs_rewritten"`
	BytesCopied    uint64 `json:"bytes_copied"` // live ones, out of the packs that were rewritten
	PacksPunched   int    `json:"packs_punched"`
	BytesPunched   uint64 `json:"bytes_punched"`
	Growing        int64  `json:"growing_dead_bytes,omitempty"` // dead in the pack that grows, which is not worth sealing yet

	Left     []GCLeft `json:"left,omitempty"` // the first maxLeft of what was left
	LeftMore int      `json:"left_more,omitempty"`
}

// GCLeft is what was left and why: a pack, or a version because of which no chunk was given up.
type GCLeft struct {
	Pack    string      `json:"pack,omitempty"`
	Bytes   int64       `json:"bytes,omitempty"` // that nothing needs in it
	Ino     sharefs.Ino `json:"ino,omitempty"`
	Version uint64      `json:"version,omitempty"`
	Why     string      `json:"why"`
}

// maxLeft bounds the list in a report.
const maxLeft = 100

func (c *collector) left(l GCLeft) {
	if len(c.report.Left) >= maxLeft {
		c.report.LeftMore++
		return
	}
	c.report.Left = append(c.report.Left, l)
}

// Text returns the report for people; it ends in a line break.
func (r GCReport) Text() string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-9s "+format+"\n", append([]any{name}, args...)...)
	}
	did, would := "", ""
	if r.DryRun {
		did, would = "would be ", " (nothing was changed)"
	}
	line("freed", "%s%s of %s in packs, which leaves %s%s", did, byteText(r.Freed), byteText(r.BytesBefore), byteText(r.BytesAfter), would)
	if r.BucketFreed > 0 {
		line("bucket", "%s %sgiven up in packs that it alone has, and deleted there a day later", byteText(r.BucketFreed), did)
	}
	line("chunks", "%d, of which nobody needed %d", r.Chunks, r.ChunksRemoved)
	line("versions", "%d, and %d nodes of their manifests", r.Versions, r.Nodes)
	line("packs", "%d: %d %sremoved, %d %srewritten (%s copied), %d %spunched (%s)", r.Packs, r.PacksRemoved, did,
		r.PacksRewritten, did, byteText(r.BytesCopied), r.PacksPunched, did, byteText(r.BytesPunched))
	if r.Growing > 0 {
		line("growing", "%s that nobody needs in the pack that grows wait until it is full", byteText(uint64(r.Growing)))
	}
	line("took", "%v", (time.Duration(r.TookMS) * time.Millisecond).String())
	for _, l := range r.Left {
		switch {
		case l.Pack != "" && l.Bytes > 0:
			line("left", "pack %s with %s: %s", l.Pack, byteText(uint64(l.Bytes)), l.Why)
		case l.Pack != "":
			line("left", "pack %s: %s", l.Pack, l.Why)
		case l.Version > 0:
			line("left", "version %d of inode %d: %s", l.Version, l.Ino, l.Why)
		case l.Ino == 0:
			line("left", "a version that was removed and is being read: %s", l.Why)
		default:
			line("left", "a version of inode %d: %s", l.Ino, l.Why)
		}
	}
	if r.LeftMore > 0 {
		line("left", "and %d more", r.LeftMore)
	}
	return b.String()
}

// byteText writes a number of bytes for people: three digits and a binary unit.
func byteText(n uint64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	v, unit := float64(n)/1024, 0
	for ; v >= 999.5 && unit < 4; unit++ {
		v /= 1024
	}
	digits := 2
	if v >= 99.95 {
		digits = 0
	} else if v >= 9.995 {
		digits = 1
	}
	return fmt.Sprintf("%.*f %ciB", digits, v, "KMGTP"[unit])
}
