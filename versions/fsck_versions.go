package versions

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/versions/pack"
)

// maxKnown bounds how many chunks and nodes are remembered to be whole: 64 MB.
const maxKnown = 6 << 20

// checkVersions does the fifth stage.
func (c *fsck) checkVersions() error {
	c.stage("versions", "versions", 0)
	if err := c.eachVersion(func(v *version, newer *version, key, value []byte, bad error) error {
		c.sum.Versions++
		c.at("versions", "versions", c.sum.Versions, 0)
		if bad != nil {
			return c.confirmRow(spaceVersion, key, value, func() {
				c.wrong(FoundVersion, SeverityDamage, keyIno(key), "the row of one of its versions is damaged")
			})
		}
		return c.checkVersion(v, newer)
	}); err != nil {
		return err
	}
	if err := c.checkQueue(); err != nil {
		return err
	}
	return c.checkLineages()
}

// eachVersion calls fn for every row of a version, that of the next newer one of its inode being at hand, until it fails. A row that cannot be read comes
// with the error.
func (c *fsck) eachVersion(fn func(v, newer *version, key, value []byte, bad error) error) error {
	var newer *version
	var failure error
	n := 0
	err := c.t.db.Scan(spaceVersion, nil, nil, func(key, value []byte) bool {
		if n++; n%256 == 0 {
			if failure = c.goOn(); failure != nil {
				return false
			}
		}
		v, bad := decodeVersion(key, value)
		if newer != nil && (v == nil || v.ino != newer.ino) {
			newer = nil
		}
		failure = fn(v, newer, key, value, bad)
		if bad == nil {
			newer = v
		}
		return failure == nil
	})
	if err == nil {
		err = failure
	}
	return err
}

// confirmRow calls fn if a row is as it was.
func (c *fsck) confirmRow(space uint8, key, value []byte, fn func()) error {
	return c.locked(func() error {
		now, ok, err := c.t.db.Get(space, key)
		if err == nil && ok && string(now) == string(value) {
			fn()
		}
		return err
	})
}

// checkVersion holds one version against its queue, its place and the next newer one.
func (c *fsck) checkVersion(v, newer *version) error {
	suspect := newer != nil && (newer.at <= v.at || v.place == placeLive) || v.author > uint64(len(c.t.past.authors))
	waits := v.place == placeLive || v.place == placeAside
	if waits {
		_, queued, err := c.t.db.Get(spacePending, pendingKey(v.ino, v.own))
		if err != nil {
			return err
		}
		suspect = suspect || !queued || c.loose(v) != ""
	}
	if suspect {
		return c.confirmVersion(v)
	}
	if v.place != placeKept {
		return nil
	}
	return c.checkManifest(v)
}

// loose says what is wrong with the content of a version that is not in packs.
func (c *fsck) loose(v *version) string {
	var st unix.Stat_t
	var err error
	what := "its live file"
	if v.place == placeLive {
		st, err = c.t.live.stat(v.ino)
	} else {
		what = "the file that it was set aside in"
		err = c.t.past.aside.stat(versionID{v.ino, v.own}, &st)
	}
	switch {
	case errors.Is(err, unix.ENOENT):
		return what + " is missing"
	case err != nil:
		return what + " cannot be looked at: " + err.Error()
	case uint64(st.Size) != v.size && (v.place == placeAside || !c.t.hot(v.ino)):
		return fmt.Sprintf("%s has %d bytes, and the version %d", what, st.Size, v.size)
	}
	return ""
}

// confirmVersion looks again at a version while no row of a version changes.
func (c *fsck) confirmVersion(v *version) error {
	return c.locked(func() error {
		now, err := loadVersion(c.t.db, v.ino, v.own)
		if err != nil { // removed since
			return nil
		}
		wrong := func(severity Severity, format string, args ...any) {
			c.found(Finding{Kind: FoundVersion, Severity: severity, Ino: v.ino, Where: fmt.Sprintf("inode %d", v.ino),
				Detail: fmt.Sprintf("version %d: ", c.t.past.baseOf(v.ino)+v.own) + fmt.Sprintf(format, args...), inos: map[sharefs.Ino]bool{v.ino: true}})
		}
		if now.author > uint64(len(c.t.past.authors)) {
			wrong(SeverityFault, "its author is number %d of %d", now.author, len(c.t.past.authors))
		}
		newest, err := newestVersion(c.t.db, v.ino, noLimit)
		if err != nil {
			return nil // that one is told of
		}
		if now.place == placeLive && newest.own != now.own {
			wrong(SeverityDamage, "the live file stands for it, and there is a newer version")
		}
		if newest.own != now.own {
			if next := c.next(now); next != nil && next.at <= now.at {
				wrong(SeverityFault, "it is not older than the one after it")
			}
		}
		if now.place != placeLive && now.place != placeAside {
			return nil
		}
		if _, queued, err := c.t.db.Get(spacePending, pendingKey(v.ino, v.own)); err == nil && !queued {
			wrong(SeverityFault, "it waits to be captured and is not in the queue")
		}
		if what := c.loose(now); what != "" {
			wrong(SeverityDamage, "%s", what)
		}
		return nil
	})
}

// next returns the version after one; nil where there is none.
func (c *fsck) next(v *version) (next *version) {
	from, _ := inoRange(v.ino)
	c.t.db.Scan(spaceVersion, from, versionKey(v.ino, v.own), func(key, value []byte) bool {
		next, _ = decodeVersion(key, value)
		return next != nil
	})
	return next
}

// checkManifest follows a version to the rows of all its chunks.
func (c *fsck) checkManifest(v *version) error {
	whole, err := c.spans(v, v.top.spans, v.top.level)
	if err != nil || !whole || !v.damaged {
		return err
	}
	if c.o.Repair {
		return c.setDamaged([]versionID{{v.ino, v.own}}, false)
	}
	c.found(Finding{Kind: FoundLost, Severity: SeverityNote, Ino: v.ino, Where: fmt.Sprintf("inode %d", v.ino), inos: map[sharefs.Ino]bool{v.ino: true},
		Detail: fmt.Sprintf("version %d was marked as lost in part and can be read again", c.t.past.baseOf(v.ino)+v.own), Repair: "fsck --repair takes the mark away"})
	return nil
}

// spans follows a list of a manifest down, and reports whether all of it is there.
func (c *fsck) spans(v *version, list []span, level uint8) (whole bool, err error) {
	whole = true
	if v.away && level == 0 { // others keep them
		return true, nil
	}
	for i := range list {
		s := &list[i]
		if s.hole || level == 0 && c.placed.has(placeKey(&s.id)) || c.known.has(fingerprint(&s.id)) {
			continue
		}
		ok, err := c.span(v, s, level)
		if err == errWent {
			continue
		}
		if err != nil {
			return false, err
		}
		if !ok {
			whole = false
			continue
		}
		if v.away { // whole as far as it is here
			continue
		}
		if c.known.n >= maxKnown {
			c.known.release()
		}
		c.known.add(fingerprint(&s.id))
	}
	return whole, nil
}

// errWent says that a version went while it was looked at, so that nothing follows from what was found.
var errWent = errors.New("the version is no more")

// span follows a chunk or node.
func (c *fsck) span(v *version, s *span, level uint8) (bool, error) {
	b := c.bad[s.id]
	if b == nil || b.healed != "" {
		row, ok, err := c.t.db.Get(spaceChunk, s.id[:])
		if err != nil {
			return false, err
		}
		if !ok {
			if gone, err := c.stands(v, func() (bool, error) {
				_, ok, err := c.t.db.Get(spaceChunk, s.id[:])
				return !ok, err
			}); err != nil || !gone {
				return false, cmp.Or(err, errWent)
			}
			b = &badChunk{id: s.id, kind: FoundChunk, expected: true, err: &sharefs.Error{Op: "read a version", Kind: sharefs.KindCorrupt, Detail: "no pack has it"}}
		} else if level > 0 {
			list, err := c.node(s)
			if err == nil {
				return c.spans(v, list, level-1)
			}
			if c.unsure(err) {
				return false, nil
			}
			if stands, err2 := c.stands(v, func() (bool, error) { return true, nil }); err2 != nil || !stands {
				return false, cmp.Or(err2, errWent)
			}
			loc, _ := pack.ParseLoc(row)
			b = &badChunk{id: s.id, loc: loc, row: row, err: err, kind: FoundRecord}
		} else {
			return true, nil
		}
		if len(c.bad) >= maxBad {
			return false, nil
		}
		c.bad[s.id] = b
		c.t.past.spoilt.add(&s.id)
	}
	b.node = b.node || level > 0
	if !v.damaged {
		b.expected = false
	}
	c.refer(b, v)
	return false, nil
}

// node reads a node of a manifest, twice where it does not read at first.
func (c *fsck) node(s *span) (list []span, err error) {
	for range 2 {
		var data []byte
		if data, err = c.t.past.readChunk(s.id, nil); err != nil {
			continue
		}
		list, ok := decodeSpans(data, s.len)
		if !ok {
			return nil, &sharefs.Error{Op: "read a version", Kind: sharefs.KindCorrupt, Detail: "a node of its manifest is damaged"}
		}
		return list, nil
	}
	return nil, err
}

// stands reports whether a version is as it was and something holds, both at one moment.
func (c *fsck) stands(v *version, fn func() (bool, error)) (ok bool, err error) {
	err = c.locked(func() error {
		now, err := loadVersion(c.t.db, v.ino, v.own)
		if errors.Is(err, sharefs.KindNotExist) || err == nil && (now.place != placeKept || !now.same(v)) {
			return nil
		}
		if err == nil {
			ok, err = fn()
		}
		return err
	})
	return ok, err
}

// refer notes that a version needs a chunk that does not read.
func (c *fsck) refer(b *badChunk, v *version) {
	id := versionID{v.ino, v.own}
	if n := len(b.refs); n > 0 && b.refs[n-1] == id {
		return
	}
	if len(b.refs) < maxRefs {
		b.refs = append(b.refs, id)
	} else {
		b.more++
	}
	if len(b.holders) < maxHolders && !slices.Contains(b.holders, v.ino) {
		if r, err := c.t.row(v.ino); err == nil && r.nlink > 0 && r.isRegular() {
			b.holders = append(b.holders, v.ino)
		}
	}
}

// checkQueue looks for what waits to be captured and is no version.
func (c *fsck) checkQueue() error {
	last := versionID{}
	for {
		ids := c.t.past.pending(last, endOfQueue, 1024)
		for _, id := range ids {
			last = versionID{id.ino, id.own + 1}
			v, err := loadVersion(c.t.db, id.ino, id.own)
			if err == nil && (v.place == placeLive || v.place == placeAside) || sharefs.KindOf(err) == sharefs.KindCorrupt {
				continue
			}
			if err := c.confirmRow(spacePending, pendingKey(id.ino, id.own), nil, func() {
				v, err := loadVersion(c.t.db, id.ino, id.own)
				if errors.Is(err, sharefs.KindNotExist) || err == nil && v.place != placeLive && v.place != placeAside {
					c.wrong(FoundVersion, SeverityFault, id.ino, "the queue of the capture has its version %d, which does not wait", id.own)
				}
			}); err != nil {
				return err
			}
		}
		if len(ids) < 1024 || last.own == math.MaxUint64 {
			return nil
		}
		if err := c.goOn(); err != nil {
			return err
		}
	}
}

// checkLineages looks whether each chain of inodes counts right.
func (c *fsck) checkLineages() error {
	var failure error
	err := c.t.db.Scan(spaceLineage, nil, nil, func(key, value []byte) bool {
		ino := keyIno(key)
		if c.lineage(ino, value) == "" {
			return true
		}
		failure = c.locked(func() error {
			now, ok, err := c.t.db.Get(spaceLineage, inoKey(ino))
			if err == nil && ok {
				if wrong := c.lineage(ino, now); wrong != "" {
					c.found(Finding{Kind: FoundLineage, Severity: SeverityFault, Ino: ino, Where: fmt.Sprintf("inode %d", ino), Detail: wrong, inos: map[sharefs.Ino]bool{ino: true}})
				}
			}
			return err
		})
		return failure == nil
	})
	if err == nil {
		err = failure
	}
	return err
}

// lineage says what is wrong with a row.
func (c *fsck) lineage(ino sharefs.Ino, value []byte) string {
	l, err := decodeLineage(ino, value)
	if err != nil {
		return "the row of its lineage is damaged"
	}
	if l.pred == 0 {
		return ""
	}
	before, ok, err := loadLineage(c.t.db, l.pred)
	if err == nil && !ok { // retention removes a lineage with the last version that it leads to
		if v, err := newestVersion(c.t.db, l.pred, l.through); err == nil && v == nil {
			return ""
		}
	}
	switch {
	case err != nil || !ok:
		return fmt.Sprintf("it continues inode %d, whose lineage is not to be had", l.pred)
	case !before.continued || l.depth != before.depth+1 || l.base != before.base+l.through:
		return fmt.Sprintf("it continues version %d of inode %d and does not count on from there", l.through, l.pred)
	}
	if l.jump != l.pred {
		if far, _, err := loadLineage(c.t.db, l.jump); err != nil || far.depth >= before.depth {
			return fmt.Sprintf("its lineage points back to inode %d, which is not further back", l.jump)
		}
	}
	return ""
}
