package versions

import (
	"errors"

	"sharefs"
	"sharefs/internal/retain"
	"sharefs/versions/kv"
)

// thinning is something to be done to a version.
type thinning struct {
	id    versionID
	at    sharefs.HLC // of the version that was meant
	until sharefs.HLC // to be noted; 0: the version is to go
}

// thinTx bounds how many versions are changed in one commit.
const thinTx = 512

// aged is a version that retention looks at.
type aged struct {
	*version
	file  *agedFile
	until sharefs.HLC // when it ceased to be what the file held
	fixed bool        // it stays whatever its age: it is the present one, one of the newest, or waits to be captured
	newer *version    // of the same inode; nil: none
}

// agedFile is the inode whose versions are looked at.
type agedFile struct {
	ino    sharefs.Ino
	exists bool        // its row does
	alive  bool        // it has a name
	gone   sharefs.HLC // when it lost the last one
	rule   int         // see scope
	floor  uint64      // so many of the newest stay
	own    uint64      // versions from this number on stay, for a live file continues them; 0: none
	rank   uint64      // versions with content seen so far
	last   *version    // the one looked at last
	base   uint64
}

// eachVersion calls fn for the versions of all inodes from a key on, those of an inode newest first.
func (r *thinner) eachVersion(from []byte, fn func(*aged) error) error {
	var f *agedFile
	var bad error
	err := r.t.db.Scan(spaceVersion, from, nil, func(key, value []byte) bool {
		v, err := decodeVersion(key, value)
		if err == nil && (f == nil || f.ino != v.ino) {
			f, err = r.agedFile(v.ino)
		}
		if err != nil {
			bad = err
			return false
		}
		a := &aged{version: v, file: f, newer: f.last, until: sharefs.MaxHLC}
		switch {
		case f.last != nil:
			a.until = f.last.at
		case !f.exists:
			if a.until = f.gone; a.until == 0 {
				a.until = v.at // no instant that is kept shows the file
			}
		}
		if v.until != 0 {
			a.until = min(a.until, v.until)
		}
		a.fixed = v.place == placeLive || v.place == placeAside || f.last == nil && f.exists || f.own != 0 && v.own >= f.own ||
			f.alive && v.place != placeLost && f.rank < f.floor
		if v.place != placeLost {
			f.rank++
		}
		f.last = v
		bad = fn(a)
		return bad == nil
	})
	if err == nil {
		err = bad
	}
	return err
}

// agedFile reads what counts of an inode.
func (r *thinner) agedFile(ino sharefs.Ino) (*agedFile, error) {
	f := &agedFile{ino: ino, rule: r.scope.rule(ino), own: r.scope.continued[ino]}
	f.floor = uint64(r.minVersions(f.rule))
	row, err := loadRow(r.t.db, ino)
	switch {
	case err == nil:
		f.exists, f.alive = true, row.nlink > 0
		return f, nil
	case !errors.Is(err, sharefs.KindStale):
		return nil, err
	}
	f.gone, err = r.t.goneAt(ino)
	return f, err
}

// goneAt returns the end of the instant in which an inode lost its last name, 0 if that is not known any more.
func (t *Tree) goneAt(ino sharefs.Ino) (at sharefs.HLC, err error) {
	var bad error
	lived := false
	err = t.db.Past(spaceInode, inoKey(ino), func(rev kv.Revision) bool {
		if !rev.Deleted {
			r, err := decodeRow(ino, rev.Value)
			if err != nil || r.nlink > 0 {
				lived, bad = true, err
				return false
			}
		}
		if at = rev.At; at == 0 {
			at = sharefs.MaxHLC // the instant is open
		}
		return true
	})
	if err == nil {
		err = bad
	}
	if !lived {
		at = 0
	}
	return at, failed("read the past of an inode", err)
}

func (r *thinner) minVersions(rule int) int {
	if rule < 0 {
		return r.policy.MinVersions
	}
	return r.scope.rules[rule].MinVersions
}

// keeps reports whether the rules keep a version for an instant.
func (r *thinner) keeps(a *aged) bool {
	if a.file.rule < 0 {
		return r.kept.Any(a.at, a.until)
	}
	rules := &r.scope.rules[a.file.rule].Rules
	return r.pins.Any(a.at, a.until) || rules.Any(r.now, max(a.at, r.cut), a.until)
}

// versions removes what holds at no kept instant.
func (r *thinner) versions(from []byte) error {
	const stage = "thin versions"
	removed := false // the version before, of the same inode
	var seen uint64
	err := r.eachVersion(from, func(a *aged) error {
		if a.newer == nil {
			removed = false
		}
		if len(r.todo) >= thinTx {
			if removed && a.version.until == 0 {
				r.todo = append(r.todo, thinning{versionID{a.ino, a.own}, a.at, a.newer.at})
			}
			key := versionKey(a.ino, a.own)
			if err := r.thin(); err != nil {
				return err
			}
			if err := r.step(stage, phaseVersions, key, seen, thinTx); err != nil {
				return err
			}
		} else if seen%4096 == 0 {
			if err := r.step(stage, phaseVersions, versionKey(a.ino, noLimit), seen, 1); err != nil {
				return err
			}
		}
		seen++
		r.report.Versions++
		if a.fixed || r.keeps(a) {
			if removed && a.version.until == 0 {
				r.todo = append(r.todo, thinning{versionID{a.ino, a.own}, a.at, a.newer.at})
			}
			removed = false
			return nil
		}
		removed = true
		r.count(a)
		r.todo = append(r.todo, thinning{id: versionID{a.ino, a.own}, at: a.at})
		return nil
	})
	if err != nil {
		return err
	}
	return r.thin()
}

// thin does what is to be done to versions, in one commit.
func (r *thinner) thin() error {
	todo := r.todo
	r.todo = r.todo[:0]
	if r.opts.DryRun || len(todo) == 0 {
		return nil
	}
	r.opts.at("versions")
	t := r.t
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.begin()
	x.aside = true
	for _, d := range todo {
		v, err := loadVersion(t.db, d.id.ino, d.id.own)
		if errors.Is(err, sharefs.KindNotExist) {
			continue
		}
		switch {
		case err != nil:
			return err
		case v.at != d.at:
			continue
		case d.until != 0:
			v.until = d.until
			x.b.Put(spaceVersion, versionKey(v.ino, v.own), v.encode())
		case v.place == placeKept || v.place == placeLost:
			x.b.Delete(spaceVersion, versionKey(v.ino, v.own))
		}
	}
	return x.commit()
}

// count notes a version that goes.
func (r *thinner) count(a *aged) {
	r.report.Removed++
	n := r.ownBytes(a)
	r.report.Bytes += n
	f := a.file
	k := len(r.report.Examples) - 1
	if k >= 0 && r.report.Examples[k].ino == f.ino {
		e := &r.report.Examples[k]
		e.Count++
		e.Bytes += n
		if len(e.Versions) < exampleVersions {
			e.Versions = append(e.Versions, f.base+a.own)
		}
		return
	}
	if len(r.report.Examples) < maxExamples {
		f.base = r.t.past.baseOf(f.ino)
		r.report.Examples = append(r.report.Examples, RetainExample{ino: f.ino, Count: 1, Bytes: n, Versions: []uint64{f.base + a.own}})
	}
}

// ownBytes estimates what a version takes in packs that the next newer one of its inode does not take as well.
func (r *thinner) ownBytes(a *aged) (n uint64) {
	if a.place != placeKept {
		return 0
	}
	return unshared(a.version, a.newer)
}

// unshared returns the bytes of a version that are in no chunk, or node at the top of its manifest, of another one.
func unshared(v, other *version) (n uint64) {
	has := map[sharefs.ChunkID]bool{}
	if other != nil {
		for i := range other.top.spans {
			if !other.top.spans[i].hole {
				has[other.top.spans[i].id] = true
			}
		}
	}
	for i := range v.top.spans {
		s := &v.top.spans[i]
		if !s.hole && !has[s.id] {
			n += uint64(s.len)
		}
	}
	return n
}

// fitQuota finds the instant before which nothing but moments with names may be kept, so that history takes no more than the quota. It goes by estimates:
// bytes before compression that no newer version of the same file has.
func (r *thinner) fitQuota() error {
	var total uint64
	// What would be given back if the instants of an hour were not kept any more, by the hour (since 1970) of the last one that needs it.
	freed := map[sharefs.HLC]uint64{}
	var least, most sharefs.HLC
	var seen uint64
	err := r.eachVersion(nil, func(a *aged) error {
		if seen++; seen%4096 == 0 {
			if err := r.step("estimate the space that history takes", 0, nil, seen, 1); err != nil {
				return err
			}
		}
		if a.place != placeKept || a.newer == nil && a.file.exists {
			return nil
		}
		n := r.ownBytes(a)
		if !a.fixed && !r.keeps(a) {
			return nil // it goes anyway
		}
		total += n
		if a.fixed || r.pins.Any(a.at, a.until) {
			return nil
		}
		last := min(a.until, r.now) - 1
		if a.file.rule < 0 {
			if k, ok := r.kept.Last(last); ok {
				last = k
			}
		}
		hour := last / hourReadings
		if len(freed) == 0 {
			least, most = hour, hour
		}
		least, most = min(least, hour), max(most, hour)
		freed[hour] += n
		return nil
	})
	if err != nil {
		return err
	}
	q := &RetainQuota{Limit: r.policy.Quota, Before: total}
	if q.Limit == retain.NoHistory {
		q.Limit = 0
	}
	for hour := least; total > q.Limit && hour <= most && len(freed) > 0; hour++ {
		if n, ok := freed[hour]; ok {
			total -= n
			r.cut = (hour + 1) * hourReadings
		}
	}
	r.cut = min(r.cut, r.now)
	q.After, q.Cut = total, timeOrZero(r.cut)
	r.report.Quota = q
	return nil
}

// hourReadings is how many clock readings an hour has.
const hourReadings = sharefs.HLC(3600*1000) << 16
