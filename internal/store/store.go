// Package store keeps the directory that a share lives in: its layout, its lock, its keys and its configuration.
//
//	share.toml      configuration (package config)
//	identity.key    Ed25519 key of this host's share, mode 0600, one line; it may be sealed by a passphrase (package identity)
//	share.key       secrets of the share, mode 0600 (package keyring); chunk ids and pack keys hang on them
//	share.key.copy  a second one, as soon as there are several
//	peers.json      whom this store is paired with, and what they may (package book)
//	peers/          what this host and its peers say about files (package replica); there once files travel
//	lock            flock(2) of the daemon that has the store; its text says who that is
//	daemon.log      what the daemon has to tell
//	meta.db         names, inodes, versions (package kv)
//	journal/        write-ahead log (package kv)
//	live/           content of the live files (package versions)
//	packs/          sealed versions (package pack)
//	aside/          contents that were changed again before they were captured (package versions)
//	quarantine/     bytes that were found damaged, for a person to look at (package versions)
//	checkpoints/    what meta.db can be made anew from (package versions)
//	rebuild/        while it is made anew: the new one
//	reserve         room on the disk that is kept back for making room when it is full (package versions)
//	lost/           what a rebuild took out of its place; nothing reads it
//	tier            which root of its bucket the store wrote last (package tier)
//	recovering      while the store is made anew of what its bucket holds: what is needed to go on
//	recovery        when recovery sheets were printed
//
// A directory that holds anything else is not taken for a store: somebody's files are never mixed with ours.
package store

import (
	"errors"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"

	"sharefs"
	"sharefs/internal/config"
)

// Names of what the store itself reads and writes.
const (
	configFile   = "share.toml"
	identityFile = "identity.key"
	shareFile    = "share.key"
	shareCopy    = "share.key.copy"
	lockFile     = "lock"
	LogFile      = "daemon.log"
	PeersFile    = "peers.json"
	TravelDir    = "peers"
	VaultsDir    = "vaults" // what is kept for peers
	GivenDir     = "given"  // which root of each peer that keeps a backup the store wrote last
)

// layout lists all that a store's directory may hold. lost+found and .nobackup are others' marks that do no harm.
var layout = map[string]bool{
	configFile: true, identityFile: true, shareFile: true, shareCopy: true, lockFile: true, LogFile: true, LogFile + ".1": true, PeersFile: true, TravelDir: true, VaultsDir: true, GivenDir: true,
	"meta.db": true, "journal": true, "live": true, "packs": true, "aside": true, "checkpoints": true, "rebuild": true, "lost": true, "quarantine": true,
	"tier": true, "tier.new": true, "cache": true, "reserve": true, recoveringFile: true, sheetsFile: true,
	"lost+found": true, ".nobackup": true, ".stfolder": true,
}

// Names lists all that a store's directory may hold.
func Names() []string { return slices.Sorted(maps.Keys(layout)) }

// Store is an open store directory. It stays locked until [Store.Close].
type Store struct {
	Dir      string
	Config   config.Config
	Keys     Keys
	ReadOnly bool // the disk below cannot be written
	New      bool // it was made by this Open

	lock *lock
}

// DefaultName is the store of a mount that names none.
const DefaultName = "default"

// Resolve turns what a user says of a store into its directory: a path (it has a slash, or is "." or "..") as it stands, a bare name
// as a directory below $XDG_DATA_HOME/sharefs, by default ~/.local/share/sharefs.
func Resolve(name string) (string, error) {
	if name == "" {
		name = DefaultName
	}
	if strings.ContainsRune(name, '/') || name == "." || name == ".." {
		dir, err := filepath.Abs(name)
		if err != nil {
			return "", &sharefs.Error{Op: "store", Path: name, Kind: sharefs.KindOf(err), Err: err}
		}
		return dir, nil
	}
	if err := checkName(name); err != nil {
		return "", err
	}
	base, err := dataHome()
	if err != nil {
		return "", err
	}
	return filepath.Join(base, "sharefs", name), nil
}

// Looks reports whether a directory seems to be a store, whole or not.
func Looks(dir string) bool {
	return slices.ContainsFunc([]string{identityFile, "meta.db", "checkpoints", recoveringFile}, func(name string) bool {
		_, err := os.Lstat(filepath.Join(dir, name))
		return err == nil
	})
}

func checkName(name string) error {
	bad := strings.HasPrefix(name, "-") || len(name) > 200
	for _, r := range name {
		bad = bad || r < ' ' || r == 0x7f
	}
	if bad {
		return &sharefs.Error{Op: "store", Path: strings.ToValidUTF8(name, "?"), Kind: sharefs.KindInvalid,
			Detail: "a store's name does not begin with - and has no control characters; a path has a slash"}
	}
	return nil
}

// dataHome is $XDG_DATA_HOME or its default (XDG Base Directory Specification 0.8); a relative value is ignored as it demands.
func dataHome() (string, error) {
	if d := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(d) {
		return d, nil
	}
	home := os.Getenv("HOME")
	if home == "" { // mount(8) from fstab may run without an environment
		u, err := user.Current()
		if err != nil {
			return "", &sharefs.Error{Op: "store", Kind: sharefs.KindNotExist, Detail: "no home directory is known: name the store by its path", Err: err}
		}
		home = u.HomeDir
	}
	if !filepath.IsAbs(home) {
		return "", &sharefs.Error{Op: "store", Kind: sharefs.KindNotExist, Detail: "no home directory is known: name the store by its path"}
	}
	return filepath.Join(home, ".local", "share"), nil
}

// Open opens the store in dir, makes it first where there is none, and takes its lock. On a disk that cannot be written it
// opens what is there with ReadOnly set. A store that another daemon has gives a [*LockedError].
func Open(dir string) (*Store, error) {
	s := &Store{Dir: dir}
	if err := s.makeDir(); err != nil {
		return nil, err
	}
	var err error
	if s.lock, s.ReadOnly, err = takeLock(filepath.Join(dir, lockFile)); err != nil {
		return nil, err
	}
	if err := s.load(); err != nil {
		s.lock.release()
		return nil, err
	}
	return s, nil
}

// makeDir makes the directory, or sees that what it holds is a store or nothing.
func (s *Store) makeDir() error {
	entries, err := os.ReadDir(s.Dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		if err := makeAll(s.Dir); err != nil {
			return s.fail("make", err)
		}
		return nil
	case err != nil:
		return s.fail("open", err)
	}
	for _, e := range entries {
		if !layout[e.Name()] && !strings.HasSuffix(e.Name(), tempSuffix) {
			return &sharefs.Error{Op: "open store", Path: s.Dir, Kind: sharefs.KindInvalid,
				Detail: "it holds " + quoteName(e.Name()) + ", which is not part of a store: name an empty or a new directory"}
		}
	}
	return nil
}

// makeAll is os.MkdirAll with the new directories on disk when it returns: an fsync inside a store is worth nothing if the store
// itself is not there after a power loss.
func makeAll(dir string) error {
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, os.ErrNotExist) && filepath.Dir(dir) != dir {
		if err := makeAll(filepath.Dir(dir)); err != nil {
			return err
		}
		err = os.Mkdir(dir, 0o700)
	}
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

// load reads, or makes, keys and configuration, under the lock.
func (s *Store) load() error {
	if _, begun, err := Recovering(s.Dir); err != nil || begun {
		if err == nil {
			err = &sharefs.Error{Op: "open store", Path: s.Dir, Kind: sharefs.KindBusy,
				Detail: "it is being made anew from its bucket, and that is not finished: sharefs recover --store DIR goes on with it"}
		}
		return err
	}
	used := false
	for _, name := range []string{"meta.db", "checkpoints"} { // the first may be lost
		_, err := os.Lstat(filepath.Join(s.Dir, name))
		used = used || err == nil
	}
	var err error
	if s.Keys, s.New, err = loadKeys(s.Dir, !used && !s.ReadOnly); err != nil {
		return err
	}
	if s.New {
		if err := writeNew(filepath.Join(s.Dir, configFile), []byte(config.File), 0o600); err != nil {
			return s.fail("make", err)
		}
	}
	s.Config, err = config.Load(filepath.Join(s.Dir, configFile))
	return err
}

func (s *Store) fail(verb string, err error) error {
	var detail string
	switch kind := sharefs.KindOf(err); kind {
	case sharefs.KindNoSpace:
		detail = "the disk below it is full"
	case sharefs.KindReadOnly:
		detail = "there is no store yet and the disk below is read-only"
	case sharefs.KindAccess, sharefs.KindPermission:
		detail = "you may not: give another place with --store, or become its owner"
	}
	return &sharefs.Error{Op: verb + " store", Path: s.Dir, Kind: sharefs.KindOf(err), Detail: detail, Err: cause(err)}
}

// cause takes the operation and path off an error of package os, where the message names them already.
func cause(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// Close gives the lock back. All parts that live in the store must be closed before.
func (s *Store) Close() error { return s.lock.release() }

// quoteName makes a file name fit for a message.
func quoteName(name string) string {
	return `"` + strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '"' {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(name, "?")) + `"`
}
