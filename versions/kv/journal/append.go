package journal

import (
	"crypto/rand"

	"sharefs"
)

// Append adds a record and returns its sequence number. rec holds [HeaderSize] bytes of room, which Append fills, and
// then the payload; it is not kept. Where it fails nothing was added, and it may be tried again: a disk that was full
// may have room by then.
func (j *Journal) Append(rec []byte) (seq uint64, err error) {
	if n := len(rec) - HeaderSize; n < 1 || n > MaxPayload {
		return 0, &sharefs.Error{Op: "journal append", Kind: sharefs.KindInvalid, Detail: "a payload has 1 byte to 64 MiB"}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case j.closed:
		return 0, errClosed()
	case j.failed != nil:
		return 0, j.failed
	}
	if j.cur == nil {
		if err := j.next(); err != nil {
			return 0, err
		}
	}
	g := j.cur
	seal(rec, &g.salt, j.last+1, j.synced.Load())
	if _, err := g.file.WriteAt(rec, g.size); err != nil {
		// Whatever part of it landed becomes no record (its length is zero). To cut it off would give away the room that the segment has
		// reserved, which on a full disk is never to be had again. Should both fail, the next record overwrites it, and a replay until
		// then at most finds a record whose caller was told that its fate is failure.
		if _, e := g.file.WriteAt(make([]byte, HeaderSize), g.size); e != nil {
			_ = g.file.Truncate(g.size)
		}
		return 0, fail("write", g.name, err)
	}
	if g.last == 0 {
		j.segments.Add(1)
	}
	j.last++
	g.size += int64(len(rec))
	g.last = j.last
	j.appends.Add(1)
	j.appended.Store(j.last)
	j.bytes.Add(int64(len(rec)))
	return j.last, nil
}

// next makes a new segment the present one. Called with mu held.
func (j *Journal) next() error {
	g := j.spare
	j.spare = nil
	if g == nil {
		j.number++
		var err error
		if g, err = j.create(j.number); err != nil {
			return err
		}
	}
	if j.cur != nil {
		_ = j.cur.file.Truncate(j.cur.size) // the room behind it that it had reserved is the new one's to have
		j.old = append(j.old, j.cur)
	}
	j.cur = g
	return nil
}

// create makes a segment whose name and header are on disk before it takes a record; all removals before it are then,
// too.
func (j *Journal) create(number uint64) (*segment, error) {
	g := &segment{name: segmentName(number), size: SegmentHeaderSize}
	rand.Read(g.salt[:]) // never fails (crypto/rand)
	f, err := j.fs.Create(g.name)
	if err != nil {
		return nil, fail("create", g.name, err)
	}
	g.file = f
	if _, err = f.WriteAt(segmentHeader(number, g.salt), 0); err == nil {
		if err = f.Datasync(); err == nil {
			err = j.fs.SyncDir()
		}
	}
	if err != nil {
		j.drop(g)
		return nil, fail("create", g.name, err)
	}
	return g, nil
}

// Prepare makes the next segment ahead, which takes milliseconds, so that Rotate takes none.
func (j *Journal) Prepare() error {
	j.mu.Lock()
	if j.closed || j.failed != nil || j.spare != nil || j.making {
		j.mu.Unlock()
		return nil
	}
	j.making = true
	j.number++
	number := j.number
	j.mu.Unlock()

	g, err := j.create(number)

	j.mu.Lock()
	defer j.mu.Unlock()
	j.making = false
	if err != nil {
		return err
	}
	if j.closed || j.cur != nil && j.cur.name > g.name {
		// Closed, or rotated past this number, in the meantime.
		j.drop(g)
		return nil
	}
	j.spare = g
	return nil
}

// Rotate makes later records go to a new segment, so that the present one can be removed once all of it is applied.
// Where it fails the present one goes on.
func (j *Journal) Rotate() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case j.closed:
		return errClosed()
	case j.failed != nil:
		return j.failed
	case j.cur == nil || j.cur.last == 0:
		return nil
	}
	return j.next()
}

// RemoveTo removes the segments all of whose records have numbers up to seq, but for the present one. They must be safe
// elsewhere.
func (j *Journal) RemoveTo(seq uint64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return errClosed()
	}
	// Front to back, so that what a crash leaves is without a gap.
	for len(j.old) > 0 && j.old[0].last <= seq {
		g := j.old[0]
		if err := j.fs.Remove(g.name); err != nil {
			return fail("remove", g.name, err)
		}
		g.file.Close()
		j.segments.Add(-1)
		j.bytes.Add(-g.records())
		j.old = j.old[1:]
	}
	return nil
}

// Discard removes all segments and closes the journal. All records must be safe elsewhere.
func (j *Journal) Discard() error {
	err := j.RemoveTo(^uint64(0))
	j.mu.Lock()
	last := j.cur
	j.mu.Unlock()
	if err := j.Close(); err != nil {
		return err
	}
	if err == nil && last != nil {
		if err = j.fs.Remove(last.name); err != nil {
			err = fail("remove", last.name, err)
		}
	}
	return err
}
