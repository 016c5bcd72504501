package vault

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"errors"
	"io"
	mrand "math/rand/v2"

	"sharefs"
	"sharefs/versions/tier"
)

// Checked is what became of challenges.
type Checked struct {
	Objects int      // that were asked for
	Bytes   int64    // that had to be read for the answers
	Wrong   []string // objects for which there was no answer, or a wrong one
	Unknown int      // that could not be asked for, as their bytes are not here either
}

// Check asks for proofs of some of the files that the peer is said to have: of random ranges, with a nonce, so that only who can read them now has the answer. Open opens the file
// here; where it is not here (KindNotExist) nothing is asked. What is not proved is doubted from then on. An error means that the peer could not be asked.
func (b *Bucket) Check(ctx context.Context, files []tier.Info, open func(name string) (interface {
	io.ReaderAt
	io.Closer
}, error), most int) (out Checked, err error) {
	for _, i := range mrand.Perm(len(files)) {
		if out.Objects >= most {
			break
		}
		f := files[i]
		if f.Size <= 0 {
			continue
		}
		body, err := open(f.Key)
		if sharefs.KindOf(err) == sharefs.KindNotExist && err != nil {
			out.Unknown++
			continue
		}
		if err != nil {
			return out, err
		}
		ok, n, err := b.challenge(ctx, f, body)
		body.Close()
		switch {
		case err == errHoles:
			out.Unknown++
			continue
		case err != nil:
			return out, err
		}
		out.Objects++
		out.Bytes += n
		if !ok {
			out.Wrong = append(out.Wrong, f.Key)
			b.Doubt(f.Key)
		}
	}
	return out, nil
}

const (
	asked     = 4 // ranges of an object
	tries     = 4 * asked
	mostAsked = 64 << 10 // bytes of a range
	hole      = 32       // so many zeros in a row are nowhere in what is sealed
)

// errHoles says that no range could be found in which nothing was given back to the disk.
var errHoles = errors.New("it has holes")

// solid reports whether nothing of a range was given back to the disk here since it was sent: then zeros are read in its place, and what the peer has is as good. A range that
// ends in such zeros is found by what lies around it.
func solid(body io.ReaderAt, off, length, size int64) (bool, error) {
	from, to := max(0, off-hole), min(size, off+length+hole)
	b := make([]byte, to-from)
	if n, err := body.ReadAt(b, from); n < len(b) {
		return false, err
	}
	return !bytes.Contains(b, make([]byte, hole)), nil
}

// challenge asks for one proof. The error is one that says nothing of the object.
func (b *Bucket) challenge(ctx context.Context, f tier.Info, body io.ReaderAt) (ok bool, n int64, err error) {
	nonce := make([]byte, nonceLen)
	rand.Read(nonce)
	r := &request{Op: opProve, Key: f.Key, Nonce: nonce}
	for range tries {
		length := min(f.Size, 1+mrand.Int64N(mostAsked))
		off := mrand.Int64N(f.Size - length + 1)
		whole, err := solid(body, off, length, f.Size)
		if err != nil {
			return false, 0, &sharefs.Error{Op: opProve, Path: f.Key, Kind: sharefs.KindOf(err), Detail: "the file here cannot be read", Err: err}
		}
		if !whole {
			continue
		}
		n += length
		if r.Ranges = append(r.Ranges, [2]int64{off, length}); len(r.Ranges) == asked {
			break
		}
	}
	if len(r.Ranges) == 0 {
		return false, 0, errHoles
	}
	want, err := proofOf(nonce, f.Key, r.Ranges, body)
	if err != nil {
		return false, 0, &sharefs.Error{Op: opProve, Path: f.Key, Kind: sharefs.KindOf(err), Detail: "the file here cannot be read", Err: err}
	}
	var got *reply
	err = b.do(ctx, opProve, f.Key, func(l *line) (err error) {
		got, err = b.ask(l, r)
		return err
	})
	if err != nil {
		switch sharefs.KindOf(err) {
		case sharefs.KindUnreachable, sharefs.KindPermission, sharefs.KindBusy:
			return false, 0, err
		}
		return false, n, ctx.Err() // it was asked, and has no answer
	}
	return hmac.Equal(got.Proof, want), n, nil
}
