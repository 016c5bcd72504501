package versions

import (
	"cmp"
	"slices"

	"sharefs"
	"sharefs/versions/kv"
)

// mend makes the rows of names and inodes fit together where some are lost: names that lead nowhere go, inodes without a name come to lost+found, and
// what a row counts is what there is. Memory: some 100 bytes for each inode.
func (f *rebuilt) mend() error {
	m := mender{f: f, t: f.t, inodes: map[sharefs.Ino]*mended{}}
	for _, step := range []func() error{m.readInodes, m.readNames, m.readXattrs, m.readOrphans, m.endPasts, m.cutLoops, m.dropRows, m.fixRows, m.adoptLost} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

type mender struct {
	f      *rebuilt
	t      *Tree
	inodes map[sharefs.Ino]*mended
	drop   []doomedRow
	move   []slotOf // names in slots where nobody finds them
}

// doomedRow is a row that goes.
type doomedRow struct {
	space uint8
	key   []byte
}

// slotOf is a name and the directory it is in.
type slotOf struct {
	dir sharefs.Ino
	dent
}

// mended is what was found of an inode.
type mended struct {
	mode, nlink uint32
	names       uint32
	subdirs     uint32
	held        uint64
	values      uint64
	flags       uint8
	orphan      bool
	rooted      bool
	adopt       bool
	last        slotOf // the name that was found last; of a directory the only one
}

func (in *mended) isDir() bool { return in.mode&sharefs.ModeType == sharefs.ModeDir }

func (m *mender) scan(space uint8, fn func(key, value []byte)) error {
	return m.t.db.Scan(space, nil, nil, func(key, value []byte) bool {
		fn(key, value)
		return true
	})
}

func (m *mender) doom(space uint8, key []byte) { m.drop = append(m.drop, doomedRow{space, key}) }

func (m *mender) readInodes() error {
	return m.scan(spaceInode, func(key, value []byte) {
		r, err := decodeRow(keyIno(key), value)
		if err != nil || len(key) != 8 {
			m.doom(spaceInode, key)
			return
		}
		m.inodes[r.ino] = &mended{mode: r.mode, nlink: r.nlink}
	})
}

func (m *mender) readNames() error {
	return m.scan(spaceDentry, func(key, value []byte) {
		parent := keyIno(key)
		d, err := decodeDent(key, value)
		if err != nil {
			m.doom(spaceDentry, key)
			return
		}
		if d.ino == 0 {
			return
		}
		dir, in := m.inodes[parent], m.inodes[d.ino]
		if dir == nil || !dir.isDir() || in == nil || d.ino == sharefs.RootIno || in.isDir() && in.names > 0 || uint32(d.typ)<<12 != in.mode&sharefs.ModeType {
			m.f.lose("the name %q in directory %d: what it led to is lost", d.name, uint64(parent))
			m.doom(spaceDentry, key)
			return
		}
		if p, err := m.t.findDent(m.t.db, parent, d.name); err != nil || p.cookie != d.cookie {
			m.move = append(m.move, slotOf{parent, d})
		}
		in.names++
		in.last = slotOf{parent, d}
		m.hold(dir, in, 1)
	})
}

// hold counts a name in a directory, or takes it back.
func (m *mender) hold(dir, in *mended, by int) {
	dir.held += uint64(by)
	if in.isDir() {
		dir.subdirs += uint32(by)
	}
}

func (m *mender) readXattrs() error {
	return m.scan(spaceXattr, func(key, _ []byte) {
		in := m.inodes[keyIno(key)]
		if in == nil || len(key) <= 8 {
			m.doom(spaceXattr, key)
			return
		}
		in.values++
		in.flags |= xattrFlag(string(key[8:]))
	})
}

func (m *mender) readOrphans() error {
	return m.scan(spaceOrphan, func(key, _ []byte) {
		in := m.inodes[keyIno(key)]
		if in == nil || in.names > 0 {
			m.doom(spaceOrphan, key)
			return
		}
		in.orphan = true
	})
}

// endPasts ends what the past says of rows that are lost themselves: nothing says otherwise that they are not what they were before they became what is
// lost, and a view of the present moment, as the past has it, would show them.
func (m *mender) endPasts() error {
	db := m.t.db
	for _, s := range spaceDefs() {
		if !s.Versioned {
			continue
		}
		var failed error
		err := db.ScanEver(s.ID, nil, nil, func(e kv.Ever) bool {
			if e.Deleted {
				return true
			}
			_, ok, err := db.Get(s.ID, e.Key)
			if failed = err; err == nil && !ok {
				m.doom(s.ID, e.Key)
			}
			return err == nil
		})
		if err = cmp.Or(err, failed); err != nil {
			return err
		}
	}
	return nil
}

// cutLoops takes the name of a directory away that hangs on itself.
func (m *mender) cutLoops() error {
	for ino := range m.inodes {
		seen := map[sharefs.Ino]bool{}
		for at := ino; ; {
			in := m.inodes[at]
			if at == sharefs.RootIno || in == nil || in.rooted || !in.isDir() || in.names == 0 {
				break
			}
			if seen[at] {
				m.doom(spaceDentry, dentryKey(in.last.dir, in.last.cookie))
				m.hold(m.inodes[in.last.dir], in, -1)
				in.names = 0
				break
			}
			seen[at] = true
			at = in.last.dir
		}
		for at := range seen {
			m.inodes[at].rooted = true
		}
	}
	return nil
}

// dropRows removes what leads nowhere, and puts names where they are found.
func (m *mender) dropRows() error {
	for rows := range slices.Chunk(m.drop, 256) {
		if err := m.change(func(x *tx) error {
			for _, r := range rows {
				x.b.Delete(r.space, r.key)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	for _, s := range m.move {
		if err := m.change(func(x *tx) error {
			x.b.Delete(spaceDentry, dentryKey(s.dir, s.cookie))
			return nil
		}); err != nil {
			return err
		}
		if err := m.change(func(x *tx) error {
			r, err := x.row(s.ino)
			if err != nil {
				return err
			}
			p, err := m.t.findDent(m.t.db, s.dir, s.name)
			if err != nil || p.found() {
				return err
			}
			x.bind(s.dir, p, s.name, r)
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// change makes one change of the tree, which is at most a few hundred rows.
func (m *mender) change(fn func(x *tx) error) error {
	m.t.mu.Lock()
	defer m.t.mu.Unlock()
	x := m.t.begin()
	if err := fn(x); err != nil {
		return err
	}
	if x.b.Len() == 0 && len(x.rows) == 0 && len(x.slots) == 0 {
		return nil
	}
	return x.commit()
}

// fixRows has each row count what there is.
func (m *mender) fixRows() error {
	for ino, in := range m.inodes {
		in.adopt = in.names == 0 && ino != sharefs.RootIno && !in.orphan && (in.nlink > 0 || in.held > 0)
		orphan := in.names == 0 && ino != sharefs.RootIno && !in.orphan && !in.adopt
		if err := m.change(func(x *tx) error {
			if orphan {
				x.b.Put(spaceOrphan, inoKey(ino), []byte{0})
			}
			r, err := x.row(ino)
			if err != nil {
				return err
			}
			c := *r
			m.correct(&c, in)
			if c.nlink != r.nlink || c.entries != r.entries || c.parent != r.parent || c.xattrs != r.xattrs || c.flags != r.flags {
				x.rows = append(x.rows, &c)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

func (m *mender) correct(r *row, in *mended) {
	r.xattrs, r.flags = in.values, r.flags&^rowXattrs|in.flags
	switch {
	case r.isDir():
		r.entries = in.held
		r.nlink = 2 + in.subdirs
		if in.names > 0 {
			r.parent = in.last.dir
		}
		if r.ino == sharefs.RootIno {
			r.parent = sharefs.RootIno
		} else if in.names == 0 && !in.adopt {
			r.nlink = 0
		}
	case !in.adopt:
		r.nlink = in.names
	}
}

// adoptLost puts what has no name into lost+found.
func (m *mender) adoptLost() error {
	for ino, in := range m.inodes {
		if !in.adopt {
			continue
		}
		r, err := m.t.row(ino)
		if err != nil {
			return err
		}
		m.f.found++
		if err := m.f.adopt(r, nil); err != nil {
			return err
		}
	}
	return nil
}
