package versions

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"sharefs"
)

// confirmOrphan looks again whether what has no links waits to be removed, and nothing else does.
func (c *fsck) confirmOrphan(ino sharefs.Ino) {
	c.locked(func() error {
		_, waits, err := c.t.db.Get(spaceOrphan, inoKey(ino))
		if err != nil {
			return err
		}
		r, err := c.t.row(ino)
		switch {
		case errors.Is(err, sharefs.KindStale):
			if waits {
				c.wrong(FoundTree, SeverityFault, ino, "it waits to be removed and does not exist")
			}
		case err == nil && waits != (r.nlink == 0):
			c.wrong(FoundTree, SeverityFault, ino, "it has %d links, and it waits to be removed: %t", r.nlink, waits)
		}
		return err
	})
}

// confirmBacking looks again at the backing file of a regular inode while nobody can begin to change it.
func (c *fsck) confirmBacking(ino sharefs.Ino) error {
	err := c.locked(func() error {
		r, err := c.t.row(ino)
		if err != nil {
			return err
		}
		if r.nlink == 0 || !r.isRegular() {
			return nil
		}
		st, err := c.t.live.stat(ino)
		switch {
		case c.t.past.standing(ino) != nil: // checkAdopting tells
		case r.isAbsent(): // whoever opens it makes what is missing, from packs where it was kept again while it went
			if v, err := newestVersion(c.t.db, ino, noLimit); err == nil && (v == nil || v.place != placeKept || v.size != r.size) {
				c.badBacking(ino, "its content is said to be elsewhere, and its newest version is another one")
			}
		case err == nil && st.Mode&unix.S_ISVTX != 0 && r.size > 0 && !c.t.absentNow(ino):
			c.badBacking(ino, "its backing file is that of a file whose content is elsewhere")
		case errors.Is(err, unix.ENOENT):
			if r.size > 0 {
				c.badBacking(ino, "its backing file is missing")
			}
		case err != nil:
			c.badBacking(ino, "its backing file cannot be looked at: "+err.Error())
		case st.Mode&unix.S_IFMT != unix.S_IFREG:
			c.badBacking(ino, "its backing file is no file")
		case uint64(st.Size) != r.size && !c.t.hot(ino):
			c.badBacking(ino, "its backing file has "+strconv.FormatInt(st.Size, 10)+" bytes, its row says "+strconv.FormatUint(r.size, 10))
		case c.tookBack(ino, &st):
			c.badBacking(ino, "its backing file holds an earlier version: the disk lost what was put in its place")
		}
		return nil
	})
	if errors.Is(err, sharefs.KindStale) {
		return nil
	}
	return err
}

// tookBack reports whether a file at rest holds an earlier version than its newest one, as a disk leaves it that loses a rename which counted as safe. Each version is looked for, so that is
// done in a scrub alone.
func (c *fsck) tookBack(ino sharefs.Ino, st *unix.Stat_t) bool {
	if c.o.Mode != FsckScrub || c.t.hot(ino) {
		return false
	}
	v, err := newestVersion(c.t.db, ino, noLimit)
	if err != nil || v == nil || v.place != placeKept {
		return false
	}
	earlier, err := isEarlier(c.t.db, v, stampOf(st))
	return err == nil && earlier
}

func (c *fsck) badBacking(ino sharefs.Ino, detail string) {
	f := Finding{Kind: FoundLive, Severity: SeverityDamage, Ino: ino, Where: "live/" + c.t.live.name(ino), Detail: detail, inos: map[sharefs.Ino]bool{ino: true}}
	c.found(f)
}

// checkLive does the second stage, as far as it goes beyond the inodes that there are.
func (c *fsck) checkLive() error {
	c.stage("live files", "directories", liveSubdirs)
	var marks []sharefs.Ino
	if err := c.t.db.Scan(spaceMark, nil, nil, func(key, _ []byte) bool {
		ino := keyIno(key)
		if r, err := c.t.row(ino); err != nil || !r.isRegular() {
			marks = append(marks, ino)
		}
		return len(marks) < MaxFindings
	}); err != nil {
		return err
	}
	for _, ino := range marks {
		if err := c.confirmMark(ino); err != nil {
			return err
		}
	}
	c.checkAdopting()
	for i := range liveSubdirs {
		if err := c.goOn(); err != nil {
			return err
		}
		c.at("live files", "directories", uint64(i), liveSubdirs)
		if err := c.findStrays(string(appendHex2(nil, uint8(i)))); err != nil {
			return err
		}
	}
	return nil
}

// checkAdopting names the files that hold parts of two versions and cannot be opened. Of those into which another host's content is being put just now there is nothing to be said.
func (c *fsck) checkAdopting() {
	h := &c.t.past
	h.mu.Lock()
	defer h.mu.Unlock()
	for ino, a := range h.adopts {
		f := Finding{Kind: FoundLive, Severity: SeverityDamage, Ino: ino, Where: "live/" + c.t.live.name(ino), inos: map[sharefs.Ino]bool{ino: true}}
		switch {
		case c.t.cfg.ReadOnly:
			f.Severity, f.Detail = SeverityNote, "a daemon was ended while it put into it what another host wrote: it cannot be opened"
			f.Repair = "the next mount finishes that"
		case a.failed != nil:
			f.Detail = "it holds parts of two versions and cannot be opened, for what another host wrote could not be put into it whole, nor taken out again: " + a.failed.Error()
			f.Repair = "opening it tries again; another host's newer content or removing the file ends it, and sharefs log FILE names the version before, which can be read"
		default:
			continue
		}
		c.found(f)
	}
}

func (c *fsck) confirmMark(ino sharefs.Ino) error {
	return c.locked(func() error {
		_, ok, err := c.t.db.Get(spaceMark, inoKey(ino))
		if err != nil || !ok {
			return err
		}
		if r, err := c.t.row(ino); err != nil || !r.isRegular() {
			c.wrong(FoundTree, SeverityFault, ino, "it is marked as open for writing and is no file")
		}
		return nil
	})
}

// findStrays looks for backing files without an inode in one directory.
func (c *fsck) findStrays(sub string) error {
	dir, err := os.Open(filepath.Join(c.t.live.path, sub))
	if errors.Is(err, os.ErrNotExist) {
		c.found(Finding{Kind: FoundLive, Severity: SeverityDamage, Where: "live/" + sub, Detail: "the directory is missing"})
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	return eachName(dir, func(name string) error {
		n, err := strconv.ParseUint(name, 16, 64)
		ino := sharefs.Ino(n)
		if err != nil || c.t.live.name(ino) != sub+"/"+name {
			c.unknown("live/" + sub + "/" + name)
			return nil
		}
		if r, err := c.t.row(ino); err == nil && r.isRegular() || c.t.stock.owns(ino) {
			return nil
		}
		return c.confirmStray(ino)
	})
}

// confirmStray looks again whether a backing file belongs to nobody.
func (c *fsck) confirmStray(ino sharefs.Ino) error {
	return c.locked(func() error {
		if r, err := c.t.row(ino); err == nil && r.isRegular() || err != nil && !errors.Is(err, sharefs.KindStale) || c.t.stock.owns(ino) {
			return nil
		}
		if _, err := c.t.live.stat(ino); err == nil {
			c.found(Finding{Kind: FoundLive, Severity: SeverityFault, Ino: ino, Where: "live/" + c.t.live.name(ino),
				Detail: "there is a backing file and no file that it belongs to", Repair: "look at it, and remove it if it is of no use: fsck does not"})
		}
		return nil
	})
}

// unknown notes a file that is not the store's.
func (c *fsck) unknown(path string) {
	c.found(Finding{Kind: FoundUnknown, Severity: SeverityNote, Where: path, Detail: "it is no file of the store's", Repair: "it is left alone"})
}
