package versions

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"sharefs"
)

// globalRebuilt is a row of the global space from a rebuild until the tree was opened and all below was done: 1 byte, rebuiltWithLoss or 0.
var globalRebuilt = []byte("rebuilt")

const rebuiltWithLoss = 1 // rows are missing, so that what is there may not fit together

// lostAndFound is the directory in the root that takes files whose names are lost.
const lostAndFound = "lost+found"

// rebuilt tells what was done when a tree was opened after a rebuild.
type rebuilt struct {
	t        *Tree
	found    uint64 // files put into lost+found
	lost     []string
	lostMore int
	dir      sharefs.Ino // lost+found; 0: not looked for yet
}

func (f *rebuilt) lose(format string, args ...any) {
	if len(f.lost) >= maxLost {
		f.lostMore++
		return
	}
	f.lost = append(f.lost, fmt.Sprintf(format, args...))
}

// finishRebuild is the last stage of a rebuild, done by the first start behind it, whoever that is: rows are made to fit together where some are
// lost; live files without a row come to lost+found; rows without a live file get one from their newest version. Nothing else may
// use the tree. It changes nothing the second time.
func (t *Tree) finishRebuild() error {
	state, ok, err := t.db.Get(spaceGlobal, globalRebuilt)
	if err != nil || !ok || t.cfg.ReadOnly {
		return failed("open the store", err)
	}
	f := &t.checkpoint.rebuilt
	f.t = t
	if len(state) == 1 && state[0] == rebuiltWithLoss {
		if err := f.mend(); err != nil {
			return failed("mend the tree", err)
		}
	}
	if err := f.takeStrays(); err != nil {
		return failed("take in live files without a name", err)
	}
	if err := f.fillMissing(); err != nil {
		return failed("bring back live files", err)
	}
	if err := t.live.sync(); err != nil {
		return failed("sync live files", err)
	}
	for _, s := range f.lost {
		t.log.Error("lost before the rebuild", "what", s)
	}
	gone, changed, err := t.past.doubted()
	if err != nil {
		return failed("look at what was being adopted", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.begin()
	x.b.Delete(spaceGlobal, globalRebuilt)
	settleAdopting(x, gone, changed)
	x.b.Put(spaceGlobal, globalPins, pinsToMake)
	return x.commit()
}

// takeStrays puts live files that no row tells of into lost+found. Empty ones were prepared for files that were never made.
func (f *rebuilt) takeStrays() error {
	t := f.t
	return t.live.each(func(ino sharefs.Ino) error {
		_, ok, err := t.db.Get(spaceInode, inoKey(ino))
		if err != nil || ok {
			return err
		}
		st, err := t.live.stat(ino)
		if err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT == unix.S_IFREG && (st.Size == 0 || st.Mode&unix.S_ISVTX != 0) {
			return t.live.remove(ino)
		}
		atime, mtime, ctime := timesOf(&st)
		f.found++
		return f.adopt(&row{
			ino: ino, mode: sharefs.ModeRegular | 0o600, uid: uint32(os.Geteuid()), gid: uint32(os.Getegid()), size: uint64(st.Size), blocks: uint64(st.Blocks),
			atime: atime, mtime: mtime, ctime: ctime, btime: mtime, id: t.ids.next(),
		}, func(x *tx) { x.b.Put(spaceMark, inoKey(ino), markValue(false)) })
	})
}

// adopt gives an inode without a name one in lost+found, its number.
func (f *rebuilt) adopt(r *row, more func(*tx)) error {
	t := f.t
	if f.dir == 0 {
		if err := f.makeDir(); err != nil {
			return err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.begin()
	dir, err := x.editDir(f.dir)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("#%d", uint64(r.ino))
	p, err := t.dent(f.dir, name)
	if err != nil {
		return err
	}
	if p.found() {
		return nil
	}
	c := *r
	c.nlink = 1
	if c.isDir() {
		c.parent = f.dir
		c.nlink = max(2, r.nlink)
		dir.nlink++
	}
	dir.entries++
	x.rows = append(x.rows, &c)
	x.bind(f.dir, p, name, &c)
	x.b.Delete(spaceOrphan, inoKey(c.ino))
	if more != nil {
		more(x)
	}
	return x.commit()
}

// makeDir finds or makes lost+found.
func (f *rebuilt) makeDir() error {
	t := f.t
	for i := 0; ; i++ {
		name := lostAndFound
		if i > 0 {
			name = fmt.Sprintf("%s.%d", lostAndFound, i)
		}
		p, err := t.dent(sharefs.RootIno, name)
		if err != nil {
			return err
		}
		if p.found() {
			if r, err := t.row(p.ino); err == nil && r.isDir() {
				f.dir = p.ino
				return nil
			}
			continue
		}
		ino, err := t.stock.number()
		if err != nil {
			return err
		}
		r, err := t.makeNamed(sharefs.RootIno, name, &newInode{
			ino: ino, mode: sharefs.ModeDir | 0o700, who: Caller{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())},
		})
		if err != nil {
			return err
		}
		t.refs.sub(r.ino, 1)
		f.dir = ino
		return nil
	}
}
