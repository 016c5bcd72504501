package versions

import (
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/zeebo/blake3"

	"sharefs"
	"sharefs/internal/keyring"
	"sharefs/versions/pack"
	"sharefs/versions/tier"
)

// TierSource returns the tree as what keeps it in a bucket sees it. What is listed is all that [Rebuild] needs, beside the keys.
func (t *Tree) TierSource() tier.Source { return tierSource{t} }

// TierKey returns the key that authenticates what a bucket says of a share; the share key does not follow from it.
func TierKey(share [32]byte) (key [32]byte) {
	blake3.DeriveKey("sharefs 2026-11 root of a bucket", share[:], key[:])
	return key
}

type tierSource struct{ t *Tree }

// sealForTier is when the pack that grows is sealed to be uploaded, in bytes: a shorter one is uploaded as it is, again each time that it has grown.
const sealForTier = 4 << 20

func (s tierSource) State() string {
	t := s.t
	c := t.CheckpointStats()
	p := t.past.packs.Stats()
	return fmt.Sprint(t.db.Synced(), t.lastSeq.Load(), p.Records, p.Packs, c.Generation, s.Removals())
}

func (s tierSource) Removals() uint64 { return s.t.past.gc.settled.Load() }

// Files lists the checkpoint before the packs, for the chunks of a version are in packs before its row is written.
func (s tierSource) Files() (files []tier.File, ready bool, err error) {
	t := s.t
	if err := t.checkpoint.flush(); err != nil {
		return nil, false, err
	}
	list, whole, err := t.checkpoint.durable()
	if err != nil {
		return nil, false, err
	}
	for _, f := range list.Files {
		files = append(files, tier.File{Name: f.Name, Size: f.Size})
	}
	packs := t.past.packs
	if err := packs.Recover(); err != nil { // what an earlier process left open
		return nil, false, err
	}
	if _, size, ok := packs.Growing(); ok && size >= sealForTier {
		if err := packs.Seal(); err != nil {
			return nil, false, err
		}
	}
	growing, err := packs.SyncGrowing()
	if err != nil {
		return nil, false, err
	}
	err = packs.Each(func(i pack.Info) bool {
		name := i.ID.String()
		f := tier.File{Name: "packs/" + name[:2] + "/" + name, Size: i.Size, Remote: i.Remote}
		if !i.Sealed {
			f.Name = "packs/open/" + name
			if size, ok := growing[i.ID]; ok {
				f.Size = size
			}
		}
		files = append(files, f)
		return true
	})
	return files, whole, err
}

func (s tierSource) Open(name string) (interface {
	io.ReaderAt
	io.Closer
}, error) {
	f, err := os.Open(filepath.Join(s.t.cfg.Dir, filepath.FromSlash(name)))
	if errors.Is(err, os.ErrNotExist) {
		return nil, &sharefs.Error{Op: "upload", Path: name, Kind: sharefs.KindNotExist, Err: err}
	}
	if err != nil {
		return nil, failed("upload", err)
	}
	return f, nil
}

// What the bucket is told of a store beside its files is sealed with a key that follows from the first share key and from what it is.
const (
	sealConfig = "sharefs 2026-11 configuration in a bucket"
	sealKeys   = "sharefs 2026-11 share keys in a bucket"
)

func tierSeal(what string, first [32]byte) cipher.AEAD {
	var key [32]byte
	blake3.DeriveKey(what, first[:], key[:])
	return tier.Seal(&key)
}

// SealForTier seals a text of a store, such as its configuration, for the root of its bucket.
func SealForTier(share [32]byte, text []byte) []byte {
	return tierSeal(sealConfig, share).Seal(nil, nil, text, nil)
}

// OpenFromTier is the inverse of SealForTier. It errors with KindCorrupt.
func OpenFromTier(share [32]byte, sealed []byte) ([]byte, error) {
	text, err := tierSeal(sealConfig, share).Open(nil, nil, sealed, nil)
	if err != nil {
		return nil, &sharefs.Error{Op: "open what the bucket tells of the store", Kind: sharefs.KindCorrupt, Err: err}
	}
	return text, nil
}

// SealKeysForTier seals the share keys of a store that has several for the root of its bucket, so that all come back with the first, which stands on recovery
// sheets. It returns nil where there is one alone. Whoever has the first key and may read the bucket has all of them.
func SealKeysForTier(ring keyring.Ring) []byte {
	if ring.Len() < 2 {
		return nil
	}
	return tierSeal(sealKeys, ring.First().Secret).Seal(nil, nil, ring.Text(), nil)
}

// KeysFromTier is the inverse of SealKeysForTier. It errors with KindCorrupt.
func KeysFromTier(first [32]byte, sealed []byte) (keyring.Ring, error) {
	const op = "open the share keys that the bucket has"
	if len(sealed) == 0 {
		return keyring.New(first), nil
	}
	text, err := tierSeal(sealKeys, first).Open(nil, nil, sealed, nil)
	if err != nil {
		return keyring.Ring{}, &sharefs.Error{Op: op, Kind: sharefs.KindCorrupt, Err: err}
	}
	ring, err := keyring.Parse(text)
	if err == nil && ring.First().Secret != first {
		err = &sharefs.Error{Op: op, Kind: sharefs.KindCorrupt, Detail: "they are those of another store"}
	}
	return ring, err
}
