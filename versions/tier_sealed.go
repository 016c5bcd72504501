package versions

import (
	"bytes"
	"io"
	"strings"

	"github.com/zeebo/blake3"

	"sharefs"
	"sharefs/internal/keyring"
	"sharefs/versions/pack"
	"sharefs/versions/tier"
)

// CheckSealed sees that a file which the tier keeps elsewhere holds nothing that can be read without the share keys, nor has a name that says anything: packs, those of the
// checkpoint, and the root. Errors: KindCorrupt, it does not, or it is damaged; others of reading.
func (t *Tree) CheckSealed(name string, body io.ReaderAt, size int64) error {
	return checkSealed(t.past.packs, TierKey(t.Keys().First().Secret), name, body, size)
}

// SealedFiles returns what CheckSealed is of a store that is yet to be made, in a directory, with these keys.
func SealedFiles(dir string, ring keyring.Ring) (func(name string, body io.ReaderAt, size int64) error, error) {
	packs, err := pack.Open(newKeys(&Config{Keys: ring}).packs(pack.Config{FS: pack.Dir(dir), ReadOnly: true}))
	if err != nil {
		return nil, err
	}
	return func(name string, body io.ReaderAt, size int64) error {
		return checkSealed(packs, TierKey(ring.First().Secret), name, body, size)
	}, nil
}

// checkSealed is CheckSealed with packs that know the keys; those of the checkpoint have the same.
func checkSealed(packs *pack.Store, root [32]byte, name string, body io.ReaderAt, size int64) error {
	foreign := &sharefs.Error{Op: "check what is sealed", Path: name, Kind: sharefs.KindCorrupt, Detail: "it is not sealed, or damaged"}
	if name == tier.RootKey {
		b := make([]byte, size)
		if _, err := io.ReadFull(io.NewSectionReader(body, 0, size), b); err != nil || tier.CheckRoot(root, b) != nil {
			return foreign
		}
		return nil
	}
	for _, dir := range []string{"packs/", "checkpoints/rows/", "checkpoints/changes/"} {
		if below, ok := strings.CutPrefix(name, dir); ok {
			err := packs.CheckSealed(below, body, size)
			if sharefs.KindOf(err) == sharefs.KindCorrupt {
				foreign.Err = err
				return foreign
			}
			return err
		}
	}
	return foreign
}

// VaultKey returns the secret from which follows who may fetch what peers keep of a store: of the share key, which others may have, and of the part of the store's id that stands on
// recovery sheets, which nobody has.
func VaultKey(share [32]byte, id string) (secret [32]byte) {
	material := bytes.Join([][]byte{share[:], []byte(id)}, nil)
	blake3.DeriveKey("sharefs 2026-11 key of a vault", material, secret[:])
	return secret
}
