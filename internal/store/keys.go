package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/internal/keyring"
	"sharefs/peers/identity"
)

// Keys are the secrets of a store.
type Keys struct {
	Identity identity.Key // signs what this host writes; locked until [Store.Unlock] where it is sealed
	Ring     keyring.Ring // share keys: chunk ids and the seals of packs hang on them; as of the opening
}

// Peer is the public half of the identity.
func (k *Keys) Peer() sharefs.PeerID { return k.Identity.ID }

// tempSuffix marks a file that is being written; one left behind by a crash is written over.
const tempSuffix = ".new"

// loadKeys reads both keys. Where both are missing and create is set it makes them.
func loadKeys(dir string, create bool) (k Keys, made bool, err error) {
	var errI, errS error
	k.Identity, errI = readIdentity(filepath.Join(dir, identityFile))
	k.Ring, errS = readRing(filepath.Join(dir, shareFile))
	missing := func(err error) bool { return errors.Is(err, os.ErrNotExist) }
	if _, err := os.Lstat(filepath.Join(dir, shareCopy)); err == nil {
		create = false // they were there
	}
	if create && (missing(errI) || missing(errS)) {
		// A crash may have come between the two, so each is made where it is missing. Nothing hangs on them yet.
		if missing(errI) {
			k.Identity = identity.New()
			errI = writeNew(filepath.Join(dir, identityFile), []byte(k.Identity.Text()), 0o600)
		}
		if missing(errS) {
			k.Ring = keyring.Make()
			errS = writeNew(filepath.Join(dir, shareFile), k.Ring.Text(), 0o600)
		}
		made = true
	}
	var bad *sharefs.Error
	if errors.As(errS, &bad) && bad.Kind == sharefs.KindCorrupt {
		if _, err := readRing(filepath.Join(dir, shareCopy)); err == nil {
			bad.Detail = strings.TrimPrefix(bad.Detail+"; ", "; ") + shareCopy + " beside it is whole: copy that over it"
		}
	}
	for _, err := range []error{errI, errS} {
		if err != nil {
			return Keys{}, false, keyError(dir, err)
		}
	}
	return k, made, nil
}

func keyError(dir string, err error) error {
	var e *sharefs.Error
	if errors.As(err, &e) {
		return err
	}
	var p *os.PathError
	if errors.Is(err, os.ErrNotExist) && errors.As(err, &p) {
		detail := "it is missing, and without it the versions in the store cannot be read: put it back from " + shareCopy + ", if that is there, or from a backup"
		if filepath.Base(p.Path) == identityFile {
			detail = "it is missing, and without it this host is nobody whom its peers know: put it back from a backup"
		}
		return &sharefs.Error{Op: "read key", Path: p.Path, Kind: sharefs.KindNotExist, Detail: detail}
	}
	return (&Store{Dir: dir}).fail("make", err)
}

// readSecret reads at most so many bytes of a file that nobody but its owner may read.
func readSecret(op, path string, most int64) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	switch {
	case !info.Mode().IsRegular():
		return "", &sharefs.Error{Op: op, Path: path, Kind: sharefs.KindInvalid, Detail: "it is no regular file"}
	case info.Mode().Perm()&0o077 != 0:
		return "", &sharefs.Error{Op: op, Path: path, Kind: sharefs.KindAccess,
			Detail: fmt.Sprintf("others may read it (mode %04o): chmod 600 %s", info.Mode().Perm(), path)}
	}
	text, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil || len(text) == 0 {
		return "", &sharefs.Error{Op: op, Path: path, Kind: sharefs.KindCorrupt, Detail: "it is empty or cannot be read"}
	}
	return string(text), nil
}

// maxSecret is more than a passphrase or an identity takes, in bytes.
const maxSecret = 2048

func readRing(path string) (keyring.Ring, error) {
	text, err := readSecret("read key", path, keyring.MaxFile+1)
	if err != nil {
		return keyring.Ring{}, err
	}
	r, err := keyring.Parse([]byte(text))
	var e *sharefs.Error
	if errors.As(err, &e) {
		e.Op, e.Path = "read key", path
	}
	return r, err
}

func readIdentity(path string) (identity.Key, error) {
	text, err := readSecret("read key", path, maxSecret)
	if err != nil {
		return identity.Key{}, err
	}
	k, err := identity.Parse(text)
	var e *sharefs.Error
	if errors.As(err, &e) {
		e.Op, e.Path = "read key", path
	}
	return k, err
}

// Unlock opens the identity with the passphrase that a file holds. An identity that was not sealed is sealed by it from now on; without
// a file one that is sealed is an error.
func (s *Store) Unlock(passphraseFile string) (sealedNow bool, err error) {
	k, path := &s.Keys.Identity, filepath.Join(s.Dir, identityFile)
	if passphraseFile == "" {
		if k.Locked() {
			return false, &sharefs.Error{Op: "read key", Path: path, Kind: sharefs.KindAccess,
				Detail: "it is sealed by a passphrase: mount with -o passphrase=FILE, a file that holds it"}
		}
		return false, nil
	}
	text, err := readSecret("read passphrase", passphraseFile, maxSecret)
	var pass []byte
	if err == nil {
		pass, err = identity.Passphrase([]byte(text))
	}
	if err != nil {
		return false, s.named(err, "read passphrase", passphraseFile)
	}
	if k.Sealed() {
		return false, s.named(k.Unlock(pass), "read key", path)
	}
	if s.ReadOnly {
		return false, &sharefs.Error{Op: "seal", Path: path, Kind: sharefs.KindReadOnly, Detail: "it is not sealed yet, and the disk below is read-only"}
	}
	if err := k.Seal(pass, identity.DefaultCost); err != nil {
		return false, s.named(err, "seal", path)
	}
	return true, s.named(replace(path, []byte(k.Text()), 0o600), "seal", path)
}

// named gives an error the file that it is about.
func (s *Store) named(err error, op, path string) error {
	if err == nil {
		return nil
	}
	var e *sharefs.Error
	if errors.As(err, &e) {
		if e.Path == "" {
			return &sharefs.Error{Op: op, Path: path, Kind: e.Kind, Detail: e.Detail, Err: e.Err}
		}
		return err
	}
	return &sharefs.Error{Op: op, Path: path, Kind: sharefs.KindOf(err), Err: cause(err)}
}

// KeepKeys writes share.key anew with more keys, which survive the loss of power when it returns: first a copy of it, [shareCopy], so that at no moment a disk
// that loses what it wrote last takes a key with it. No key that either of them holds is left out. Nobody else may write them at the same time.
// It errors with KindInvalid if the keys are those of another store.
func (s *Store) KeepKeys(ring keyring.Ring) error {
	path, second := filepath.Join(s.Dir, shareFile), filepath.Join(s.Dir, shareCopy)
	have, err := readRing(path)
	if err != nil {
		return keyError(s.Dir, err)
	}
	if have.First() != ring.First() {
		return &sharefs.Error{Op: "write key", Path: path, Kind: sharefs.KindInvalid, Detail: "it is of another store"}
	}
	if ring, err = ring.Add(have.Keys()...); err != nil {
		return s.named(err, "write key", path)
	}
	if also, err := readRing(second); err == nil && also.First() == ring.First() {
		if ring, err = ring.Add(also.Keys()...); err != nil {
			return s.named(err, "write key", second)
		}
	}
	for _, p := range []string{second, path} {
		if err := replace(p, ring.Text(), 0o600); err != nil {
			return s.named(err, "write key", p)
		}
	}
	return nil
}

// writeNew writes a whole file, or none: it is on disk, directory entry included, when it returns. An existing file stays.
func writeNew(path string, data []byte, mode os.FileMode) error {
	return writeFile(path, data, mode, func(temp string) error {
		err := unix.Renameat2(unix.AT_FDCWD, temp, unix.AT_FDCWD, path, unix.RENAME_NOREPLACE)
		switch {
		case errors.Is(err, unix.EEXIST):
			os.Remove(temp)
			return nil
		case errors.Is(err, unix.EINVAL): // a filesystem that cannot say NOREPLACE
			return os.Rename(temp, path)
		}
		return err
	})
}

// replace is writeNew for a file that may exist: it is the old one or the new one, whatever happens.
func replace(path string, data []byte, mode os.FileMode) error {
	return writeFile(path, data, mode, func(temp string) error { return os.Rename(temp, path) })
}

func writeFile(path string, data []byte, mode os.FileMode, place func(temp string) error) error {
	temp := path + tempSuffix
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = place(temp)
	}
	if err != nil {
		os.Remove(temp)
		return err
	}
	return syncDir(filepath.Dir(path))
}

// WriteFile replaces a file of the store by one of mode 0600: after a crash it is the old one or the new one.
func (s *Store) WriteFile(name string, data []byte) error {
	path := filepath.Join(s.Dir, name)
	return s.named(replace(path, data, 0o600), "write", path)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
