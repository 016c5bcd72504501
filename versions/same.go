package versions

import (
	"bytes"
	"io"

	"sharefs"
)

// sameStep is how much of two contents is compared at a time, in bytes.
const sameStep = 1 << 20

// Same reports whether two contents are of equal bytes, also if they are named by different share keys, so that nothing of their names tells. Errors: KindAgain: not all of both is here;
// KindAccess: the share key of one is not; KindInvalid for what is no content.
func (t *Tree) Same(a, b *Content) (bool, error) {
	return t.sameBytes(a, b, func(int64) error { return nil })
}

// sameBytes is Same that calls going with how many bytes it is about to read, and ends with its error.
func (t *Tree) sameBytes(a, b *Content, going func(bytes int64) error) (bool, error) {
	if a.Size != b.Size {
		return false, nil
	}
	lease := t.past.leases.take()
	defer lease.end()
	one, err := t.openContent(a, lease)
	if err != nil {
		return false, err
	}
	defer one.Close()
	two, err := t.openContent(b, lease)
	if err != nil {
		return false, err
	}
	defer two.Close()
	mine, theirs := make([]byte, min(sameStep, a.Size)), make([]byte, min(sameStep, a.Size))
	for off := int64(0); off < int64(a.Size); off += int64(len(mine)) {
		n := min(int64(len(mine)), int64(a.Size)-off)
		if err := going(2 * n); err != nil {
			return false, err
		}
		for _, p := range []struct {
			r io.ReaderAt
			b []byte
		}{{one, mine[:n]}, {two, theirs[:n]}} {
			if _, err := p.r.ReadAt(p.b, off); err != nil && err != io.EOF {
				return false, err
			}
		}
		if !bytes.Equal(mine[:n], theirs[:n]) {
			return false, nil
		}
	}
	return true, nil
}

// openContent opens a content that is in packs. Its chunks are on the lease from then on.
func (t *Tree) openContent(c *Content, lease *lease) (*keptReader, error) {
	const op = "read a content"
	top, ok := c.manifest()
	if !ok {
		return nil, fail(op, sharefs.KindInvalid)
	}
	key, err := t.keyFor(c)
	if err != nil {
		return nil, err
	}
	under := keptUnder{h: &t.past}
	if _, err := under.all(op, top, key, lease); err != nil {
		return nil, err
	}
	return newForeignReader(&t.past, top, int64(c.Size)), nil
}
