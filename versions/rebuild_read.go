package versions

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"sharefs"
	"sharefs/versions/kv"
	"sharefs/versions/pack"
	"sharefs/versions/tier/near"
)

// readExport is stage 1. Of two complete generations (there are two only where a daemon was killed right behind the second) the newest without
// damage counts. A record that does not read is named and left out.
func (b *rebuilder) readExport() error {
	all, err := readGenerations(b.rows)
	if err != nil || len(all) == 0 {
		return err
	}
	chosen := &all[len(all)-1]
	for i := len(all) - 1; i >= 0; i-- {
		if b.reads(&all[i]) {
			chosen = &all[i]
			break
		}
	}
	b.report.Generation = chosen.number
	b.highest = max(b.highest, chosen.end.through)
	for _, err := range chosen.damage {
		b.report.lose("an end of checkpoint %d: %v", chosen.number, err)
	}
	b.out.Begin(chosen.begin)
	r := exportReader{b: b, e: chosen}
	return r.read()
}

// reads reports whether all records of a generation are there and read.
func (b *rebuilder) reads(e *exported) bool {
	if len(e.damage) > 0 || uint64(len(e.parts)) != e.end.parts+2 {
		return false
	}
	for _, r := range e.parts {
		if _, err := b.rows.Read(r.Loc, r.ID, nil); err != nil {
			return false
		}
	}
	return true
}

// exportReader reads the parts of an export in their order.
type exportReader struct {
	b    *rebuilder
	e    *exported
	last string   // the last row that was read
	hole []string // why
	from uint64   // the first part of the hole
	next uint64   // part
}

func (r *exportReader) read() error {
	r.next = 1
	var buf []byte
	for _, rec := range r.e.parts {
		id, _ := parseRecordID(rec.ID)
		if id.kind != recordPart || id.b < r.next {
			continue
		}
		if id.b > r.next {
			r.miss(errors.New("it is not there"))
		}
		if err := r.b.say(Progress{Stage: "read the checkpoint", Done: id.b, Total: r.e.end.parts, Unit: "parts"}); err != nil {
			return err
		}
		body, err := r.b.rows.Read(rec.Loc, rec.ID, buf)
		var p kv.Part
		if err == nil {
			buf = body
			if p, err = decodePart(body); err == nil {
				err = r.b.out.Part(p)
			}
		}
		switch {
		case err == nil:
			r.reads(&p)
		case sharefs.KindOf(err) == sharefs.KindCorrupt:
			r.next = id.b
			r.miss(err)
		default:
			return err
		}
		r.next = id.b + 1
	}
	if r.next <= r.e.end.parts {
		r.miss(errors.New("it is not there"))
	}
	r.report("the end")
	return nil
}

// miss notes a part that does not read.
func (r *exportReader) miss(err error) {
	if len(r.hole) == 0 {
		r.from = r.next
	}
	if text := err.Error(); !slices.Contains(r.hole, text) && len(r.hole) < 4 {
		r.hole = append(r.hole, text)
	}
}

// reads notes a part that does, and names the rows that are missing before it.
func (r *exportReader) reads(p *kv.Part) {
	at := rowName(p.Space, p.Past, p.First())
	r.report(at)
	r.last = at
}

func (r *exportReader) report(to string) {
	if len(r.hole) == 0 {
		return
	}
	from := r.last
	if from == "" {
		from = "the beginning"
	}
	r.b.report.lose("checkpoint %d, part %d: rows from %s to %s: %v", r.e.number, r.from, from, to, strings.Join(r.hole, "; "))
	r.hole = nil
}

// rowName names a row for a person.
func rowName(space uint8, past bool, key []byte) string {
	name := fmt.Sprint(space)
	for _, d := range spaceDefs() {
		if d.ID == space {
			name = d.Name
		}
	}
	if past {
		name = "the past of " + name
	}
	switch space {
	case spaceGlobal:
		return fmt.Sprintf("%s %q", name, key)
	case spaceDentry, spaceInode, spaceXattr, spaceMark, spaceOrphan, spaceVersion, spaceLineage, spacePending, spaceMoment, spaceAdopting:
		return fmt.Sprintf("%s %d", name, keyIno(key))
	}
	return name + " " + hex.EncodeToString(key)
}

// readChanges is the archive's part of stage 2.
func (b *rebuilder) readChanges() error {
	list, err := readChangeList(b.changes)
	if err != nil {
		return err
	}
	var total uint64
	for _, r := range list {
		total = max(total, r.b)
	}
	b.highest = max(b.highest, total)
	base := b.out.Last()
	var buf []byte
	var bad error
	for _, r := range list {
		if r.b <= b.out.Last() {
			continue
		}
		if err := b.say(Progress{Stage: "read the changes", Done: r.a - min(r.a, base), Total: total - base, Unit: "changes"}); err != nil {
			return err
		}
		body, err := b.changes.Read(r.Loc, r.Record.ID, buf)
		if err == nil {
			buf = body
			err = decodeChanges(body, r.recordID, func(seq uint64, stamp sharefs.HLC, rows []byte) error {
				if seq <= b.out.Last() {
					return nil
				}
				if next := b.out.Last() + 1; seq > next {
					b.gap(next, seq-1, r.at, bad)
				}
				bad = nil
				b.report.Commits++
				return b.out.Changes(seq, stamp, rows)
			})
		}
		switch {
		case err == nil:
		case sharefs.KindOf(err) == sharefs.KindCorrupt:
			bad = err
		default:
			return err
		}
	}
	if bad != nil {
		b.gap(b.out.Last()+1, total, 0, bad)
	}
	return b.lookBehind(list)
}

// lookBehind notes what lies behind the last record of a pack that was growing. The loss of power leaves that, where nothing is missing; so
// may damage to the last records, which no index tells of yet.
func (b *rebuilder) lookBehind(list changeList) error {
	ends := map[pack.ID]int64{}
	for _, r := range list {
		ends[r.Loc.Pack] = max(ends[r.Loc.Pack], int64(r.Loc.Off)+r.Loc.Len())
	}
	return b.changes.Each(func(i pack.Info) bool {
		if end := ends[i.ID]; !i.Sealed && end < i.Size {
			b.report.Notes = append(b.report.Notes, fmt.Sprintf("the last %d bytes of checkpoints/changes/open/%v are no record: the power failed while they "+
				"were written, or they are damaged, and the changes in them are not there", i.Size-end, i.ID))
		}
		return true
	})
}

// gap names changes that are lost.
func (b *rebuilder) gap(from, to uint64, before sharefs.HLC, cause error) {
	s := fmt.Sprintf("changes %d to %d", from, to)
	if _, last := b.out.Open(); last > 0 {
		s += ", made after " + last.Time().Format("2006-01-02 15:04:05")
	}
	if before > 0 {
		s += " and before " + before.Time().Format("2006-01-02 15:04:05")
	}
	if cause != nil {
		s += ": " + cause.Error()
	}
	b.report.lose("%s", s)
}

// readJournal is the journal's part of stage 2. As a start does it drops what lies behind a torn tail, unless that had been synced.
func (b *rebuilder) readJournal() error {
	if err := b.say(Progress{Stage: "read the journal"}); err != nil {
		return err
	}
	damage, err := kv.ScanJournal(b.cfg.Dir, b.cfg.Journal, uncopied, func(seq uint64, _ sharefs.HLC, _ []byte) error {
		b.highest = max(b.highest, seq)
		return nil
	})
	if err != nil {
		return err
	}
	for _, err := range damage {
		b.report.lose("a part of the journal: %v", err)
	}
	_, err = kv.ScanJournal(b.cfg.Dir, b.cfg.Journal, uncopied, func(seq uint64, stamp sharefs.HLC, rows []byte) error {
		last := b.out.Last()
		switch {
		case seq <= last, seq > last+1 && b.report.Journal > 0 && len(damage) == 0:
			return nil
		case seq > last+1:
			b.gap(last+1, seq-1, 0, nil)
		}
		b.report.Commits++
		b.report.Journal++
		return b.out.Changes(seq, stamp, rows)
	})
	return err
}

// findChunks is stage 3: where each chunk is.
func (b *rebuilder) findChunks() error {
	disk := b.cfg.Packs
	if disk == nil {
		packs, err := OpenCache(b.cfg.Dir, near.Config{ReadOnly: true, Log: b.cfg.Log})
		if err != nil {
			return err
		}
		defer packs.Close()
		disk = packs
	}
	packs, err := pack.Open(newKeys(&b.cfg).packs(pack.Config{FS: disk, ReadOnly: true}))
	if err != nil {
		return err
	}
	defer packs.Close()
	if err := b.hasKeys(packs); err != nil {
		return err
	}
	ids, err := packs.Packs()
	if err != nil {
		return err
	}
	b.report.Packs = len(ids)
	return b.out.Plain(spaceChunk, func(put func(key, value []byte) error) error {
		s := chunkSorter{put: put}
		for i, id := range ids {
			if err := b.say(Progress{Stage: "find the chunks", Done: uint64(i), Total: uint64(len(ids)), Unit: "packs"}); err != nil {
				return err
			}
			records, err := packs.Present(id)
			if err != nil {
				if kind := sharefs.KindOf(err); kind == sharefs.KindCorrupt || kind == sharefs.KindAccess {
					b.report.lose("pack %v: %v", id, err)
					continue
				}
				return err
			}
			for _, r := range records {
				if r.Type != pack.TypeChunk && r.Type != pack.TypeMap {
					continue
				}
				b.report.Chunks++
				if err := s.add(r.ID, r.Loc); err != nil {
					return err
				}
			}
		}
		return s.flush()
	})
}
