package versions

import (
	"errors"

	"sharefs"
)

// KeepAgain has this host keep the newest version of a file again that is away: what the full file holds goes into packs. It reports whether the version is kept here, and survives power loss,
// when it returns; it is not where the file is absent, or is being changed, or cancel was closed.
func (t *Tree) KeepAgain(cancel <-chan struct{}, ino sharefs.Ino) (bool, error) {
	if err := t.writable("keep what is here"); err != nil {
		return false, err
	}
	r, v, err := t.freeable(ino)
	if err != nil || r.isAbsent() {
		if k := sharefs.KindOf(err); k == sharefs.KindBusy || k == sharefs.KindInvalid {
			err = nil
		}
		return false, err
	}
	if v.away {
		ok, err := t.keepAgain(cancel, v)
		if err != nil || !ok {
			return false, err
		}
	}
	return true, failed("sync", t.db.Sync())
}

func (t *Tree) keepAgain(cancel <-chan struct{}, v *version) (bool, error) {
	c, err := t.contentOf(v)
	if err != nil {
		return false, err
	}
	p := newPartial(nil, t, v)
	p.ino = v.ino
	lease, errs, err := t.Gather([]Content{*c}, &ownFile{p: p, cancel: cancel})
	if err != nil {
		return false, err
	}
	defer lease.End()
	if errs[0] != nil {
		if errors.Is(errs[0], errLacking) {
			return false, nil
		}
		return false, errs[0]
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	now, err := newestVersion(t.db, v.ino, noLimit)
	if err != nil || now == nil || now.own != v.own || now.place != placeKept {
		return false, err
	}
	// The row is that of the moment: it may have become absent meanwhile, and then its version is kept all the same.
	x := t.begin()
	now.away = false
	now.put(&x.b)
	return true, x.commit()
}

// errLacking is why a chunk is not to be had of a file that has it no more.
var errLacking = &sharefs.Error{Op: "keep what is here", Kind: sharefs.KindNotExist, Detail: "the file holds something else by now, or there is no time for it"}

// ownFile is a [Source] of what a full file holds. It is asked for chunks in their order, most of the time.
type ownFile struct {
	p      *partial
	at     int64 // behind the last chunk that was found
	cancel <-chan struct{}
}

func (s *ownFile) Want(int, ...sharefs.ChunkID) {}

func (s *ownFile) Get(_ int, id sharefs.ChunkID, _ func([]byte) bool) ([]byte, error) {
	select {
	case <-s.cancel:
		return nil, errLacking
	default:
	}
	size := int64(s.p.v.size)
	for from, to := s.at, size; ; from, to = 0, s.at {
		for off := from; off < to; {
			l, err := s.p.at(off)
			if err != nil {
				return nil, err
			}
			if off = l.off + l.len; l.hole || l.id != id {
				continue
			}
			s.at = off
			data := make([]byte, l.len)
			if n, err := s.p.pread(data, l.off); err != nil {
				return nil, err
			} else if n < len(data) || !s.p.good(&l, data) {
				return nil, errLacking
			}
			return data, nil
		}
		if from == 0 {
			return nil, errLacking
		}
	}
}
