package versions

import (
	"fmt"
	"strings"

	"sharefs"
	"sharefs/versions/kv"
)

// Names stand with directories and not with inodes, so that finding those of a thousand inodes costs as much as finding that of one: one pass over all
// names, then one over each directory on the way up.

// Bounds of naming.
const (
	maxNamed    = 1 << 16 // inodes that are named; others are told by their numbers
	maxInstants = 16      // moments at which names of removed files are looked for
	maxSteps    = 1 << 12 // of a lineage that are followed
)

// namesOf returns a path from the root for each inode. One that continues its past stands for an inode without a name, and else the last name
// that it had; what cannot be told is a text in brackets.
func (t *Tree) namesOf(inos map[sharefs.Ino]bool) map[sharefs.Ino]string {
	out := make(map[sharefs.Ino]string, len(inos))
	living, dead := map[sharefs.Ino]bool{}, map[sharefs.Ino]bool{}
	for ino := range inos {
		if len(living)+len(dead) >= maxNamed {
			break
		}
		if r, err := t.row(ino); err == nil && (r.nlink > 0 || r.isDir()) {
			living[ino] = true
		} else {
			dead[ino] = true
		}
	}
	for ino, p := range t.namesIn(t.db, living) {
		out[ino] = p
	}
	if len(dead) > 0 {
		t.namesOfDead(dead, out)
	}
	for ino := range inos {
		if out[ino] == "" {
			out[ino] = fmt.Sprintf("(a file without a name, inode %d)", ino)
		}
	}
	return out
}

// namesOfDead names removed files: by who continues their past, or by the name that they had last.
func (t *Tree) namesOfDead(dead map[sharefs.Ino]bool, out map[sharefs.Ino]string) {
	heirs := t.heirsOf(dead)
	named := map[sharefs.Ino]bool{}
	for _, heir := range heirs {
		named[heir] = true
	}
	paths := t.namesIn(t.db, named)
	byInstant := map[sharefs.HLC]map[sharefs.Ino]bool{}
	for ino := range dead {
		if p := paths[heirs[ino]]; p != "" {
			out[ino] = p
			continue
		}
		at := t.diedAt(ino)
		if byInstant[at] == nil {
			if at == 0 || len(byInstant) >= maxInstants {
				continue
			}
			byInstant[at] = map[sharefs.Ino]bool{}
		}
		byInstant[at][ino] = true
	}
	for at, inos := range byInstant {
		for ino, p := range t.namesIn(t.db.At(at), inos) {
			out[ino] = p + " (removed)"
		}
	}
}

// diedAt returns the last moment at which a view of the past shows an inode with a name, 0 if there is none.
func (t *Tree) diedAt(ino sharefs.Ino) (at sharefs.HLC) {
	var died sharefs.HLC
	t.db.Past(spaceInode, inoKey(ino), func(rev kv.Revision) bool {
		if !rev.Deleted {
			if r, err := decodeRow(ino, rev.Value); err != nil || r.nlink > 0 {
				at = max(died, 1) - 1
				return false
			}
		}
		died = rev.Stamp
		return true
	})
	return at
}

// heirsOf finds for each of some inodes one with a name that continues its past.
func (t *Tree) heirsOf(dead map[sharefs.Ino]bool) map[sharefs.Ino]sharefs.Ino {
	next := map[sharefs.Ino]sharefs.Ino{} // of those on the way: who continues them
	want := dead
	out := map[sharefs.Ino]sharefs.Ino{}
	for step := 0; len(want) > 0 && step < maxSteps; step++ {
		more := map[sharefs.Ino]bool{}
		err := t.db.Scan(spaceLineage, nil, nil, func(key, value []byte) bool {
			ino := keyIno(key)
			if l, err := decodeLineage(ino, value); err == nil && want[l.pred] && next[l.pred] == 0 {
				next[l.pred] = ino
				if r, err := t.row(ino); err != nil || r.nlink == 0 {
					more[ino] = true
				}
			}
			return true
		})
		if err != nil || step > 64 {
			break // a file that was saved so often has names enough in its log
		}
		want = more
	}
	for ino := range dead {
		at := ino
		for range maxSteps {
			heir := next[at]
			if heir == 0 {
				break
			}
			if r, err := t.row(heir); err == nil && r.nlink > 0 {
				out[ino] = heir
				break
			}
			at = heir
		}
	}
	return out
}

// namesIn names inodes in a view.
func (t *Tree) namesIn(view kv.View, inos map[sharefs.Ino]bool) map[sharefs.Ino]string {
	out := map[sharefs.Ino]string{}
	if len(inos) == 0 {
		return out
	}
	type link struct {
		parent sharefs.Ino
		name   string
	}
	up := map[sharefs.Ino]link{}
	collect := func(from, to []byte, want map[sharefs.Ino]bool) {
		view.Scan(spaceDentry, from, to, func(key, value []byte) bool {
			if d, err := decodeDent(key, value); err == nil && d.ino != 0 && want[d.ino] {
				if _, ok := up[d.ino]; !ok {
					up[d.ino] = link{keyIno(key), d.name}
				}
			}
			return true
		})
	}
	files := map[sharefs.Ino]bool{}
	dirs := map[sharefs.Ino]bool{}
	for ino := range inos {
		if r, err := loadRow(view, ino); err == nil && r.isDir() {
			dirs[ino] = true
		} else {
			files[ino] = true
		}
	}
	if len(files) > 0 {
		collect(nil, nil, files)
		for ino := range files {
			if l, ok := up[ino]; ok {
				dirs[l.parent] = true
			}
		}
	}
	// Directories know where they lie, so that one range of names is read for each on the way up.
	for depth := 0; len(dirs) > 0 && depth < 4096; depth++ {
		above := map[sharefs.Ino]map[sharefs.Ino]bool{}
		for ino := range dirs {
			if _, ok := up[ino]; ok || ino == sharefs.RootIno {
				continue
			}
			r, err := loadRow(view, ino)
			if err != nil || !r.isDir() || r.parent == ino {
				continue
			}
			if above[r.parent] == nil {
				above[r.parent] = map[sharefs.Ino]bool{}
			}
			above[r.parent][ino] = true
		}
		dirs = map[sharefs.Ino]bool{}
		for parent, want := range above {
			from, to := inoRange(parent)
			collect(from, to, want)
			dirs[parent] = true
		}
	}
	for ino := range inos {
		var parts []string
		at := ino
		for len(parts) < 4096 && at != sharefs.RootIno {
			l, ok := up[at]
			if !ok {
				break
			}
			parts = append(parts, l.name)
			at = l.parent
		}
		if at != sharefs.RootIno {
			continue
		}
		var b strings.Builder
		for i := len(parts) - 1; i >= 0; i-- {
			b.WriteString("/" + parts[i])
		}
		if ino == sharefs.RootIno {
			b.WriteString("/")
		}
		out[ino] = b.String()
	}
	return out
}
