package versions

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/versions/kv"
	"sharefs/versions/pack"
)

// chunkSorter puts the rows of chunks in the order of their names, a run at a time: a file of sorted pages takes them best so.
type chunkSorter struct {
	put  func(key, value []byte) error
	rows [][len(sharefs.ChunkID{}) + pack.LocLen]byte
}

const sortedChunks = 2 << 20 // in a run: 120 MB

func (s *chunkSorter) add(id sharefs.ChunkID, loc pack.Loc) error {
	var row [len(sharefs.ChunkID{}) + pack.LocLen]byte
	copy(row[:], id[:])
	loc.Append(row[:len(id)])
	if s.rows = append(s.rows, row); len(s.rows) >= sortedChunks {
		return s.flush()
	}
	return nil
}

func (s *chunkSorter) flush() error {
	const key = len(sharefs.ChunkID{})
	slices.SortFunc(s.rows, func(a, b [len(sharefs.ChunkID{}) + pack.LocLen]byte) int { return bytes.Compare(a[:key], b[:key]) })
	for i := range s.rows {
		if err := s.put(s.rows[i][:key], s.rows[i][key:]); err != nil {
			return err
		}
	}
	s.rows = s.rows[:0]
	return nil
}

// findAside is the first part of stage 4: contents that were set aside and whose rows are lost become versions again, where the file is known
// and its versions end right before them. (A start would remove them.)
func (b *rebuilder) findAside() error {
	names, err := os.ReadDir(filepath.Join(b.cfg.Dir, "aside"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return failed("rebuild", err)
	}
	view, err := b.out.View()
	if err != nil {
		return err
	}
	var found []*version
	for _, e := range names {
		id, ok := parseAside(e.Name())
		if !ok {
			continue
		}
		if _, err := loadVersion(view, id.ino, id.own); !errors.Is(err, sharefs.KindNotExist) {
			continue
		}
		v, err := b.asideVersion(view, id)
		if err != nil {
			return err
		}
		if v == nil {
			b.report.lose("the version that aside/%s holds: its row is lost, and it cannot be told where it belongs", e.Name())
			if err := b.setAside("aside/" + e.Name()); err != nil {
				return failed("rebuild", err)
			}
			continue
		}
		found = append(found, v)
	}
	for _, space := range [...]uint8{spaceVersion, spacePending} {
		err := b.out.Plain(space, func(put func(key, value []byte) error) error {
			for _, v := range found {
				key, value := versionKey(v.ino, v.own), v.encode()
				if space == spacePending {
					key, value = pendingKey(v.ino, v.own), nil
				}
				if err := put(key, value); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// asideVersion makes up the row of a version by its content; nil where nobody could find it.
func (b *rebuilder) asideVersion(view kv.View, id versionID) (*version, error) {
	r, err := loadRow(view, id.ino)
	if errors.Is(err, sharefs.KindStale) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	last, err := newestVersion(view, id.ino, noLimit)
	if err != nil || !r.isRegular() || last == nil && id.own != 1 || last != nil && last.own+1 != id.own {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(b.cfg.Dir, "aside", asideName(id.ino, id.own)), &st); err != nil {
		return nil, failed("rebuild", err)
	}
	v := &version{ino: id.ino, own: id.own, place: placeAside, file: r.id, mode: r.mode, uid: r.uid, gid: r.gid}
	v.setStamp(stampOf(&st))
	v.at = sharefs.HLCAt(timeOf(v.mtime))
	if last != nil {
		v.at = max(v.at, last.at+1)
		v.author = last.author
	}
	return v, nil
}

// findLive is the second part of stage 4: live files that are not what their rows say are marked, and no number of an inode is given out again
// that a backing file has.
func (b *rebuilder) findLive() error {
	view, err := b.out.View()
	if err != nil {
		return err
	}
	highest := firstIno - 1
	type mark struct {
		ino   sharefs.Ino
		fresh bool
	}
	// A backing file whose inode changed and whose size and time did not may have been copied with the whole store: where none is as it was, all were.
	var marks, touched []mark
	untouched := false
	var bad error
	err = view.Scan(spaceInode, nil, nil, func(key, value []byte) bool {
		ino := keyIno(key)
		highest = max(highest, ino)
		r, err := decodeRow(ino, value)
		if err != nil {
			b.report.lose("the row of inode %d: it is damaged", ino)
			return true
		}
		if !r.isRegular() || r.nlink == 0 {
			return true
		}
		if b.report.Files++; b.report.Files%256 == 0 {
			if bad = b.say(Progress{Stage: "compare the live files", Done: b.report.Files, Unit: "files"}); bad != nil {
				return false
			}
		}
		st, err := b.live.stat(ino)
		if errors.Is(err, unix.ENOENT) {
			return true
		}
		if err != nil {
			bad = failed("rebuild", err)
			return false
		}
		if r.isAbsent() {
			if st.Mode&unix.S_ISVTX == 0 { // it became full after what is known of it, and may have changed
				var earlier bool
				if earlier, bad = holdsEarlier(view, ino, &st); !earlier { // or the hole never came to the disk: it is a cache of which no chunk is right
					marks = append(marks, mark{ino, false})
				}
			}
			return bad == nil
		}
		if st.Mode&unix.S_ISVTX != 0 && st.Size > 0 {
			if bad = failed("rebuild", b.live.remove(ino)); bad != nil { // no content: it became absent after what is known of it
				return false
			}
			return true
		}
		how, err := changedSince(view, r, &st)
		if err != nil {
			bad = err
			return false
		}
		_, mtime, _ := timesOf(&st)
		switch m := (mark{ino, mtime < r.mtime}); how {
		case liveChanged:
			marks = append(marks, m)
		case liveTouched:
			touched = append(touched, m)
		case liveSame:
			untouched = true
		}
		return true
	})
	if err = errors.Join(err, bad); err != nil {
		return err
	}
	if untouched {
		marks = append(marks, touched...)
		slices.SortFunc(marks, func(x, y mark) int { return cmp.Compare(x.ino, y.ino) })
	}
	err = b.out.Plain(spaceMark, func(put func(key, value []byte) error) error {
		b.report.Marked = uint64(len(marks))
		for _, m := range marks {
			if _, ok, err := view.Get(spaceMark, inoKey(m.ino)); err != nil {
				return err
			} else if ok {
				continue
			}
			if err := put(inoKey(m.ino), markValue(m.fresh)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	backing, err := b.live.highest()
	if err != nil {
		return failed("rebuild", err)
	}
	highest = max(highest, backing)
	var batch kv.Batch
	if old, ok, err := view.Get(spaceGlobal, globalInos); err != nil {
		return err
	} else if ok && len(old) == 16 {
		highest = max(highest, sharefs.Ino(binary.BigEndian.Uint64(old[8:]))-1)
	}
	next := binary.BigEndian.AppendUint64(nil, uint64(highest+1))
	batch.Put(spaceGlobal, globalInos, append(next, next...))
	state := []byte{0}
	if len(b.report.Lost) > 0 {
		state[0] = rebuiltWithLoss
	}
	batch.Put(spaceGlobal, globalRebuilt, state)
	return b.out.Commit(&batch)
}

// liveState says how a backing file stands to what is known of it.
type liveState uint8

const (
	liveUnknown liveState = iota // nothing was ever in it
	liveSame                     // as it was
	liveSet                      // but for its times, which the row has
	liveTouched                  // but for the time at which its inode changed
	liveChanged
)

// timesApart is how far apart the clocks' readings are at most when the daemon sets times of a file: first those of the backing file,
// then those of the row.
const timesApart = sharefs.Time(1e9)

// changedSince reports whether a backing file is what its row and its newest version say.
func changedSince(view kv.View, r *row, st *unix.Stat_t) (liveState, error) {
	v, err := newestVersion(view, r.ino, noLimit)
	if err != nil {
		return 0, err
	}
	now := stampOf(st)
	known := v != nil && !v.timed && v.place != placeLost
	asRow := uint64(now.Size) == r.size && now.Mtime == r.mtime
	switch {
	case known && now == v.stamp():
		return liveSame, nil
	case known && asRow && v.size == r.size && now.Ctime <= r.ctime+timesApart: // its times were set since
		return liveSet, nil
	case known && (asRow || now.Size == int64(v.size) && now.Mtime == v.mtime):
		return liveTouched, nil
	case known || uint64(now.Size) != r.size || now.Mtime > r.mtime:
		return liveChanged, nil
	}
	return liveUnknown, nil
}

// holdsEarlier reports whether a backing file is that of a version before the newest one, since which nobody wrote to it.
func holdsEarlier(view kv.View, ino sharefs.Ino, st *unix.Stat_t) (bool, error) {
	v, err := newestVersion(view, ino, noLimit)
	if err != nil || v == nil {
		return false, err
	}
	return isEarlier(view, v, stampOf(st))
}

// highest returns the greatest number of an inode that has a backing file, 0 without one.
func (l *liveDir) highest() (highest sharefs.Ino, err error) {
	err = l.each(func(ino sharefs.Ino) error {
		highest = max(highest, ino)
		return nil
	})
	return highest, err
}

// each calls fn for every backing file, until it errors.
func (l *liveDir) each(fn func(ino sharefs.Ino) error) error {
	for i := range liveSubdirs {
		sub := string(appendHex2(nil, uint8(i)))
		d, err := os.Open(filepath.Join(l.path, sub))
		if err != nil {
			return err
		}
		names, err := d.Readdirnames(-1)
		d.Close()
		if err != nil {
			return err
		}
		for _, name := range names {
			n, err := strconv.ParseUint(name, 16, 64)
			if ino := sharefs.Ino(n); err == nil && l.name(ino) == sub+"/"+name {
				if err := fn(ino); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
