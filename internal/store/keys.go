package store

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"sharefs"
)

// Keys are the secrets of a store.
type Keys struct {
	Identity ed25519.PrivateKey // signs what this host writes
	Share    [32]byte           // keys chunk ids and seals packs
}

// Peer is the public half of the identity.
func (k *Keys) Peer() (id sharefs.PeerID) {
	copy(id[:], k.Identity.Public().(ed25519.PublicKey))
	return id
}

// Prefixes of the key files' one line: they say what the secret is for and which form it has.
const (
	identityPrefix = "sharefs-identity-1 "
	sharePrefix    = "sharefs-share-1 "
)

// tempSuffix marks a file that is being written; one left behind by a crash is written over.
const tempSuffix = ".new"

// loadKeys reads both keys. Where both are missing and create is set it makes them.
func loadKeys(dir string, create bool) (k Keys, made bool, err error) {
	seed, errI := readKey(filepath.Join(dir, identityFile), identityPrefix)
	share, errS := readKey(filepath.Join(dir, shareFile), sharePrefix)
	missing := func(err error) bool { return errors.Is(err, os.ErrNotExist) }
	if create && (missing(errI) || missing(errS)) {
		// A crash may have come between the two, so each is made where it is missing. Nothing hangs on them yet.
		if missing(errI) {
			seed, errI = makeKey(filepath.Join(dir, identityFile), identityPrefix)
		}
		if missing(errS) {
			share, errS = makeKey(filepath.Join(dir, shareFile), sharePrefix)
		}
		made = true
	}
	for _, err := range []error{errI, errS} {
		if err != nil {
			return Keys{}, false, keyError(dir, err)
		}
	}
	k.Identity = ed25519.NewKeyFromSeed(seed[:])
	k.Share = share
	return k, made, nil
}

func keyError(dir string, err error) error {
	var e *sharefs.Error
	if errors.As(err, &e) {
		return err
	}
	var p *os.PathError
	if errors.Is(err, os.ErrNotExist) && errors.As(err, &p) {
		return &sharefs.Error{Op: "read key", Path: p.Path, Kind: sharefs.KindNotExist,
			Detail: "it is missing, and without it the versions in the store cannot be read: put it back from a backup"}
	}
	return (&Store{Dir: dir}).fail("make", err)
}

func readKey(path, prefix string) (key [32]byte, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return key, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return key, err
	}
	bad := func(detail string) error {
		return &sharefs.Error{Op: "read key", Path: path, Kind: sharefs.KindCorrupt, Detail: detail}
	}
	if info.Mode().Perm()&0o077 != 0 {
		return key, &sharefs.Error{Op: "read key", Path: path, Kind: sharefs.KindAccess,
			Detail: fmt.Sprintf("others may read it (mode %04o): chmod 600 %s", info.Mode().Perm(), path)}
	}
	buf := make([]byte, 256)
	n, err := f.Read(buf)
	if err != nil && n == 0 {
		return key, bad("it is empty or cannot be read")
	}
	return parseKey(string(buf[:n]), prefix, bad)
}

func parseKey(text, prefix string, bad func(string) error) (key [32]byte, err error) {
	body, ok := strings.CutPrefix(strings.TrimRight(text, "\r\n"), prefix)
	if !ok {
		return key, bad("it does not begin with " + strings.TrimSpace(prefix))
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(body)
	if err != nil || len(raw) != len(key) || strings.ContainsAny(body, "\r\n") { // which the decoder skips
		return key, bad("it is not 32 bytes in base64")
	}
	return [32]byte(raw), nil
}

func makeKey(path, prefix string) (key [32]byte, err error) {
	rand.Read(key[:])
	return key, writeNew(path, []byte(prefix+base64.StdEncoding.EncodeToString(key[:])+"\n"), 0o600)
}

// writeNew writes a whole file, or none: it is on disk, directory entry included, when it returns. An existing file stays.
func writeNew(path string, data []byte, mode os.FileMode) error {
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
		err = unix.Renameat2(unix.AT_FDCWD, temp, unix.AT_FDCWD, path, unix.RENAME_NOREPLACE)
		switch {
		case errors.Is(err, unix.EEXIST):
			err = nil
			os.Remove(temp)
		case errors.Is(err, unix.EINVAL): // a filesystem that cannot say NOREPLACE
			err = os.Rename(temp, path)
		}
	}
	if err != nil {
		os.Remove(temp)
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
