package near

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	iofs "io/fs"
	"slices"

	"sharefs"
	"sharefs/versions/pack"
	"sharefs/versions/tier"
)

// keep keeps the packs within the budget until the store is closed.
func (f *FS) keep() {
	said := ""
	for {
		select {
		case <-f.ctx.Done():
			return
		case <-f.wake:
		}
		text := ""
		if err := f.shrink(); err != nil {
			text = err.Error()
		}
		if text != said && text != "" {
			f.log.Warn("packs stay on the disk", "err", text)
		}
		said = text
	}
}

// spawn does something in the background, unless the store is being closed.
func (f *FS) spawn(fn func()) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ctx.Err() != nil {
		return false
	}
	f.ended.Go(fn)
	return true
}

// shrink has what was not read for the longest time leave the disk, if there is too much.
func (f *FS) shrink() error {
	f.shrinking.Lock()
	defer f.shrinking.Unlock()
	f.mu.Lock()
	if f.held <= f.cfg.Budget {
		f.mu.Unlock()
		return nil
	}
	goal := f.cfg.Budget - f.cfg.Budget/20
	type candidate struct {
		n    *node
		used int64
	}
	var list []candidate
	for _, n := range f.nodes {
		switch {
		case n.local && f.mayLeave(n), !n.local && n.held > n.least+noteLen:
			list = append(list, candidate{n, n.used.Load()})
		}
	}
	f.mu.Unlock()
	slices.SortFunc(list, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.used, b.used), slices.Compare(a.n.id[:], b.n.id[:]))
	})
	var failures []error
	for _, c := range list {
		f.mu.Lock()
		enough, local := f.held <= goal, c.n.local
		f.mu.Unlock()
		if enough || f.ctx.Err() != nil {
			break
		}
		var err error
		if local {
			err = f.evict(c.n)
		} else {
			err = f.drop(c.n)
		}
		if err != nil && len(failures) < 3 {
			failures = append(failures, err)
		}
	}
	return errors.Join(failures...)
}

// mayLeave reports whether the bucket has a local pack for certain, and nobody is changing it; f.mu is held.
func (f *FS) mayLeave(n *node) bool {
	h, ok := f.named[n.id]
	if !ok || h.Size != n.size || n.gone {
		return false
	}
	for w := range n.open {
		if w.write {
			return false
		}
	}
	return f.cfg.May == nil || f.cfg.May(n.id, n.size)
}

// evict makes a local pack a remote one. Whoever has it open reads on.
func (f *FS) evict(n *node) error {
	f.mu.Lock()
	asked := n.local && f.mayLeave(n)
	told := f.named[n.id]
	f.mu.Unlock()
	if !asked {
		return nil
	}
	if err := f.stillThere(n.id, told); err != nil {
		return err
	}
	f.change.Lock()
	defer f.change.Unlock()
	f.mu.Lock()
	may, changes, h := n.local && f.mayLeave(n), n.changes, f.named[n.id]
	f.mu.Unlock()
	if !may || h != told {
		return nil
	}
	name := pack.PathOf(n.id)
	base, err := f.cfg.Packs.Open(name, false)
	if err != nil {
		return err
	}
	known, tail, err := makeNote(base, n.id, h.Size, h.ETag, f.cfg.URL)
	if err := errors.Join(err, base.Close()); err != nil {
		if sharefs.KindOf(err) == sharefs.KindCorrupt { // a check of the store tells of it; it does not leave
			f.mu.Lock()
			delete(f.named, n.id)
			f.mu.Unlock()
		}
		return err
	}
	if err := f.writeNote(&known, tail); err != nil {
		return err
	}
	n.remote.mu.Lock()
	n.remote.note = known
	f.mu.Lock()
	if !f.mayLeave(n) || n.changes != changes {
		f.mu.Unlock()
		n.remote.mu.Unlock()
		return f.cfg.Files.Remove(name)
	}
	n.local, n.least = false, known.table()
	f.hold(n, known.table())
	open := make([]*file, 0, len(n.open))
	for w := range n.open {
		open = append(open, w)
	}
	f.mu.Unlock()
	n.remote.mu.Unlock()
	for _, w := range open {
		w.away()
	}
	f.left.Add(1)
	return f.cfg.Packs.Remove(name)
}

// stillThere asks the bucket for the end of a pack that it was told to have: since then somebody may have emptied it, or an object may have been replaced. If it
// is another one there, the pack stays.
func (f *FS) stillThere(id pack.ID, h tier.Info) error {
	base, err := f.cfg.Packs.Open(pack.PathOf(id), false)
	if err != nil {
		return err
	}
	defer base.Close()
	end, there := make([]byte, pack.FooterLen), make([]byte, pack.FooterLen)
	if err := readFull(base, end, h.Size-pack.FooterLen); err != nil {
		return err
	}
	_, info, err := f.ask(id, there, h.Size-pack.FooterLen)
	if err == nil && (info.Size != h.Size || !bytes.Equal(end, there)) {
		err = &sharefs.Error{Op: "fetch", Path: keyOf(id), Kind: sharefs.KindCorrupt, Detail: "the object in " + f.cfg.URL + " is another one than was put there"}
	}
	if sharefs.KindOf(err) == sharefs.KindCorrupt { // it is not asked for again before a root names it anew
		f.mu.Lock()
		delete(f.named, id)
		f.mu.Unlock()
	}
	return err
}

// writeNote writes a note that survives power loss, and nothing behind it but the tail.
func (f *FS) writeNote(n *note, tail []byte) error {
	name := pack.PathOf(n.id)
	if err := f.cfg.Files.Remove(name + newSuffix); err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return err
	}
	file, err := f.cfg.Files.Create(name + newSuffix)
	if err != nil {
		return err
	}
	_, err = file.WriteAt(append(n.encode(), tail...), 0)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = f.cfg.Files.Rename(name+newSuffix, name)
	}
	if err != nil {
		f.cfg.Files.Remove(name + newSuffix)
		return err
	}
	return f.cfg.Files.SyncDir(n.id.String()[:2])
}

// Adopt makes a pack that the bucket has a remote one, if it is not here: a restore calls it for each that the root names. It reads the ends of the pack.
func (f *FS) Adopt(ctx context.Context, h tier.Info) error {
	id, ok := IDOf(h.Key)
	if !ok {
		return &sharefs.Error{Op: "adopt", Path: h.Key, Kind: sharefs.KindInvalid, Detail: "that is no name of a sealed pack"}
	}
	f.change.Lock()
	defer f.change.Unlock()
	f.mu.Lock()
	n := f.nodes[id]
	f.mu.Unlock()
	if n != nil {
		return nil
	}
	if whole, err := f.cfg.Packs.Open(pack.PathOf(id), false); err == nil {
		return whole.Close()
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	known, tail, err := makeNote(f.bucketReader(id), id, h.Size, h.ETag, f.cfg.URL)
	if err != nil {
		return err
	}
	if err := f.writeNote(&known, tail); err != nil {
		return err
	}
	n = &node{id: id, size: h.Size, held: known.table(), least: known.table()}
	n.remote.note = known
	f.mu.Lock()
	defer f.mu.Unlock()
	f.enter(n)
	return nil
}

// Listed tells how the bucket has a remote pack: what a check can see without reading it.
type Listed struct {
	ID    pack.ID
	Size  int64 // of the pack, bytes
	Found int64 // length of the object; -1: there is none
	Other bool  // the object was replaced since the pack left the disk
	URL   string
}

// Check asks the bucket for all remote packs by a list of it, and calls fn for each. It errors with kind unreachable where the bucket does not answer.
func (f *FS) Check(ctx context.Context, fn func(Listed)) error {
	f.mu.Lock()
	list := make([]*node, 0)
	for _, n := range f.nodes {
		if !n.local {
			list = append(list, n)
		}
	}
	f.mu.Unlock()
	if len(list) == 0 {
		return nil
	}
	if err := f.down(list[0].id); err != nil {
		return err
	}
	there := map[pack.ID]tier.Info{}
	err := f.cfg.Bucket.List(ctx, "packs/", "", func(i tier.Info) bool {
		if id, ok := IDOf(i.Key); ok {
			there[id] = i
		}
		return true
	})
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return f.unreachable(list[0].id, "the bucket cannot be listed", err)
	}
	for _, n := range list {
		n.remote.mu.RLock()
		known := n.remote.note
		n.remote.mu.RUnlock()
		l := Listed{ID: n.id, Size: known.size, Found: -1, URL: known.url}
		if i, ok := there[n.id]; ok {
			l.Found = i.Size
			l.Other = known.etag != "" && i.ETag != "" && i.ETag != known.etag
		}
		if known.size == 0 && l.Found >= 0 {
			l.Size = l.Found // the note is damaged, and can be made anew
		}
		fn(l)
	}
	return nil
}

// HasBucket reports whether there is a bucket that can be asked.
func (f *FS) HasBucket() bool { return f.cfg.Bucket != nil }

// InBucket returns a reader of a pack as the bucket has it, whether or not it is here as well.
func (f *FS) InBucket(id pack.ID) io.ReaderAt { return f.bucketReader(id) }
