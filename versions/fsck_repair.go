package versions

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/versions/chunk"
	"sharefs/versions/kv"
	"sharefs/versions/pack"
)

// A repair goes these ways, in this order:
//
//  1. quarantine   the bytes of damaged records, as they lie on the disk, into quarantine/PACK-OFFSET, for a person to look at
//  2. heal         each chunk is written anew from a second copy: another record of it, a live file that still has the content (it is cut into
//     chunks again, and what has the wanted name is the wanted content), or a source that the tree was given. The pack that grows is synced before
//     any row leads there
//  3. give up      what has no second copy: the versions that need it are marked as damaged, first, then the row that leads to the bad record is taken
//     out. The rest of such a version can be read, what is lost gives an error that names the chunk, and when the same content is captured again,
//     or a source has it, all of it can be read. Nothing is ever filled with zeros
//  4. mend         headers and indexes of packs
//  5. live files   that are missing or cut, from the version that says what they held
//
// Nothing else is touched. Collections of garbage wait meanwhile.

// quarantineDir holds bytes that were found damaged.
const quarantineDir = "quarantine"

// healBatch is how many chunks are healed before their rows are written.
const healBatch = 256

// repair does the seventh stage, and puts what does not read into the report.
func (c *fsck) repair() error {
	if !c.o.Repair {
		c.report()
		return nil
	}
	list := c.badInOrder()
	c.stage("repair", "chunks", uint64(len(list)))
	if err := c.quarantine(list); err != nil {
		return err
	}
	// A node that is healed may lead to chunks of which nobody knew before who needs them.
	for healed := true; healed; {
		nodes := c.healedNodes()
		list = unhealed(c.badInOrder())
		for _, way := range []func([]*badChunk) error{c.healFromPacks, c.healFromLive, c.healFromSources} {
			if err := way(list); err != nil {
				return err
			}
			list = unhealed(list)
		}
		if healed = c.healedNodes() > nodes; healed {
			if err := c.referAgain(list); err != nil {
				return err
			}
		}
	}
	rest := slices.DeleteFunc(list, func(b *badChunk) bool { return b.expected || b.later })
	if err := c.giveUp(rest); err != nil {
		return err
	}
	if err := c.mendPacks(); err != nil {
		return err
	}
	if err := c.restoreLive(); err != nil {
		return err
	}
	c.report()
	return nil
}

func (c *fsck) healedNodes() (n int) {
	for _, b := range c.bad {
		if b.node && b.healed != "" {
			n++
		}
	}
	return n
}

// referAgain looks anew for who needs what does not read.
func (c *fsck) referAgain(list []*badChunk) error {
	for _, b := range list {
		b.refs, b.more, b.holders, b.expected = nil, 0, nil, b.row == nil
	}
	c.known.release()
	return c.eachVersion(func(v, _ *version, _, _ []byte, bad error) error {
		if bad != nil || v.place != placeKept {
			return nil
		}
		_, err := c.spans(v, v.top.spans, v.top.level)
		return err
	})
}

func unhealed(list []*badChunk) []*badChunk {
	return slices.DeleteFunc(list, func(b *badChunk) bool { return b.healed != "" })
}

// quarantine keeps the bytes of damaged records. A disk that is full keeps nothing from being repaired.
func (c *fsck) quarantine(list []*badChunk) error {
	h := &c.t.past
	dir := filepath.Join(c.t.cfg.Dir, quarantineDir)
	for _, b := range list {
		if b.kind != FoundRecord || b.row == nil {
			continue
		}
		raw, err := h.packs.Raw(b.loc.Pack, int64(b.loc.Off), int(b.loc.Len()))
		if err != nil || len(raw) == 0 || int64(len(raw)) > h.aside.available() {
			continue
		}
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		name := filepath.Join(dir, fmt.Sprintf("%s-%d", b.loc.Pack, b.loc.Off))
		if err := os.WriteFile(name, raw, 0o600); err != nil && !noRoom(err) {
			return err
		}
	}
	return nil
}

// healing gathers what is to be written anew.
type healing struct {
	c       *fsck
	given   uint64
	written []*badChunk
	locs    []pack.Loc
	from    string
}

func (c *fsck) newHealing(from string) *healing {
	return &healing{c: c, from: from, given: c.t.past.packs.Stats().GivenUp}
}

// add writes one chunk anew, whose name is by a key.
func (x *healing) add(b *badChunk, k *shareKey, data []byte) error {
	typ := pack.TypeChunk
	if b.node {
		typ = pack.TypeMap
	}
	loc, err := x.c.t.past.packs.AppendTo(k.epoch(), typ, b.id, data)
	if err != nil {
		return err
	}
	x.written, x.locs = append(x.written, b), append(x.locs, loc)
	if len(x.written) >= healBatch {
		return x.commit()
	}
	return nil
}

// commit makes rows lead to what was written, once that survives power loss.
func (x *healing) commit() error {
	if len(x.written) == 0 {
		return nil
	}
	h := &x.c.t.past
	err := h.packs.Sync()
	if err == nil && x.given != h.packs.Stats().GivenUp {
		err = &sharefs.Error{Op: "repair", Kind: sharefs.KindAgain, Detail: "a pack failed"}
	}
	if err != nil {
		return err
	}
	var rows kv.Batch
	var value []byte
	for i, b := range x.written {
		value = x.locs[i].Append(value[:0])
		rows.Put(spaceChunk, b.id[:], value)
	}
	if _, err := h.t.db.Commit(&rows); err != nil {
		return err
	}
	for _, b := range x.written {
		b.healed = x.from
		h.spoilt.heal(&b.id)
		x.c.sum.Healed++
	}
	x.written, x.locs = x.written[:0], x.locs[:0]
	return nil
}

// healFromPacks looks for other records of the same chunks: a crash, or a collection of garbage that was cut off, leaves such.
func (c *fsck) healFromPacks(list []*badChunk) error {
	if len(list) == 0 {
		return nil
	}
	want := map[sharefs.ChunkID]*badChunk{}
	for _, b := range list {
		want[b.id] = b
	}
	h := &c.t.past
	ids, err := h.packs.Packs()
	if err != nil {
		return err
	}
	x := c.newHealing("another record")
	for _, id := range ids {
		if err := c.goOn(); err != nil {
			return err
		}
		records, err := h.packs.Index(id)
		if err != nil {
			continue
		}
		for _, r := range records {
			b := want[r.ID]
			if b == nil || b.row != nil && r.Loc == b.loc {
				continue
			}
			data, err := h.packs.Read(r.Loc, r.ID, nil)
			if err != nil {
				continue
			}
			key := c.namers().key(r.ID, data)
			if key == nil {
				continue
			}
			delete(want, r.ID)
			if err := x.add(b, key, data); err != nil {
				return err
			}
		}
	}
	return x.commit()
}

// healFromLive looks for the content in live files of whose versions it is a part.
func (c *fsck) healFromLive(list []*badChunk) error {
	byFile := map[sharefs.Ino][]*badChunk{}
	var order []sharefs.Ino
	for _, b := range list {
		for _, ino := range b.holders {
			if byFile[ino] == nil {
				order = append(order, ino)
			}
			byFile[ino] = append(byFile[ino], b)
		}
	}
	x := c.newHealing("a live file")
	done := map[*badChunk]bool{}
	for _, key := range c.t.keys.load().all {
		if err := c.healFromFiles(x, newTools(key), order, byFile, done); err != nil {
			return err
		}
	}
	return x.commit()
}

// healFromFiles is healFromLive for what is named by the key of some tools.
func (c *fsck) healFromFiles(x *healing, tools *tools, order []sharefs.Ino, byFile map[sharefs.Ino][]*badChunk, done map[*badChunk]bool) error {
	for _, ino := range order {
		if err := c.goOn(); err != nil {
			return err
		}
		want := map[sharefs.ChunkID]*badChunk{}
		for _, b := range byFile[ino] {
			if !done[b] {
				want[b.id] = b
			}
		}
		if len(want) == 0 {
			continue
		}
		take := func(id sharefs.ChunkID, data []byte) error {
			b := want[id]
			if b == nil {
				return nil
			}
			delete(want, id)
			done[b] = true
			return x.add(b, tools.key, data)
		}
		if err := c.recut(ino, tools, take, func() bool { return len(want) == 0 }); err != nil {
			return err
		}
	}
	return nil
}

// recut cuts a live file into chunks again, and calls take with each, and with each node of the manifest that they make. A file that cannot be
// read is none of its business.
func (c *fsck) recut(ino sharefs.Ino, with *tools, take func(sharefs.ChunkID, []byte) error, enough func() bool) error {
	fd, err := c.t.live.openProbe(ino)
	if err != nil {
		return nil
	}
	f := os.NewFile(uintptr(fd), "live content")
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil
	}
	with.maps.keep = func(node []byte) (sharefs.ChunkID, error) {
		id := with.namer.ID(node)
		return id, take(id, node)
	}
	with.maps.reset()
	with.cutter.Reset(chunk.File{File: f}, st.Size(), chunk.For(st.Size()))
	for !enough() {
		p, err := with.cutter.Next()
		if err != nil {
			if _, err := with.maps.finish(); err != nil {
				return err
			}
			return c.goOn()
		}
		s := span{len: p.Len, hole: p.Data == nil}
		if !s.hole {
			s.id = with.namer.ID(p.Data)
			if err := take(s.id, p.Data); err != nil {
				return err
			}
		}
		if err := with.maps.add(s); err != nil {
			return err
		}
	}
	return nil
}

// healFromSources asks whoever else may have a copy.
func (c *fsck) healFromSources(list []*badChunk) error {
	for _, source := range c.t.chunkSources {
		x := c.newHealing("another source")
		for _, b := range list {
			if err := c.goOn(); err != nil {
				return err
			}
			if b.healed != "" || slices.Contains(x.written, b) {
				continue
			}
			data, err := source(b.id)
			b.later = c.unsure(err) || b.later
			if err != nil {
				continue
			}
			key := c.namers().key(b.id, data)
			if key == nil {
				continue
			}
			if err := x.add(b, key, data); err != nil {
				return err
			}
		}
		if err := x.commit(); err != nil {
			return err
		}
	}
	return nil
}

// giveUp marks the versions that need what has no second copy, and then has nothing lead to it any more.
func (c *fsck) giveUp(list []*badChunk) error {
	if len(list) == 0 {
		return nil
	}
	lost := make(map[sharefs.ChunkID]bool, len(list))
	for _, b := range list {
		lost[b.id] = true
	}
	var ids []versionID
	named := 0
	err := c.eachVersion(func(v, _ *version, _, _ []byte, bad error) error {
		if bad != nil || v.place != placeKept || v.damaged || v.away || !c.needs(v.top.spans, v.top.level, lost) {
			return nil
		}
		if named++; named <= maxTold {
			c.t.log.Error("a part of a version is lost: it cannot be read and has no other copy", "inode", uint64(v.ino), "version", c.t.past.baseOf(v.ino)+v.own)
		}
		if ids = append(ids, versionID{v.ino, v.own}); len(ids) < commitRows {
			return nil
		}
		err := c.setDamaged(ids, true)
		ids = ids[:0]
		return err
	})
	if err == nil {
		err = c.setDamaged(ids, true)
	}
	if err == nil {
		err = c.t.db.Sync()
	}
	if err != nil {
		return err
	}
	var rows []chunkRow
	for _, b := range list {
		b.lost = true
		c.sum.Lost++
		if b.row != nil {
			rows = append(rows, chunkRow{b.id, b.loc})
		}
	}
	return c.t.past.leases.unless(rows, func(*chunkRow) {}, func(free []chunkRow) error {
		var del kv.Batch
		for i := range free {
			// What a capture has written anew meanwhile stays.
			row, ok, err := c.t.db.Get(spaceChunk, free[i].id[:])
			if err != nil {
				return err
			}
			if ok && string(row) == string(c.bad[free[i].id].row) {
				del.Delete(spaceChunk, free[i].id[:])
			}
		}
		_, err := c.t.db.Commit(&del)
		return err
	})
}

// needs reports whether a list of a manifest leads to one of some chunks, as far as it can be read.
func (c *fsck) needs(list []span, level uint8, lost map[sharefs.ChunkID]bool) bool {
	for i := range list {
		s := &list[i]
		if s.hole {
			continue
		}
		if lost[s.id] {
			return true
		}
		if level == 0 || c.known.has(fingerprint(&s.id)) {
			continue
		}
		if below, err := c.node(s); err == nil && c.needs(below, level-1, lost) {
			return true
		}
	}
	return false
}

// setDamaged marks versions, or takes the mark away.
func (c *fsck) setDamaged(ids []versionID, damaged bool) error {
	if len(ids) == 0 {
		return nil
	}
	return c.locked(func() error {
		x := c.t.begin()
		x.aside = true
		for _, id := range ids {
			v, err := loadVersion(c.t.db, id.ino, id.own)
			if err != nil || v.place != placeKept {
				continue
			}
			v.damaged = damaged
			v.put(&x.b)
		}
		if x.b.Len() == 0 {
			return nil
		}
		return x.commit()
	})
}

// mendPacks makes headers and indexes anew.
func (c *fsck) mendPacks() error {
	h := &c.t.past
	h.gc.packs.Lock()
	defer h.gc.packs.Unlock()
	done := map[pack.ID]error{}
	for id, p := range c.packs {
		if p.sum.Header == nil && p.sum.Index == nil {
			continue
		}
		if end, err := h.packs.End(id); err == nil && p.sum.Index != nil {
			c.keepTail(id, end)
		}
		_, done[id] = h.packs.Mend(id)
	}
	for i := range c.sum.Findings {
		f := &c.sum.Findings[i]
		for id, err := range done {
			if f.Kind != FoundPack || f.Severity != SeverityFault || filepath.Base(f.Where) != id.String() {
				continue
			}
			if f.Repaired = err == nil; err == nil {
				f.Repair = "made anew"
			} else {
				f.Repair = "it could not be made anew: " + err.Error()
			}
		}
	}
	return nil
}

// keepTail keeps what is about to be written over by a new index.
func (c *fsck) keepTail(id pack.ID, end int64) {
	raw, err := c.t.past.packs.Raw(id, end, 8<<20)
	if err != nil || len(raw) == 0 || int64(len(raw)) > c.t.past.aside.available() {
		return
	}
	dir := filepath.Join(c.t.cfg.Dir, quarantineDir)
	os.Mkdir(dir, 0o700)
	os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%d", id, end)), raw, 0o600) // what cannot be kept was damaged anyway
}

// restoreLive makes backing files anew that are missing or cut, where the newest version is kept and tells what they held.
func (c *fsck) restoreLive() error {
	for i := range c.sum.Findings {
		f := &c.sum.Findings[i]
		if f.Kind != FoundLive || f.Severity != SeverityDamage || f.Ino == 0 {
			continue
		}
		err := c.restoreOne(f.Ino)
		if f.Repaired = err == nil; err == nil {
			f.Repair = "made anew from its newest version"
		} else if errors.Is(err, errNoCopy) {
			f.Repair = "there is no other copy: put it back from a backup"
		} else {
			f.Repair = "it could not be made anew: " + err.Error()
		}
	}
	return nil
}

// errNoCopy says that no version tells what a live file held.
var errNoCopy = errors.New("no version has what it held")

// restoreOne makes one backing file anew.
func (c *fsck) restoreOne(ino sharefs.Ino) error {
	t, h := c.t, &c.t.past
	f := t.files.pin(ino)
	defer t.files.unpin(f)
	f.content.Lock()
	defer f.content.Unlock()
	f.mu.Lock()
	busy := f.handles > 0 || f.hot
	f.mu.Unlock()
	if busy {
		return &sharefs.Error{Op: "repair", Kind: sharefs.KindBusy, Detail: "a program has it open"}
	}
	r, err := t.row(ino)
	if err != nil {
		return err
	}
	v, err := newestVersion(t.db, ino, noLimit)
	if err != nil {
		return err
	}
	if v == nil || v.place != placeKept || v.damaged || v.size != r.size {
		return errNoCopy
	}
	if r.isAbsent() {
		return t.ready(ino, int64(r.size))
	}
	if v.away {
		return c.restoreAway(f, v)
	}
	src := newKeptReader(h, v)
	defer src.Close()
	name := asideName(ino, h.heldCount.Add(1)) + asideHeld // a start removes it
	fd, err := h.aside.create(name)
	if err != nil {
		return err
	}
	defer h.aside.remove(name)
	err = fill(fd, src)
	if err == nil {
		_, err = ignoringEINTR(func() (int, error) { return 0, unix.Fsync(fd) })
	}
	unix.Close(fd)
	if err != nil {
		return err
	}
	if err := c.keepLive(ino); err != nil {
		return err
	}
	f.mu.Lock()
	t.files.shut(&f.rd)
	t.files.shut(&f.wr)
	f.mu.Unlock()
	if _, err = ignoringEINTR(func() (int, error) { return 0, unix.Renameat(h.aside.fd, name, t.live.fd, t.live.name(ino)) }); err != nil {
		return err
	}
	if err := t.live.setTimes(ino, r.atime, r.mtime); err != nil {
		return err
	}
	if k := t.kernel.Load(); k != nil {
		(*k).ForgetContent(ino, 0, 0)
	}
	return nil
}

// keepLive keeps what is left of a backing file for a person.
func (c *fsck) keepLive(ino sharefs.Ino) error {
	t := c.t
	if st, err := t.live.stat(ino); err != nil || st.Size == 0 || st.Mode&unix.S_ISVTX != 0 {
		return nil
	}
	dir := filepath.Join(t.cfg.Dir, quarantineDir)
	os.Mkdir(dir, 0o700)
	return os.Link(filepath.Join(t.live.path, t.live.name(ino)), filepath.Join(dir, fmt.Sprintf("live-%x-%d", uint64(ino), time.Now().Unix())))
}

// restoreAway has a file be absent again whose newest version is elsewhere. Its content is held.
func (c *fsck) restoreAway(f *file, v *version) error {
	t := c.t
	end, err := t.hush(f, false)
	if err != nil {
		return err
	}
	defer end()
	if err := c.keepLive(f.ino); err != nil {
		return err
	}
	if err := t.live.remove(f.ino); err != nil && !errors.Is(err, unix.ENOENT) { // else what is kept would be emptied
		return err
	}
	if err := t.past.makeAbsent(map[sharefs.Ino]*version{f.ino: v}); err != nil {
		return err
	}
	if k := t.kernel.Load(); k != nil {
		(*k).ForgetContent(f.ino, 0, 0)
	}
	t.forgetAttr(f.ino)
	return nil
}
