package trust

import (
	"crypto/sha256"
	"io"

	"sharefs"
)

// Whole files that are sealed, such as packs, read from where they lie.

// FileEnvelope is a sealed file on its way to one peer.
type FileEnvelope struct {
	to   sharefs.PeerID
	file SealedFile
}

// To returns to whom the file goes: nobody, if it is the zero value, which must not be written.
func (e FileEnvelope) To() sharefs.PeerID { return e.to }

// File returns what goes there.
func (e FileEnvelope) File() SealedFile { return e.file }

// SealedFile is a file that nobody can read without the key.
type SealedFile struct {
	name string
	id   [32]byte
	size int64
	body io.ReaderAt
}

// Name returns what the file is called, which is part of what was looked at: it tells nothing either.
func (f SealedFile) Name() string { return f.name }

// ID returns the SHA-256 of the file, by which a peer can check what it keeps without a key.
func (f SealedFile) ID() [32]byte { return f.id }

// Size returns how long it is, in bytes.
func (f SealedFile) Size() int64 { return f.size }

// Body returns where it can be read. What is read there later may have changed: whoever sends it sends the id with it, and whoever receives it compares.
func (f SealedFile) Body() io.ReaderAt { return f.body }

// FileSealer tells sealed files from others.
type FileSealer struct {
	check func(name string, body io.ReaderAt, size int64) error
}

// NewFileSealer returns one of whoever has the keys: check sees that each byte of a file, and its name, is sealed, or says nothing of what is. It errors with
// [sharefs.KindCorrupt] where that is not so.
func NewFileSealer(check func(name string, body io.ReaderAt, size int64) error) *FileSealer {
	return &FileSealer{check}
}

// Adopt takes a file for sealed, of which it makes sure with the key. Errors are those of the check, and of reading.
func (s *FileSealer) Adopt(name string, body io.ReaderAt, size int64) (SealedFile, error) {
	h := sha256.New()
	if n, err := io.Copy(h, io.NewSectionReader(body, 0, size)); err != nil {
		return SealedFile{}, err
	} else if n != size {
		return SealedFile{}, &sharefs.Error{Op: "send", Path: name, Kind: sharefs.KindCorrupt, Detail: "the file is shorter than it was"}
	}
	if err := s.check(name, body, size); err != nil {
		return SealedFile{}, err
	}
	return SealedFile{name: name, id: [32]byte(h.Sum(nil)), size: size, body: body}, nil
}

// File makes an envelope of a sealed file.
func (c Cipher) File(f SealedFile) (FileEnvelope, error) {
	if c.peer.IsZero() || f.body == nil {
		return FileEnvelope{}, errNoPermission
	}
	return FileEnvelope{c.peer, f}, nil
}
