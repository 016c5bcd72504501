package versions

import (
	"io"

	"sharefs"
)

// Getattr returns the attributes that an inode had. It errors with KindStale if there was none.
func (v *View) Getattr(ino sharefs.Ino) (sharefs.Attr, error) {
	r, err := v.row(ino)
	if err != nil {
		return sharefs.Attr{}, err
	}
	a := r.attr()
	if !r.isRegular() {
		return a, nil
	}
	found, gone, err := v.held(r)
	switch {
	case err != nil:
		return sharefs.Attr{}, err
	case gone:
		return a, nil
	case found == nil:
		a.Size, a.Blocks = 0, 0
		return a, nil
	}
	a.Size = found.size
	if found.merged == 0 || found.merged > v.ended {
		// The clock of the disk is some milliseconds behind, so that a file may seem to be written before it was made (as in Tree.merge).
		if found.mtime >= a.Btime || a.Mtime < a.Btime {
			a.Mtime = found.mtime
		}
		a.Ctime, a.Blocks = max(a.Ctime, found.ctime), (found.size+511)/512
	}
	return a, nil
}

// Version returns the version that a regular file's content was. KindNotExist: nothing had been closed yet, and the file is empty in the view; or, with the reason in
// Detail, retention has removed it.
func (v *View) Version(ino sharefs.Ino) (sharefs.Version, error) {
	r, err := v.regular("find a version", ino)
	if err != nil {
		return sharefs.Version{}, err
	}
	found, gone, err := v.held(r)
	switch {
	case err != nil:
		return sharefs.Version{}, err
	case gone:
		return sharefs.Version{}, thinned("find a version")
	case found == nil:
		return sharefs.Version{}, sharefs.KindNotExist
	}
	h := &v.t.past
	l, _, err := loadLineage(v.t.db, ino)
	if err != nil {
		return sharefs.Version{}, err
	}
	shown := h.shown(ino, found, l.base)
	shown.Live = h.isLive(ino, shown.Number)
	return shown, nil
}

// Open opens the content of a regular file for reading. Errors: KindStale, KindInvalid for what is no regular file, KindNotExist with the reason in Detail where the
// content is gone.
func (v *View) Open(ino sharefs.Ino) (VersionReader, error) {
	const op = "open a file of the past"
	r, err := v.regular(op, ino)
	if err != nil {
		return nil, err
	}
	found, gone, err := v.held(r)
	switch {
	case err != nil:
		return nil, err
	case gone:
		return nil, thinned(op)
	case found == nil:
		return emptyReader{}, nil
	case found.place == placeLost:
		return nil, &sharefs.Error{Op: op, Kind: sharefs.KindNotExist, Detail: "what it held then was lost before it was captured"}
	}
	return v.t.past.openVersion(found)
}

// regular reads the row of a regular file.
func (v *View) regular(op string, ino sharefs.Ino) (*row, error) {
	r, err := v.row(ino)
	if err == nil && !r.isRegular() {
		err = fail(op, sharefs.KindInvalid)
	}
	return r, err
}

func thinned(op string) error {
	return &sharefs.Error{Op: op, Kind: sharefs.KindNotExist, Detail: "retention has removed what it held then"}
}

// held finds the version that a regular file held, also one that is lost; nil: nothing had been closed yet. Gone says that retention has removed it.
func (v *View) held(r *row) (found *version, gone bool, err error) {
	found, err = heldAt(v.t.db, r.ino, v.at)
	if err == nil {
		err = v.t.stillKept(v.at)
	}
	switch {
	case err != nil:
		return nil, false, err
	case found == nil:
		// A row tells of content when it is committed together with the version of it.
		return nil, r.size > 0, nil
	case found.until != 0 && found.until <= v.at:
		return nil, true, nil
	}
	return found, false, nil
}

// emptyReader reads a file that nothing had been written to yet.
type emptyReader struct{}

func (emptyReader) Size() int64  { return 0 }
func (emptyReader) Close() error { return nil }

// ReadAt implements io.ReaderAt.
func (emptyReader) ReadAt(_ []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fail("read a version", sharefs.KindInvalid)
	}
	return 0, io.EOF
}

// NextData returns the first run of data at or after off, or the size where none follows.
func (emptyReader) NextData(int64) (start, end int64, err error) { return 0, 0, nil }
