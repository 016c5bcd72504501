package versions

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
)

// An adoption that a start finds is finished behind it, one file after the other, while all others are used (finishAdopting). Whoever opens such a file waits for its own, as for one that
// is under way, until that is over, or does not get on, or he gives up: a file of a TB takes as long as reading it.

// finish brings a file that is in the middle of an adoption out of it; it does nothing with any other. Whoever opens one has that done first. An error says that it holds a mixture.
// f.content is held.
func (h *history) finish(f *file) error {
	a := h.standing(f.ino)
	if a == nil {
		return nil
	}
	t := h.t
	if err := t.writable("finish taking over what another host wrote"); err != nil {
		return err
	}
	if a.holds == holdsMixture {
		base, err := newestVersion(t.db, f.ino, noLimit)
		if err != nil {
			return err
		}
		if err := t.armNow(f, changeAll, false, nil); err != nil {
			return err
		}
		err = h.bringTo(f, a, base, false)
		t.disarm(f)
		if a.holds == holdsMixture {
			_, _ = h.rested(f, a) // no version comes of it
			if errors.Is(err, errStopped) {
				return err
			}
			return mixed(f.ino, err)
		}
	}
	rests, err := h.rested(f, a)
	if err == nil && !rests {
		err = h.withdraw(f, a)
	}
	return err
}

// mixed is the error of a file that holds parts of two versions.
func mixed(ino sharefs.Ino, cause error) error {
	e := corrupt("a file into which a version of another host was being put when something failed: the log says what", ino)
	return errors.Join(e, cause)
}

// ending is the end of an adoption that somebody waits for.
type ending struct {
	over chan struct{} // closed when it is
	err  error         // set before that
}

// end has a file that is in the middle of an adoption brought out of it, once for all who wait for that.
func (h *history) end(f *file) *ending {
	t := h.t
	h.mu.Lock()
	defer h.mu.Unlock()
	if e := h.endings[f.ino]; e != nil {
		return e
	}
	if h.endings == nil {
		h.endings = map[sharefs.Ino]*ending{}
	}
	e := &ending{over: make(chan struct{})}
	h.endings[f.ino] = e
	t.files.pin(f.ino)
	t.ended.Go(func() {
		defer t.files.unpin(f)
		f.content.Lock()
		at := h.standing(f.ino)
		e.err = h.finish(f)
		f.content.Unlock()
		h.mu.Lock()
		delete(h.endings, f.ino)
		h.mu.Unlock()
		close(e.over)
		if k := t.kernel.Load(); k != nil && at != nil { // else whoever was at work tells the kernel
			(*k).ForgetContent(f.ino, 0, 0)
		}
	})
	return e
}

// adoptionStalls is for how long whoever opens a file waits for an adoption that does not get on: no chunk of it was read, compared or written, and the disk has not synced it.
const adoptionStalls = time.Minute

// finished has whoever opens a file wait for the end of an adoption. Errors: EINTR: he gave up; KindBusy: it does not get on; KindCorrupt: the file holds a mixture.
func (t *Tree) finished(f *file, cancel <-chan struct{}) error {
	h := &t.past
	a := h.standing(f.ino)
	if a == nil {
		return nil
	}
	e := h.end(f)
	stalls := t.cfg.adoptionStalls
	if stalls == 0 {
		stalls = adoptionStalls
	}
	look := time.NewTicker(stalls / 8)
	defer look.Stop()
	steps, got := a.steps.Load(), time.Now()
	for {
		select {
		case <-e.over:
			return e.err
		case <-cancel:
			return failed("open", unix.EINTR)
		case now := <-look.C:
			if b := h.standing(f.ino); b != nil && (b != a || b.steps.Load() != steps) {
				a, steps, got = b, b.steps.Load(), now
			}
			if now.Sub(got) >= stalls {
				return &sharefs.Error{Op: "open", Path: t.NameOf(f.ino), Kind: sharefs.KindBusy, Detail: "what another host wrote is being put into the file, and that does not get on"}
			}
		}
	}
}

// loadAdopting finds the files that were being adopted when the daemon ended. Nothing has been done with any file yet. No version comes of such a file but together with the end of
// its row, so the newest one is the base. Where it is not, or the row cannot be read, the row does not go for that: the file may hold a mixture, which would be taken for what
// somebody wrote. Then what it holds decides; and without the target there is only the way back.
func (h *history) loadAdopting() error {
	t := h.t
	var gone []sharefs.Ino
	changed := map[sharefs.Ino]*adopting{}
	var bad error
	err := t.db.Scan(spaceAdopting, nil, nil, func(key, value []byte) bool {
		ino := keyIno(key)
		r, err := t.row(ino)
		var newest *version
		if err == nil {
			newest, err = newestVersion(t.db, ino, noLimit)
		}
		switch {
		case errors.Is(err, sharefs.KindStale) || err == nil && (r.nlink == 0 || !r.isRegular() || r.isAbsent()):
			gone = append(gone, ino)
			return true
		case err != nil && !errors.Is(err, sharefs.KindCorrupt): // else nobody can open it
			bad = err
			return false
		}
		unread := err
		a := &adoption{row: true}
		if a.adopting, err = decodeAdopting(ino, value); err != nil {
			t.log.Error("a row that tells what was being put into a file cannot be read: the file becomes what it was before", "inode", uint64(ino), "file", t.NameOf(ino), "err", err)
			if a.lost = err; r != nil {
				a.was = r.mtime
			}
			if newest != nil {
				a.base, a.was = newest.own, newest.mtime
			}
		} else if unread == nil && (newest == nil && a.base != 0 || newest != nil && newest.own != a.base) {
			t.log.Error("a file that was being taken over from another host has another version than before that", "inode", uint64(ino), "file", t.NameOf(ino))
			var stays bool
			if stays, bad = h.stillAdopted(ino, &a.adopting); bad == nil && !stays {
				gone = append(gone, ino)
			}
			if bad != nil || !stays {
				return bad == nil
			}
			changed[ino] = &a.adopting
		}
		a.again = err == nil && h.isAgain(&a.adopting, newest)
		h.stand(ino, a)
		return true
	})
	if err = errors.Join(err, bad); err != nil || len(gone)+len(changed) == 0 || t.cfg.ReadOnly {
		return failed("read what was being adopted", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.begin()
	settleAdopting(x, gone, changed)
	return x.commit()
}

// finishAdopting brings the files that loadAdopting found to what they are to hold. One that cannot be stays closed.
func (h *history) finishAdopting() {
	t := h.t
	h.mu.Lock()
	all, bytes := slices.Collect(maps.Keys(h.adopts)), int64(0)
	for _, a := range h.adopts {
		bytes += a.size
	}
	slices.SortFunc(all, func(a, b sharefs.Ino) int {
		return cmp.Or(cmp.Compare(h.adopts[a].size, h.adopts[b].size), cmp.Compare(a, b))
	}) // small ones do not wait for large ones
	h.mu.Unlock()
	if len(all) == 0 {
		return
	}
	t.log.Info("files that were being taken over from another host when the daemon was ended are brought to what they are to hold; whoever opens one waits", "files", len(all), "bytes", bytes)
	for _, ino := range all {
		if t.closed.Load() {
			return
		}
		began := time.Now()
		f := t.files.pin(ino)
		var err error
		if h.standing(ino) != nil {
			e := h.end(f)
			<-e.over
			err = e.err
		}
		t.files.unpin(f)
		if err == nil {
			t.log.Info("a file that was being taken over from another host when the daemon was ended is whole", "inode", uint64(ino), "file", t.NameOf(ino), "took", time.Since(began).Round(time.Millisecond))
		} else if !errors.Is(err, errStopped) {
			t.log.Error("a file that was being taken over from another host when the daemon was ended cannot be opened", "inode", uint64(ino), "file", t.NameOf(ino), "err", err)
		}
	}
}
