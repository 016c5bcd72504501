package versions

import (
	"bytes"
	"io"
	"strings"

	"github.com/zeebo/blake3"

	"sharefs"
	"sharefs/versions/pack"
	"sharefs/versions/tier"
)

// CheckSealed sees that a file which the tier keeps elsewhere holds nothing that can be read without the share keys, nor has a name that says anything: packs, those of the
// checkpoint, and the root. Errors: KindCorrupt, it does not, or it is damaged; others of reading.
func (t *Tree) CheckSealed(name string, body io.ReaderAt, size int64) error {
	foreign := &sharefs.Error{Op: "send sealed", Path: name, Kind: sharefs.KindCorrupt, Detail: "it is not sealed, or damaged"}
	if name == tier.RootKey {
		b := make([]byte, size)
		if _, err := io.ReadFull(io.NewSectionReader(body, 0, size), b); err != nil || tier.CheckRoot(TierKey(t.Keys().First().Secret), b) != nil {
			return foreign
		}
		return nil
	}
	for _, p := range []struct {
		dir  string
		pack *pack.Store
	}{{"packs/", t.past.packs}, {"checkpoints/rows/", t.checkpoint.rows}, {"checkpoints/changes/", t.checkpoint.changes}} {
		if below, ok := strings.CutPrefix(name, p.dir); ok && pack.CheckSealedName(below) {
			err := p.pack.CheckSealed(body, size)
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
