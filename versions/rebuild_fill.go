package versions

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"

	"sharefs"
)

// filler brings back live files that are gone while their rows are there: they were removed behind the last change that is left, or before the loss by
// what caused it, or the store comes from its bucket and has none. What packs have of a file is what it holds then: its newest version that
// reads, or that of the file whose past it continues.
//
// A batch of files at a time is written under other names and synced; the rows that tell of it are synced; then the files get their names.
// So whoever is interrupted finds those files missing that are not whole.
type filler struct {
	f    *rebuilt
	t    *Tree
	done uint64 // bytes
	all  uint64
	left int                    // files
	lost map[sharefs.Ino]string // why files are not what they were, or gone
	gone map[sharefs.Ino]bool   // those without any content
}

// Bounds of a batch.
const (
	fillFiles = 4096
	fillBytes = 512 << 20
	fillStage = "bring back live files"
)

func (f *rebuilt) fillMissing() error {
	w := &filler{f: f, t: f.t, lost: map[sharefs.Ino]string{}, gone: map[sharefs.Ino]bool{}}
	if err := w.count(); err != nil {
		return err
	}
	for after := sharefs.Ino(0); w.left > 0; {
		rows, err := w.missing(after)
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			break
		}
		if err := w.fill(rows); err != nil {
			return err
		}
		after = rows[len(rows)-1].ino
		w.left -= len(rows)
	}
	if err := w.forsake(); err != nil {
		return err
	}
	return w.name()
}

// say tells of progress, and errors where it is not to go on.
func (w *filler) say() error {
	if w.t.cfg.tell == nil {
		return nil
	}
	return w.t.cfg.tell(Progress{Stage: fillStage, Done: w.done, Total: w.all, Unit: "bytes"})
}

// each calls fn for the rows of all files behind an inode that should have a live file and have none, until it returns false.
func (w *filler) each(after sharefs.Ino, fn func(*row) bool) error {
	var bad error
	err := w.t.db.Scan(spaceInode, inoKey(after+1), nil, func(key, value []byte) bool {
		r, err := decodeRow(keyIno(key), value)
		if err != nil {
			return true // mend or the check tell
		}
		if !r.isRegular() || r.nlink == 0 {
			return true
		}
		_, err = w.t.live.stat(r.ino)
		switch {
		case err == nil:
			return true
		case errors.Is(err, unix.ENOENT):
			return fn(r)
		}
		bad = err
		return false
	})
	return errors.Join(err, bad)
}

func (w *filler) count() error {
	return w.each(0, func(r *row) bool {
		w.all += r.size
		w.left++
		return true
	})
}

// missing returns the next batch.
func (w *filler) missing(after sharefs.Ino) (rows []*row, err error) {
	bytes := uint64(0)
	err = w.each(after, func(r *row) bool {
		rows = append(rows, r)
		bytes += r.size
		return len(rows) < min(fillFiles, w.left) && bytes < fillBytes
	})
	return rows, err
}

// filled is what became of a file.
type filled struct {
	r     *row
	v     *version // what it holds; nil: nothing
	exact bool     // that is what its row says
	away  bool     // it is absent from now on: its newest version is elsewhere
	said  error    // why it is not its newest version
	err   error    // why it cannot go on at all
}

// fill writes a batch of files.
func (w *filler) fill(rows []*row) error {
	todo, results := make(chan *row), make(chan filled)
	for range min(4, max(2, runtime.NumCPU())) {
		go func() {
			for r := range todo {
				results <- w.one(r)
			}
		}()
	}
	var all []filled
	err := w.say()
	for next, open := 0, 0; next < len(rows) && err == nil || open > 0; {
		var feed chan *row
		var r *row
		if next < len(rows) && err == nil {
			feed, r = todo, rows[next]
		}
		select {
		case feed <- r:
			next, open = next+1, open+1
		case done := <-results:
			open--
			w.done += done.r.size
			if err == nil {
				err = errors.Join(done.err, w.say())
			}
			all = append(all, done)
		}
	}
	close(todo)
	if err != nil {
		return err
	}
	if err := w.t.live.sync(); err != nil {
		return err
	}
	for part := range slices.Chunk(all, 256) {
		if err := w.note(part); err != nil {
			return err
		}
	}
	if err := w.t.db.Sync(); err != nil {
		return err
	}
	for _, one := range all {
		if one.v == nil && one.r.size > 0 && !one.away {
			continue
		}
		if err := w.t.live.finish(one.r.ino); err != nil {
			return err
		}
	}
	return nil
}

// one writes one file, from the first version that reads.
func (w *filler) one(r *row) filled {
	out := filled{r: r}
	if r.size == 0 && !r.isAbsent() {
		out.exact = true
		_, out.err = w.write(r, nil, true)
		return out
	}
	newest, err := newestVersion(w.t.db, r.ino, noLimit)
	if err != nil {
		out.err = err
		return out
	}
	if r.isAbsent() || newest != nil && newest.place == placeKept && newest.away && newest.size == r.size {
		return w.away(r, newest)
	}
	from, upTo := r.ino, uint64(noLimit)
	for from != 0 {
		var kept []*version
		if out.err = ownVersions(w.t.db, from, upTo, func(v *version) bool {
			if v.place == placeKept {
				kept = append(kept, v)
			}
			return len(kept) < 8 // of one file; if none of so many reads there is more amiss
		}); out.err != nil {
			return out
		}
		for _, v := range kept {
			exact := newest != nil && v.ino == newest.ino && v.own == newest.own && !v.timed && v.size == r.size && r.ctime >= v.ctime
			bad, err := w.write(r, v, exact)
			if out.exact, out.err = exact, err; err != nil {
				return out
			}
			if bad == nil {
				out.v = v
				return out
			}
			if outOfReach(bad) && w.t.past.cache != nil && w.t.past.cache.HasBucket() {
				out.err = w.failed(r, bad) // an earlier version, or none, must not take its place because a server is away
				return out
			}
			if out.said == nil {
				out.said = bad
			}
		}
		l, _, err := loadLineage(w.t.db, from)
		if err != nil {
			out.err = err
			return out
		}
		from, upTo = l.pred, l.through
	}
	out.exact = false
	return out
}

// absent makes the file of one whose content is elsewhere, still under another name.
func (w *filler) absent(r *row) error {
	fd, err := w.t.live.prepare(r.ino)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Fchmod(fd, stickyBacking); err != nil {
		return err
	}
	if err := unix.Ftruncate(fd, int64(r.size)); err != nil {
		return err
	}
	return w.t.live.setTimesOf(w.t.live.name(r.ino)+preparing, r.atime, r.mtime)
}

// write writes the new file of an inode, still under another name, with the content of a version, or with none. Bad is why the version does not read.
func (w *filler) write(r *row, v *version, exact bool) (bad, err error) {
	fd, err := w.t.live.prepare(r.ino)
	if err != nil {
		return nil, w.failed(r, err)
	}
	out := os.NewFile(uintptr(fd), "backing file")
	defer func() {
		if e := out.Close(); err == nil && e != nil {
			err = w.failed(r, e)
		}
	}()
	mtime := r.mtime
	if v != nil {
		if bad, err = w.copy(out, v); bad != nil || err != nil {
			return bad, w.failed(r, err)
		}
		if !exact {
			mtime = v.mtime
		}
	}
	return nil, w.failed(r, w.t.live.setTimesOf(w.t.live.name(r.ino)+preparing, r.atime, mtime))
}

// copy writes the content of a version into a file, and no holes.
func (w *filler) copy(out *os.File, v *version) (bad, err error) {
	from := newKeptReader(&w.t.past, v)
	defer from.Close()
	var buf []byte
	for off := int64(0); off < from.Size(); {
		start, end, err := from.NextData(off)
		if err != nil {
			return err, nil
		}
		buf = slices.Grow(buf[:0], int(end-start))[:end-start]
		if n, err := from.ReadAt(buf, start); n < len(buf) {
			return err, nil
		}
		if _, err := out.WriteAt(buf, start); err != nil {
			return nil, err
		}
		off = end
	}
	return nil, out.Truncate(from.Size())
}

func (w *filler) failed(r *row, err error) error {
	if err == nil {
		return nil
	}
	return &sharefs.Error{Op: fillStage, Path: w.t.live.path + "/" + w.t.live.name(r.ino), Kind: sharefs.KindOf(err), Err: err}
}

// note writes down what became of some files: a row that tells of another content than that has to be looked at, and versions that only the live file
// or what was set aside had are lost.
func (w *filler) note(part []filled) error {
	t := w.t
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.begin()
	for _, one := range part {
		if one.away || one.v != nil && one.v.away {
			if err := w.noteAway(x, &one); err != nil {
				return err
			}
		} else if one.v == nil && one.r.size > 0 {
			w.gone[one.r.ino] = true
			w.lost[one.r.ino] = "its content is gone, and no version of it was captured"
			if one.said != nil {
				w.lost[one.r.ino] = fmt.Sprintf("its content is gone, and no version of it reads: %v", one.said)
			}
			t.log.Error("a live file does not come back", "inode", uint64(one.r.ino), "why", w.lost[one.r.ino])
			continue
		}
		if one.exact { // it is at rest, whatever it was when the row of its mark was written
			if _, ok, err := t.db.Get(spaceMark, inoKey(one.r.ino)); err != nil {
				return err
			} else if ok {
				x.b.Delete(spaceMark, inoKey(one.r.ino))
			}
			continue
		}
		x.b.Put(spaceMark, inoKey(one.r.ino), markValue(false))
		switch {
		case one.said != nil:
			w.lost[one.r.ino] = fmt.Sprintf("it holds an earlier version, as the newest does not read: %v", one.said)
		case one.v.ino != one.r.ino:
			w.lost[one.r.ino] = "it holds an earlier version, as the newest was not captured"
		}
		if err := ownVersions(t.db, one.r.ino, noLimit, func(v *version) bool {
			if v.place == placeLive || v.place == placeAside {
				v.place = placeLost
				v.put(&x.b)
				w.lost[one.r.ino] = "it holds an earlier version, as the newest was not captured"
				return true
			}
			return false
		}); err != nil {
			return err
		}
		if why := w.lost[one.r.ino]; why != "" { // the report may be of a later call, if this one is interrupted
			t.log.Error("a live file does not come back as it was", "inode", uint64(one.r.ino), "why", why)
		}
	}
	if x.b.Len() == 0 && len(x.rows) == 0 {
		return nil
	}
	return x.commit()
}

// forsake gives up versions that wait to be captured and whose content is nowhere.
func (w *filler) forsake() error {
	t := w.t
	var ids []versionID
	if err := t.db.Scan(spacePending, nil, nil, func(key, _ []byte) bool {
		if len(key) == 16 {
			ids = append(ids, versionID{keyIno(key), binary.BigEndian.Uint64(key[8:])})
		}
		return true
	}); err != nil {
		return err
	}
	for _, id := range ids {
		v, err := loadVersion(t.db, id.ino, id.own)
		if errors.Is(err, sharefs.KindNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		var st unix.Stat_t
		switch v.place {
		case placeLive:
			_, err = t.live.stat(id.ino)
		case placeAside:
			err = t.past.aside.stat(id, &st)
		}
		if errors.Is(err, unix.ENOENT) {
			if _, err = t.past.replace(id, v.place, placeLost); err == nil && w.lost[id.ino] == "" {
				w.lost[id.ino] = fmt.Sprintf("version %d of it was not captured", t.past.baseOf(id.ino)+id.own)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// name tells what is lost by name, and takes the names of files away that have no content.
func (w *filler) name() error {
	if len(w.lost) == 0 {
		return nil
	}
	t := w.t
	type entry struct {
		dir sharefs.Ino
		dent
	}
	var names []entry
	err := t.db.Scan(spaceDentry, nil, nil, func(key, value []byte) bool {
		if d, err := decodeDent(key, value); err == nil && w.lost[d.ino] != "" {
			names = append(names, entry{keyIno(key), d})
		}
		return true
	})
	if err != nil {
		return err
	}
	for _, e := range names {
		if len(w.f.lost) < maxLost {
			dir := ""
			if e.dir != sharefs.RootIno {
				dir = t.NameOf(e.dir) + "/"
			}
			w.f.lose("%q: %s", dir+e.name, w.lost[e.ino])
		} else {
			w.f.lostMore++
		}
		if !w.gone[e.ino] {
			continue
		}
		if err := t.Unlink(e.dir, e.name); err != nil && sharefs.KindOf(err) != sharefs.KindNotExist {
			return err
		}
	}
	return nil
}
