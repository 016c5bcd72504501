package versions

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"sharefs"
)

// ownFiles are the names in the store's directory that this package and its parts keep there.
var ownFiles = []string{"meta.db", "journal", "live", "packs", "aside", "checkpoints", "rebuild", "lost", "tier", "tier.new", cacheDir, reserveFile, quarantineDir}

// checkFiles does the sixth stage.
func (c *fsck) checkFiles() error {
	c.stage("files of the store", "files", 0)
	top, err := os.ReadDir(c.t.cfg.Dir)
	if err != nil {
		return err
	}
	for _, e := range top {
		if c.o.Files != nil && !slices.Contains(ownFiles, e.Name()) && !slices.Contains(c.o.Files, e.Name()) {
			c.unknown(e.Name())
		}
	}
	strays, err := c.t.past.packs.Strays()
	if err != nil {
		return err
	}
	for _, name := range strays {
		if strings.HasSuffix(name, ".damaged") {
			c.found(Finding{Kind: FoundPack, Severity: SeverityNote, Where: "packs/" + name, Detail: "a pack that a start could make nothing of"})
			continue
		}
		c.unknown("packs/" + name)
	}
	journal, err := os.ReadDir(filepath.Join(c.t.cfg.Dir, "journal"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, e := range journal {
		if filepath.Ext(e.Name()) != ".wal" {
			c.unknown("journal/" + e.Name())
		}
	}
	return c.checkAside()
}

// checkAside looks for what is set aside and nobody needs.
func (c *fsck) checkAside() error {
	dir, err := os.Open(filepath.Join(c.t.cfg.Dir, "aside"))
	if errors.Is(err, os.ErrNotExist) {
		return nil // whoever needs what was in it was told of
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	return eachName(dir, func(name string) error {
		if _, ok := parseReference(name); ok {
			return nil
		}
		base := name
		for _, suffix := range []string{asidePart, asideNew, asideHeld, asideRef} {
			base = strings.TrimSuffix(base, suffix)
		}
		id, ok := parseAside(base)
		switch {
		case !ok:
			c.unknown("aside/" + name)
		case base == name:
			return c.confirmAside(id)
		}
		return nil
	})
}

// eachName calls fn for each name in a directory, a bounded number of them in memory at a time.
func eachName(dir *os.File, fn func(name string) error) error {
	for {
		names, err := dir.Readdirnames(1024)
		for _, name := range names {
			if err := fn(name); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// confirmAside looks whether an aside file is needed while neither the capture nor a writer is at work on it.
func (c *fsck) confirmAside(id versionID) error {
	h := &c.t.past
	needed := func() bool {
		v, err := loadVersion(c.t.db, id.ino, id.own)
		// A move that was given up leaves a second name to the live file.
		return err == nil && (v.place == placeAside || v.place == placeLive) || err != nil && !errors.Is(err, sharefs.KindNotExist)
	}
	if needed() || c.t.cfg.ReadOnly {
		return nil
	}
	h.capturing.Lock()
	defer h.capturing.Unlock()
	if slices.Contains(h.untidy, id) {
		return nil
	}
	f := c.t.files.pin(id.ino)
	defer c.t.files.unpin(f)
	if !f.content.TryLock() {
		return nil // somebody is about to change the file: the next check will see
	}
	defer f.content.Unlock()
	var st unix.Stat_t
	if needed() || h.aside.stat(id, &st) != nil {
		return nil
	}
	c.found(Finding{Kind: FoundAside, Severity: SeverityNote, Ino: id.ino, Where: "aside/" + asideName(id.ino, id.own),
		Detail: "nobody needs it", Repair: "the next start removes it"})
	return nil
}
