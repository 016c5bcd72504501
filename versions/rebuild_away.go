package versions

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"sharefs"
)

// NotHere are live files of which packs lack content: they were freed on the host that was lost, or never came to it whole. Other hosts have them.
type NotHere struct {
	Files uint64   `json:"files"`
	Bytes uint64   `json:"bytes"` // their size
	Named []string `json:"named"` // the first of them, by name
}

// elsewhereOnly lists the live files of which other hosts have the content.
func (t *Tree) elsewhereOnly() (e NotHere, err error) {
	inos := map[sharefs.Ino]bool{}
	err = t.db.Scan(spaceInode, nil, nil, func(key, value []byte) bool {
		if r, err := decodeRow(keyIno(key), value); err == nil && r.isRegular() && r.nlink > 0 && r.isAbsent() && r.size > 0 {
			e.Files++
			e.Bytes += r.size
			if len(inos) < maxLost {
				inos[r.ino] = true
			}
		}
		return true
	})
	e.Named = []string{}
	if err != nil || len(inos) == 0 {
		return e, failed("look at what is elsewhere", err)
	}
	for _, name := range t.namesOf(inos) {
		e.Named = append(e.Named, strings.TrimPrefix(name, "/"))
	}
	slices.Sort(e.Named)
	return e, nil
}

// away writes the file of one whose newest version is away. Where packs have all of that nevertheless, it is here again, and kept: whoever promised to keep it promised that to the host that was lost.
func (w *filler) away(r *row, v *version) (out filled) {
	out = filled{r: r, exact: true, away: true}
	if v != nil && v.place == placeKept && v.away && v.size == r.size {
		if whole, err := w.inPacks(v); err != nil {
			out.err = w.failed(r, err)
			return out
		} else if whole {
			bad, err := w.write(r, v, true)
			if err != nil || bad == nil {
				out.v, out.away, out.err = v, false, err
				return out
			}
		}
	}
	out.err = w.failed(r, w.absent(r))
	return out
}

// inPacks reports whether packs have all of a version.
func (w *filler) inPacks(v *version) (bool, error) {
	c, err := w.t.contentOf(v)
	if err != nil {
		return false, nil // its key is not here
	}
	return w.t.Here(c)
}

// noteAway writes down whether a file whose newest version was away is here again.
func (w *filler) noteAway(x *tx, one *filled) error {
	r, err := x.edit(one.r.ino)
	if err != nil {
		return err
	}
	if one.away {
		r.flags |= rowAbsent
		r.blocks = 0
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstatat(w.t.live.fd, w.t.live.name(r.ino)+preparing, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return w.failed(r, err)
	}
	r.flags &^= rowAbsent
	r.blocks = uint64(st.Blocks)
	one.v.away = false
	one.v.put(&x.b)
	return nil
}
