package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/internal/config"
	"sharefs/internal/keyring"
)

// A store that is made of what its bucket holds has a file recovering until it is whole, in which whoever makes it keeps what he needs to go on. Nobody else
// opens such a store. When recovery sheets were printed stands in the file recovery, a line each.
const (
	recoveringFile = "recovering"
	sheetsFile     = "recovery"
)

// harmless are what an empty directory may hold.
var harmless = []string{lockFile, "lost+found", ".nobackup", ".stfolder"}

// Recover takes an empty directory, or one that does not exist yet, for a store that has share keys already, or goes on with one that was begun; note is kept
// for the next time. The store is locked, and has a new identity. KindExist: the directory holds something else.
func Recover(dir string, ring keyring.Ring, note []byte) (*Store, error) {
	s := &Store{Dir: dir}
	if err := s.makeDir(); err != nil {
		return nil, err
	}
	var err error
	if s.lock, s.ReadOnly, err = takeLock(filepath.Join(dir, lockFile)); err != nil {
		return nil, err
	}
	if err := s.beginRecovery(ring, note); err != nil {
		s.lock.release()
		return nil, err
	}
	return s, nil
}

func (s *Store) beginRecovery(ring keyring.Ring, note []byte) error {
	if s.ReadOnly {
		return s.fail("make", unix.EROFS)
	}
	_, begun, err := Recovering(s.Dir)
	if err != nil {
		return err
	}
	if !begun {
		entries, err := os.ReadDir(s.Dir)
		if err != nil {
			return s.fail("open", err)
		}
		for _, e := range entries {
			if !slices.Contains(harmless, e.Name()) && !strings.HasSuffix(e.Name(), tempSuffix) {
				return &sharefs.Error{Op: "recover store", Path: s.Dir, Kind: sharefs.KindExist, Detail: "it holds " + quoteName(e.Name()) + ": name an empty or a new directory"}
			}
		}
		if err := writeNew(filepath.Join(s.Dir, recoveringFile), note, 0o600); err != nil {
			return s.fail("make", err)
		}
	} else if err := s.WriteFile(recoveringFile, note); err != nil {
		return err
	}
	path := filepath.Join(s.Dir, shareFile)
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		if err := writeNew(path, ring.Text(), 0o600); err != nil {
			return s.fail("make", err)
		}
	}
	if s.Keys, s.New, err = loadKeys(s.Dir, true); err != nil {
		return err
	}
	if s.Keys.Ring.First() != ring.First() {
		return &sharefs.Error{Op: "recover store", Path: s.Dir, Kind: sharefs.KindExist, Detail: "the recovery of another store was begun there: name an empty or a new directory"}
	}
	return s.TakeKeys(ring) // the bucket may have come to know more since
}

// TakeKeys enters the keys that the bucket of a store that is recovered has.
func (s *Store) TakeKeys(ring keyring.Ring) (err error) {
	if s.Keys.Ring.Has(ring) {
		return nil
	}
	if err := s.KeepKeys(ring); err != nil {
		return err
	}
	s.Keys.Ring, err = readRing(filepath.Join(s.Dir, shareFile))
	return err
}

// Configure writes the configuration of a store that is recovered. It errors with KindInvalid where the text is none.
func (s *Store) Configure(text []byte) (err error) {
	path := filepath.Join(s.Dir, configFile)
	if s.Config, err = config.Parse(path, text); err != nil {
		return err
	}
	return s.WriteFile(configFile, text)
}

// Recovered ends a recovery.
func (s *Store) Recovered() error {
	if err := os.Remove(filepath.Join(s.Dir, recoveringFile)); err != nil {
		return s.fail("make", err)
	}
	return syncDir(s.Dir)
}

// Recovering returns what a recovery that was begun in a directory needs to go on; ok is false where none was.
func Recovering(dir string) (note []byte, ok bool, err error) {
	note, err = os.ReadFile(filepath.Join(dir, recoveringFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, (&Store{Dir: dir}).fail("open", err)
	}
	return note, true, nil
}

// Peek reads the share keys and the configuration of a store that somebody may have. Only its owner may.
func Peek(dir string) (ring keyring.Ring, c config.Config, err error) {
	path := filepath.Join(dir, shareFile)
	var st unix.Stat_t
	refuse := func(kind sharefs.Kind, detail string) error {
		return &sharefs.Error{Op: "read key", Path: dir, Kind: kind, Detail: detail}
	}
	const name = "name a store by its name or its path"
	entries, err := os.ReadDir(dir)
	switch kind := sharefs.KindOf(err); {
	case err == nil && !slices.ContainsFunc(entries, func(e os.DirEntry) bool {
		return e.Name() == shareFile || e.Name() == "meta.db" || e.Name() == "checkpoints"
	}):
		return ring, c, refuse(sharefs.KindNotExist, "it is no store, for it has neither "+shareFile+" nor meta.db: "+name)
	case errors.Is(err, os.ErrNotExist):
		return ring, c, refuse(kind, "there is no such store: "+name)
	case kind == sharefs.KindNotDir:
		return ring, c, refuse(kind, "it is no directory, so it is no store: "+name)
	case kind == sharefs.KindAccess:
		return ring, c, refuse(kind, "only its owner may")
	}
	if err := unix.Stat(path, &st); err == nil && int(st.Uid) != os.Geteuid() {
		return ring, c, &sharefs.Error{Op: "read key", Path: path, Kind: sharefs.KindAccess, Detail: fmt.Sprintf("only its owner may, who is user %d", st.Uid)}
	}
	if ring, err = readRing(path); err != nil {
		return ring, c, keyError(dir, err)
	}
	c, err = config.Load(filepath.Join(dir, configFile))
	return ring, c, err
}

// NoteSheet writes down that a recovery sheet of a store is printed, and returns the notes of those before.
func NoteSheet(dir, who string, now time.Time) (before []string, err error) {
	s := &Store{Dir: dir}
	path := filepath.Join(dir, sheetsFile)
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, s.fail("open", err)
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" {
			before = append(before, line)
		}
	}
	line := now.UTC().Format(time.RFC3339) + " " + strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, who) + "\n"
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, s.fail("write to", err)
	}
	_, err = f.WriteString(line)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, s.fail("write to", err)
	}
	return before, nil
}
