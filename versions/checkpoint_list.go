package versions

import (
	"cmp"
	"errors"
	"slices"

	"sharefs"
	"sharefs/versions/pack"
)

// CheckpointList is what a store can be made anew from, beside its packs, share.key and identity.key.
type CheckpointList struct {
	Generation uint64           `json:"generation"` // the newest complete export; 0: there is none yet
	Archived   uint64           `json:"archived"`   // the commit up to which changes are there
	Files      []CheckpointFile `json:"files"`
}

// CheckpointFile is a file of the checkpoint.
type CheckpointFile struct {
	Name   string `json:"name"`   // relative to the store, with slashes
	Size   int64  `json:"size"`   // bytes
	Sealed bool   `json:"sealed"` // it never changes any more; otherwise records are added to its end, and it moves when it is sealed
}

// Checkpoints lists the files that a restore needs, as they are now. With seal the changes so far are put into a sealed file first, so that all
// of what is listed can be copied as it is; a file that is gone when it is to be copied belonged to a generation that was replaced meanwhile:
// then the list has to be asked for again.
func (t *Tree) Checkpoints(seal bool) (CheckpointList, error) {
	c := &t.checkpoint
	if seal && !t.cfg.ReadOnly {
		if err := c.flush(); err != nil {
			return CheckpointList{}, err
		}
	}
	c.work.Lock()
	defer c.work.Unlock()
	if seal && !t.cfg.ReadOnly {
		if err := c.sealChanges(); err != nil {
			return CheckpointList{}, err
		}
	}
	return c.list()
}

// durable lists the files as they are, all of which survives the loss of power. Whole is false where there is no export, or one that another follows at once
// because changes behind it are missing, as after a rebuild.
func (c *checkpoints) durable() (list CheckpointList, whole bool, err error) {
	c.work.Lock()
	defer c.work.Unlock()
	for _, s := range []*pack.Store{c.rows, c.changes} {
		if err := s.Sync(); err != nil {
			if s == c.changes && c.arc != nil {
				c.follow(c.copied) // the pack was given up where it was synced
			}
			return CheckpointList{}, false, err
		}
	}
	list, err = c.list()
	return list, c.whole.number > 0 && (!c.gap || c.putOff != nil), err
}

// list lists the files that a restore needs; c.work is held.
func (c *checkpoints) list() (CheckpointList, error) {
	l := CheckpointList{Generation: c.whole.number, Archived: c.copied}
	for _, part := range [...]struct {
		name  string
		store *pack.Store
		needs func(pack.ID) bool
	}{
		{"rows", c.rows, func(id pack.ID) bool {
			f := c.exports[id]
			return f != nil && f.first <= c.whole.number && c.whole.number <= f.last
		}},
		{"changes", c.changes, func(id pack.ID) bool { f := c.files[id]; return f != nil && f.last > c.whole.begin.Applied }},
	} {
		err := part.store.Each(func(i pack.Info) bool {
			if part.needs(i.ID) {
				name := i.ID.String()
				dir := "open"
				if i.Sealed {
					dir = name[:2]
				}
				l.Files = append(l.Files, CheckpointFile{Name: "checkpoints/" + part.name + "/" + dir + "/" + name, Size: i.Size, Sealed: i.Sealed})
			}
			return true
		})
		if err != nil {
			return CheckpointList{}, err
		}
	}
	slices.SortFunc(l.Files, func(a, b CheckpointFile) int { return cmp.Compare(a.Name, b.Name) })
	return l, nil
}

// exported is a generation as its records tell it.
type exported struct {
	generation
	parts  []pack.Record // begin, parts, end
	damage []error       // what of it does not read
}

// readGenerations finds the complete exports, oldest first. One of which a record is damaged counts as long as it has an end.
func readGenerations(s *pack.Store) ([]exported, error) {
	found := map[uint64]*exported{}
	err := eachRecord(s, func(r pack.Record, id recordID) {
		if id.kind == recordChanges {
			return
		}
		e := found[id.a]
		if e == nil {
			e = &exported{}
			e.number = id.a
			found[id.a] = e
		}
		e.parts = append(e.parts, r)
		e.bytes += r.Loc.Len()
		e.at = max(e.at, id.at)
	})
	if err != nil {
		return nil, err
	}
	var all []exported
	for _, e := range found {
		slices.SortFunc(e.parts, func(a, b pack.Record) int { return slices.Compare(a.ID[16:24], b.ID[16:24]) })
		e.parts = slices.CompactFunc(e.parts, func(a, b pack.Record) bool { return a.ID == b.ID })
		if ok, err := e.readEnds(s); err != nil {
			return nil, err
		} else if ok {
			all = append(all, *e)
		}
	}
	slices.SortFunc(all, func(a, b exported) int { return cmp.Compare(a.number, b.number) })
	return all, nil
}

// readEnds reads the first and the last record; ok is false where the last is not there: it was never completed.
func (e *exported) readEnds(s *pack.Store) (ok bool, err error) {
	first, last := e.parts[0], e.parts[len(e.parts)-1]
	id, _ := parseRecordID(last.ID)
	if id.kind != recordEnd {
		return false, nil
	}
	for _, r := range []pack.Record{first, last} {
		id, _ := parseRecordID(r.ID)
		b, err := s.Read(r.Loc, r.ID, nil)
		if err == nil {
			switch id.kind {
			case recordBegin:
				e.begin, err = decodeBegin(b)
			case recordEnd:
				e.end, err = decodeEnd(b)
			}
		}
		switch {
		case err == nil:
		case sharefs.KindOf(err) == sharefs.KindCorrupt:
			e.damage = append(e.damage, err)
		default:
			return false, err
		}
	}
	return true, nil
}

// eachRecord calls fn for every record of a checkpoint that the indexes tell of. A pack that cannot be read at all is left out.
func eachRecord(s *pack.Store, fn func(pack.Record, recordID)) error {
	ids, err := s.Packs()
	if err != nil {
		return err
	}
	for _, id := range ids {
		records, err := s.Index(id)
		if sharefs.KindOf(err) == sharefs.KindCorrupt || errors.Is(err, sharefs.KindAccess) {
			continue
		}
		if err != nil {
			return err
		}
		for _, r := range records {
			if rid, ok := parseRecordID(r.ID); ok && r.Type == pack.TypeRows {
				fn(r, rid)
			}
		}
	}
	return nil
}

// changeList is the records of the archive in the order of what they hold.
type changeList []changeRecord

type changeRecord struct {
	pack.Record
	recordID
}

func readChangeList(s *pack.Store) (l changeList, err error) {
	err = eachRecord(s, func(r pack.Record, id recordID) {
		if id.kind == recordChanges {
			l = append(l, changeRecord{r, id})
		}
	})
	slices.SortStableFunc(l, func(x, y changeRecord) int { return cmp.Or(cmp.Compare(x.a, y.a), cmp.Compare(x.b, y.b)) })
	return l, err
}

// commits is a range of commits, both ends in it.
type commits struct{ from, to uint64 }

// gaps returns the commits behind after and up to last that no record holds.
func (l changeList) gaps(after, last uint64) (out []commits) {
	next := after + 1
	for _, r := range l {
		if r.b < next {
			continue
		}
		if r.a > next {
			out = append(out, commits{next, min(r.a-1, last)})
		}
		next = r.b + 1
		if next > last {
			return out
		}
	}
	if next <= last {
		out = append(out, commits{next, last})
	}
	return out
}
