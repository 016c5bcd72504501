package pack

import (
	"io"

	"sharefs"
)

// Remote is a [File] of a pack that may lie elsewhere than in the directory of the packs: what was fetched of it is kept here as far as there is room.
// Its errors are of kind unreachable where the pack cannot be had at present.
type Remote interface {
	File
	// Remote reports whether it does lie elsewhere at present.
	Remote() bool
	// Distrust forgets what is kept here of a range, so that it is fetched again, and reports whether that may be of use.
	Distrust(off, n int64) bool
	// Direct returns the pack as it lies there, past what is kept here. It is valid until the file is closed.
	Direct() io.ReaderAt
}

func isRemote(f File) bool {
	r, ok := f.(Remote)
	return ok && r.Remote()
}

// distrusted reports whether a record that did not read is worth another attempt, for it may have been spoilt on its way here.
func distrusted(f File, loc Loc, err error) bool {
	if sharefs.KindOf(err) != sharefs.KindCorrupt || !isRemote(f) {
		return false
	}
	return f.(Remote).Distrust(int64(loc.Off), loc.Len())
}

// direct returns a file that does not keep what is read of a pack that lies elsewhere, for who reads all of it once, and to see what lies there.
func direct(f File) File {
	if !isRemote(f) {
		return f
	}
	return directFile{f, f.(Remote).Direct()}
}

type directFile struct {
	File
	r io.ReaderAt
}

func (f directFile) ReadAt(b []byte, off int64) (int, error) { return f.r.ReadAt(b, off) }

// IsRemote reports whether a pack lies elsewhere than in the directory of the packs.
func (s *Store) IsRemote(id ID) bool {
	f, _, err := s.openPlaced(id)
	if err != nil {
		return false
	}
	defer f.Close()
	return isRemote(f)
}

// ReadCopy is [Store.Read] of a record out of a copy of its pack.
func (s *Store) ReadCopy(pack io.ReaderAt, loc Loc, id sharefs.ChunkID, dst []byte) ([]byte, error) {
	head := make([]byte, packHeaderLen)
	if err := readFull(pack, head, 0); err != nil {
		return nil, failed("read", loc.Pack, err)
	}
	epochs := s.epochs() // where the header is damaged
	if hdr, err := s.header(loc.Pack, head); err == nil {
		epochs = []Epoch{hdr.Epoch}
	}
	var out []byte
	var err error
	for _, e := range epochs {
		var key [32]byte
		if key, err = s.cfg.Key(e); err != nil {
			continue
		}
		if out, err = s.readAt(pack, newAEAD(key, &Header{ID: loc.Pack, Epoch: e}), loc, id, dst); err == nil {
			return out, nil
		}
	}
	return nil, err
}

// HeaderLen is the length of what a pack begins with, and FooterLen of what a sealed one ends with, in bytes.
const (
	HeaderLen = packHeaderLen
	FooterLen = footerLen
)

// Bounds looks at the first HeaderLen and the last FooterLen bytes of a sealed pack of some length and returns where its index begins, which goes to the
// end. An error of kind corrupt says that the one or the other is damaged.
func Bounds(id ID, head, foot []byte, size int64) (index int64, err error) {
	hdr, err := decodeHeader(head)
	if err == nil && hdr.ID != id {
		err = damaged("the header names another pack")
	}
	if err != nil {
		return 0, err
	}
	f, err := decodeFooter(foot, size)
	return int64(f.index), err
}

// PathOf returns where a sealed pack lies below the directory of the packs.
func PathOf(id ID) string { return id.name() }
