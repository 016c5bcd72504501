package versions

import (
	"fmt"
	"slices"
	"strings"

	"sharefs"
	"sharefs/versions/pack"
)

// What does not read is reported in groups: those of one pack with one cause and one end.

// refsListed bounds how many versions a finding names.
const refsListed = 10_000

// group is what a finding stands for.
type group struct {
	pack pack.ID
	kind string
	end  string
}

// ends of a bad chunk.
const (
	endLeft   = "left"
	endHealed = "healed"
	endLost   = "lost"
	endKnown  = "known"
)

func (b *badChunk) end() string {
	switch {
	case b.healed != "":
		return endHealed
	case b.lost:
		return endLost
	case b.expected:
		return endKnown
	}
	return endLeft
}

// report puts what does not read into the report.
func (c *fsck) report() {
	groups := map[group][]*badChunk{}
	var order []group
	for _, b := range c.badInOrder() {
		g := group{pack: b.loc.Pack, kind: b.kind, end: b.end()}
		if b.kind == FoundChunk {
			g.pack = pack.ID{}
		}
		if groups[g] == nil {
			order = append(order, g)
		}
		groups[g] = append(groups[g], b)
	}
	for _, g := range order {
		c.found(c.groupFinding(g, groups[g]))
	}
}

func (c *fsck) groupFinding(g group, list []*badChunk) Finding {
	f := Finding{Kind: g.kind, Severity: SeverityDamage, Count: uint64(len(list))}
	first := list[0]
	n := uint64(len(list))
	switch g.kind {
	case FoundRecord:
		f.Where = "packs/" + c.t.past.packs.Where(g.pack)
		f.Detail = fmt.Sprintf("%s not read (%s): %v", plural(n, "record does", "records do"), places(list), first.err)
	case FoundPack:
		f.Where = "packs/" + c.t.past.packs.Where(g.pack)
		f.Detail = fmt.Sprintf("%s that are needed lie in it, and it is missing or too short: %v", plural(n, "chunk", "chunks"), first.err)
		if n == 1 {
			f.Detail = fmt.Sprintf("1 chunk that is needed lies in it, and it is missing or too short: %v", first.err)
		}
	default:
		f.Where = "meta.db"
		f.Detail = fmt.Sprintf("%s no place (%s): %v", plural(n, "chunk has", "chunks have"), chunkNames(list), first.err)
	}
	switch g.end {
	case endHealed:
		f.Repaired = true
		from := map[string]bool{}
		for _, b := range list {
			from[b.healed] = true
		}
		var names []string
		for s := range from {
			names = append(names, s)
		}
		slices.Sort(names)
		f.Repair = "written anew from " + strings.Join(names, " and ")
	case endLost:
		f.Repair = "no other copy was found: these versions are marked as damaged, and the rest of them can be read"
	case endKnown:
		f.Kind, f.Severity = FoundLost, SeverityNote
		f.Repair = "marked as lost before; put a pack that has it back, or save the same content again, and it can be read"
	default:
		f.Repair = "fsck --repair heals what has another copy, and marks the versions of the rest"
		if slices.ContainsFunc(list, func(b *badChunk) bool { return b.later }) {
			f.Repair = "the bucket, which may have another copy, does not answer: repair again when it does"
		}
		if c.needless(list) {
			f.Severity = SeverityFault
			f.Repair = "no version needs it; fsck --repair takes its row out"
		}
	}
	seen := map[versionID]bool{}
	for _, b := range list {
		f.More += b.more
		for _, id := range b.refs {
			if seen[id] {
				continue
			}
			seen[id] = true
			if len(f.Versions) >= refsListed {
				f.More++
				continue
			}
			f.Versions = append(f.Versions, VersionRef{Ino: id.ino, Number: c.t.past.baseOf(id.ino) + id.own})
		}
	}
	return f
}

// needless reports whether no version needs any of some chunks.
func (c *fsck) needless(list []*badChunk) bool {
	for _, b := range list {
		if len(b.refs) > 0 {
			return false
		}
	}
	return true
}

// places tells where records lie, the first of them.
func places(list []*badChunk) string {
	return few(list, "; ", func(b *badChunk) string { return fmt.Sprintf("at %d, chunk %s", b.loc.Off, short(&b.id)) })
}

func chunkNames(list []*badChunk) string {
	return few(list, ", ", func(b *badChunk) string { return short(&b.id) })
}

// few names the first four of a list; that there are more is shown by an ellipsis.
func few(list []*badChunk, sep string, name func(*badChunk) string) string {
	var parts []string
	for _, b := range list[:min(4, len(list))] {
		parts = append(parts, name(b))
	}
	if len(list) > 4 {
		parts = append(parts, "…")
	}
	return strings.Join(parts, sep)
}

// short is the beginning of a chunk's name, which tells it from all others of a store.
func short(id *sharefs.ChunkID) string { return id.String()[:16] }
