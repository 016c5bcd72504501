package versions

import (
	"errors"

	"sharefs"
	"sharefs/versions/kv"
)

// lineages removes the lineage of inodes that are gone with all versions that it led to. A row that others continue stays as long as an older inode has
// versions: what points to a row that is not there has come to its end.
func (r *thinner) lineages() error {
	t := r.t
	var gone []sharefs.Ino
	var seen uint64
	var bad error
	err := t.db.Scan(spaceLineage, nil, nil, func(key, value []byte) bool {
		if seen++; seen%1024 == 0 {
			if bad = r.step("look for lineages without versions", phaseLineage, nil, seen, 1024); bad != nil {
				return false
			}
		}
		ino := keyIno(key)
		var void bool
		if void, bad = r.voidLineage(ino, value); void {
			gone = append(gone, ino)
		}
		if len(gone) >= thinTx {
			if bad == nil {
				bad = r.removeLineages(gone)
			}
			gone = gone[:0]
		}
		return bad == nil
	})
	if err == nil {
		err = bad
	}
	if err != nil {
		return err
	}
	return r.removeLineages(gone)
}

// voidLineage reports whether nobody asks for a lineage any more.
func (r *thinner) voidLineage(ino sharefs.Ino, value []byte) (bool, error) {
	t := r.t
	l, err := decodeLineage(ino, value)
	if err != nil {
		return false, err
	}
	if _, err := loadRow(t.db, ino); !errors.Is(err, sharefs.KindStale) {
		return false, err
	}
	if v, err := newestVersion(t.db, ino, noLimit); err != nil || v != nil {
		return false, err
	}
	if !l.continued || l.pred == 0 {
		return true, nil
	}
	if _, ok, err := loadLineage(t.db, l.pred); err != nil || ok {
		return false, err
	}
	v, err := newestVersion(t.db, l.pred, l.through)
	return v == nil, err
}

func (r *thinner) removeLineages(inos []sharefs.Ino) error {
	if len(inos) == 0 {
		return nil
	}
	r.report.Lineages += uint64(len(inos))
	if r.opts.DryRun {
		return nil
	}
	t := r.t
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.begin()
	x.aside = true
	for _, ino := range inos {
		b, ok, err := t.db.Get(spaceLineage, inoKey(ino))
		if err != nil {
			return failed("read a lineage", err)
		}
		if !ok {
			continue
		}
		if void, err := r.voidLineage(ino, b); err != nil {
			return err
		} else if void {
			x.b.Delete(spaceLineage, inoKey(ino))
		}
	}
	return x.commit()
}

// trash shows what lies in the trash as of the last kept instant at which it was there, and takes out what was there at none.
func (r *thinner) trash() error {
	var rows []Trashed
	var bad error
	flush := func() error {
		defer func() { rows = rows[:0] }()
		if len(rows) == 0 {
			return nil
		}
		return r.moveTrash(rows)
	}
	var seen uint64
	err := r.t.db.Scan(spaceTrash, nil, nil, func(key, value []byte) bool {
		if seen++; seen%1024 == 0 {
			if bad = r.step("look through the trash", phaseTrash, nil, seen, 1024); bad != nil {
				return false
			}
		}
		d, err := decodeTrashed(key, value)
		if err != nil {
			bad = err
			return false
		}
		if r.kept.Has(d.Before) {
			return true
		}
		if rows = append(rows, d); len(rows) >= thinTx {
			bad = flush()
		}
		return bad == nil
	})
	if err == nil {
		err = bad
	}
	if err != nil {
		return err
	}
	return flush()
}

func (r *thinner) moveTrash(rows []Trashed) error {
	t := r.t
	var b kv.Batch
	for i := range rows {
		d := rows[i]
		at, ok := r.kept.Last(d.Before)
		if ok {
			was, err := t.findDent(t.db.At(at), d.Parent, d.Name)
			if err != nil {
				return err
			}
			ok = was.ino == d.Ino
		}
		b.Delete(spaceTrash, trashKey(d.Before, d.Ino))
		if !ok {
			r.report.Trash++
			continue
		}
		d.Before = at
		d.put(&b)
	}
	if r.opts.DryRun {
		return nil
	}
	defer t.ops.trash.changed.Add(1)
	t.mu.Lock()
	defer t.mu.Unlock()
	// What was taken out meanwhile must not come back.
	for i := range rows {
		_, ok, err := t.db.Get(spaceTrash, trashKey(rows[i].Before, rows[i].Ino))
		if err != nil {
			return failed("read the trash", err)
		}
		if !ok {
			return nil // the next run does it
		}
	}
	return t.ops.commit(&b)
}

// states removes the states of a space's rows that no kept instant shows.
func (r *thinner) states(phase byte, space uint8, stage string, from []byte) error {
	// What is in memory only is not looked at; of a small store that can be all.
	if !r.t.cfg.ReadOnly {
		if err := r.t.db.Checkpoint(); err != nil {
			return err
		}
	}
	p, err := r.t.db.Prune(kv.Keep{Since: r.kept.Since, At: r.kept.At}, r.opts.DryRun)
	if err != nil {
		return err
	}
	if err := p.Space(space, from); err != nil {
		return err
	}
	before := r.report.States
	for done := false; !done; {
		r.opts.at("states")
		looked := p.States
		if done, err = p.Step(); err != nil {
			return err
		}
		r.report.States = before
		r.report.States.add(&p.PruneStats)
		if err := r.step(stage, phase, p.Key(), p.States, p.States-looked); err != nil {
			return err
		}
	}
	return nil
}

// instants removes the boundaries that nothing is left of. It reads all names and attributes, so it is only done where something was removed.
func (r *thinner) instants() error {
	if r.report.States.Removed == 0 {
		return nil
	}
	p, err := r.t.db.Prune(kv.Keep{Since: r.kept.Since, At: r.kept.At}, r.opts.DryRun)
	if err != nil {
		return err
	}
	var rows uint64
	err = p.Epochs(func() error {
		rows += 16384
		return r.step("look for instants without a trace", phaseInstants, nil, rows, 16384)
	})
	r.report.States.Epochs += p.PruneStats.Epochs
	return err
}
