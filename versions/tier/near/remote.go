package near

import (
	"encoding/binary"
	"errors"
	"io"
	iofs "io/fs"
	"slices"
	"sync"

	"sharefs"
	"sharefs/versions/pack"
)

// remote is what is known of a pack whose file is not here.
type remote struct {
	mu      sync.RWMutex // guards what follows; mu of FS comes after it
	note    note         // of length 0: it is damaged
	kept    *kept        // nil: nobody has read it for as long as it is open
	flights []*flight
}

// kept is what is here of a pack that somebody has open.
type kept struct {
	file  pack.File // nil: nothing can be kept
	tail  []byte    // nil: what was kept of it is damaged
	sums  []uint32  // of blocks
	state []blockState
	count int64 // bytes of blocks
	// dropped counts how often blocks were given up: what was on its way then does not count as written.
	dropped int
}

type blockState uint8

// A block is here if it is whole; if it was not looked at since the pack was opened that is to be seen.
const (
	unseen blockState = iota
	whole
	missing
)

// has reports whether a block is, or may be, here.
func (k *kept) has(i int) bool { return k.state[i] == whole || k.state[i] == unseen && k.sums[i] != 0 }

// flight is a fetch of blocks under way; others wait for it.
type flight struct {
	from, to int           // blocks
	done     chan struct{} // closed when data or err is set
	data     []byte
	err      error
}

// load returns what is here of a remote pack, and its note.
func (f *FS) load(n *node) (*kept, note, error) {
	r := &n.remote
	r.mu.RLock()
	k, known := r.kept, r.note
	r.mu.RUnlock()
	if k != nil {
		return k, known, nil
	}
	if known.size == 0 {
		if _, err := f.sizeOf(n); err != nil {
			return nil, note{}, err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.kept == nil {
		r.kept = f.readKept(&r.note)
	}
	return r.kept, r.note, nil
}

// readKept reads what is behind a note. What cannot be read is not here.
func (f *FS) readKept(n *note) *kept {
	k := &kept{sums: make([]uint32, n.blocks()), state: make([]blockState, n.blocks())}
	file, err := f.cfg.Files.Open(pack.PathOf(n.id), !f.cfg.ReadOnly)
	if err != nil {
		if !errors.Is(err, iofs.ErrNotExist) {
			f.log.Warn("what was fetched of a pack cannot be read", "pack", n.id.String(), "err", err)
		}
		return k
	}
	k.file = file
	tail := make([]byte, n.size-n.tail)
	if readFull(file, tail, noteLen) == nil && checksum(tail) == n.sum {
		k.tail = tail
	} else {
		f.log.Warn("the end of a pack that is kept here is damaged: it is fetched", "pack", n.id.String())
	}
	raw := make([]byte, 4*len(k.sums))
	file.ReadAt(raw, n.table()) // what is not there is zero
	for i := range k.sums {
		if k.sums[i] = binary.BigEndian.Uint32(raw[4*i:]); k.sums[i] != 0 {
			k.count += n.blockSize(i)
		}
	}
	return k
}

// unload forgets what nobody has open.
func (f *FS) unload(n *node) {
	n.remote.mu.Lock()
	defer n.remote.mu.Unlock()
	f.mu.Lock()
	idle := len(n.open) == 0
	f.mu.Unlock()
	if k := n.remote.kept; k != nil && idle {
		if k.file != nil {
			k.file.Close()
		}
		n.remote.kept = nil
	}
}

// sizeOf returns the length of a pack. The bucket tells that of one whose note is damaged, and the note is made anew.
func (f *FS) sizeOf(n *node) (int64, error) {
	f.mu.Lock()
	size := n.size
	f.mu.Unlock()
	if size >= 0 {
		return size, nil
	}
	f.change.Lock()
	defer f.change.Unlock()
	f.mu.Lock()
	size = n.size
	f.mu.Unlock()
	if size >= 0 {
		return size, nil
	}
	_, info, err := f.ask(n.id, make([]byte, 1), 0)
	if err != nil {
		return 0, err
	}
	known, tail, err := makeNote(f.bucketReader(n.id), n.id, info.Size, info.ETag, f.cfg.URL)
	if err != nil {
		return 0, err
	}
	if !f.cfg.ReadOnly {
		if err := f.writeNote(&known, tail); err != nil {
			return 0, err
		}
	}
	n.remote.mu.Lock()
	defer n.remote.mu.Unlock()
	n.remote.note = known
	f.mu.Lock()
	defer f.mu.Unlock()
	n.size, n.least = known.size, known.table()
	f.hold(n, n.least)
	return n.size, nil
}

// readRemote is ReadAt of a remote pack.
func (f *FS) readRemote(n *node, w *walk, b []byte, off int64) (done int, err error) {
	k, known, err := f.load(n)
	if err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, &sharefs.Error{Op: "read pack", Path: n.id.String(), Kind: sharefs.KindInvalid}
	}
	want := b[:min(int64(len(b)), max(0, known.size-off))]
	for done < len(want) {
		m, err := f.readSome(n, k, &known, w, want[done:], off+int64(done))
		if done += m; err != nil {
			return done, err
		}
	}
	if done < len(b) {
		return done, io.EOF
	}
	return done, nil
}

// readSome reads at least one byte.
func (f *FS) readSome(n *node, k *kept, known *note, w *walk, b []byte, off int64) (int, error) {
	end := known.size
	switch {
	case off+int64(len(b)) <= pack.HeaderLen:
		return copy(b, known.head[off:]), nil
	case k.tail != nil && off >= known.tail:
		return copy(b, k.tail[off-known.tail:]), nil
	case k.tail != nil:
		end = known.tail
	}
	b = b[:min(int64(len(b)), end-off)]
	first, last := int(off/blockLen), int((off+int64(len(b))-1)/blockLen)
	if from, to := w.read(first, last+1, known.blocks(), f.outage.window()); from < to {
		f.ahead(n, k, known, from, to)
	}
	if m, err := f.readHere(n, k, b, off); m > 0 || err != nil {
		f.hits.Add(uint64(m))
		return m, err
	}
	data, from, err := f.fill(n, k, known, first, last+1)
	if err != nil || data == nil {
		return 0, err
	}
	return copy(b, data[off-from:]), nil
}

// readHere reads what is here, up to the first block that is not; 0: none is.
func (f *FS) readHere(n *node, k *kept, b []byte, off int64) (int, error) {
	n.remote.mu.RLock()
	defer n.remote.mu.RUnlock()
	m := 0
	for m < len(b) {
		i := int((off + int64(m)) / blockLen)
		if k.state[i] != whole {
			break
		}
		m = int(min(int64(len(b)), int64(i+1)*blockLen-off))
	}
	if m == 0 {
		return 0, nil
	}
	return k.file.ReadAt(b[:m], n.remote.note.data()+off)
}

// fill sees that a block is here, and returns it with those that came with it; off is where the first of them begins in the pack. Without an error and data it is to
// be looked for again. Up to the block to, more are of use.
func (f *FS) fill(n *node, k *kept, known *note, i, to int) (data []byte, off int64, err error) {
	r := &n.remote
	r.mu.Lock()
	switch {
	case k.state[i] == whole:
		r.mu.Unlock()
		return nil, 0, nil
	case k.has(i):
		data = make([]byte, known.blockSize(i))
		if readFull(k.file, data, known.data()+int64(i)*blockLen) == nil && blockSum(data) == k.sums[i] {
			k.state[i] = whole
			r.mu.Unlock()
			f.hits.Add(uint64(len(data)))
			return data, int64(i) * blockLen, nil
		}
		k.forget(i, known)
	}
	fl := r.flight(i)
	if fl == nil {
		fl = r.begin(k, i, to)
		r.mu.Unlock()
		f.fly(n, k, known, fl)
	} else {
		r.mu.Unlock()
		<-fl.done
	}
	return fl.data, int64(fl.from) * blockLen, fl.err
}

// flight returns the fetch of a block; r.mu is held.
func (r *remote) flight(i int) *flight {
	for _, fl := range r.flights {
		if fl.from <= i && i < fl.to {
			return fl
		}
	}
	return nil
}

// begin enters a fetch from a block on, up to the first that is here or under way; r.mu is held.
func (r *remote) begin(k *kept, i, to int) *flight {
	fl := &flight{from: i, to: i + 1, done: make(chan struct{})}
	for fl.to < min(to, i+maxWindow) && !k.has(fl.to) && r.flight(fl.to) == nil {
		fl.to++
	}
	r.flights = append(r.flights, fl)
	return fl
}

// ahead fetches what is missing of blocks that are likely to be read next, in the background.
func (f *FS) ahead(n *node, k *kept, known *note, from, to int) {
	r := &n.remote
	for from < to {
		r.mu.Lock()
		for from < to && (k.has(from) || r.flight(from) != nil) {
			from++
		}
		if from >= to {
			r.mu.Unlock()
			return
		}
		fl := r.begin(k, from, to)
		r.mu.Unlock()
		from = fl.to
		if !f.spawn(func() { f.fly(n, k, known, fl) }) {
			f.fly(n, k, known, fl) // which fails at once
		}
	}
}

// fly carries a fetch out, and keeps what it brings. Whoever waits for it has it before it is written.
func (f *FS) fly(n *node, k *kept, known *note, fl *flight) {
	off := int64(fl.from) * blockLen
	data := make([]byte, min(int64(fl.to)*blockLen, known.size)-off)
	r := &n.remote
	r.mu.RLock()
	dropped := k.dropped
	r.mu.RUnlock()
	_, _, err := f.ask(n.id, data, off)
	if err == nil {
		fl.data = data
	}
	fl.err = err
	close(fl.done)
	keep := err == nil && k.file != nil && !f.cfg.ReadOnly
	if keep {
		_, err := k.file.WriteAt(data, known.data()+off)
		keep = err == nil // a disk that is full, or fails, keeps nothing
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, other := range r.flights {
		if other == fl {
			r.flights[i] = r.flights[len(r.flights)-1]
			r.flights = r.flights[:len(r.flights)-1]
			break
		}
	}
	if keep && r.kept == k && k.dropped == dropped {
		f.keepBlocks(n, k, known, fl)
	}
}

// keepBlocks notes that blocks, which were written, are here; r.mu is held.
func (f *FS) keepBlocks(n *node, k *kept, known *note, fl *flight) {
	sums := make([]byte, 0, 4*(fl.to-fl.from))
	for i := fl.from; i < fl.to; i++ {
		k.forget(i, known)
		at := int64(i-fl.from) * blockLen
		sums = binary.BigEndian.AppendUint32(sums, blockSum(fl.data[at:at+known.blockSize(i)]))
	}
	if _, err := k.file.WriteAt(sums, known.table()+4*int64(fl.from)); err != nil {
		return
	}
	for i := fl.from; i < fl.to; i++ {
		k.sums[i], k.state[i] = binary.BigEndian.Uint32(sums[4*(i-fl.from):]), whole
		k.count += known.blockSize(i)
	}
	f.account(n, k, known)
}

// forget takes a block for one that is not here; r.mu is held.
func (k *kept) forget(i int, known *note) {
	if k.sums[i] != 0 {
		k.count -= known.blockSize(i)
	}
	k.sums[i], k.state[i] = 0, missing
}

// account says what a remote pack takes on the disk; r.mu is held.
func (f *FS) account(n *node, k *kept, known *note) {
	f.mu.Lock()
	f.hold(n, known.data()+k.count)
	over := f.cfg.Budget > 0 && f.held > f.cfg.Budget
	f.mu.Unlock()
	if over {
		f.Rouse()
	}
}

// drop gives up the blocks of a remote pack.
func (f *FS) drop(n *node) error {
	r := &n.remote
	r.mu.Lock()
	defer r.mu.Unlock()
	if k := r.kept; k != nil {
		if k.file == nil {
			return nil
		}
		for i := range k.sums {
			k.sums[i], k.state[i] = 0, missing
		}
		k.count = 0
		k.dropped++
		err := k.file.Truncate(r.note.table())
		f.mu.Lock()
		defer f.mu.Unlock()
		f.hold(n, r.note.table())
		return err
	}
	file, err := f.cfg.Files.Open(pack.PathOf(n.id), true)
	if err != nil {
		return err
	}
	err = file.Truncate(r.note.table())
	f.mu.Lock()
	f.hold(n, r.note.table())
	f.mu.Unlock()
	return errors.Join(err, file.Close())
}

// distrust has a range fetched again when it is read.
func (f *FS) distrust(n *node, off, length int64) bool {
	k, known, err := f.load(n)
	if err != nil || length <= 0 {
		return false
	}
	r := &n.remote
	r.mu.Lock()
	defer r.mu.Unlock()
	k.dropped++
	first, last := int(off/blockLen), int((min(off+length, known.size)-1)/blockLen)
	r.flights = slices.DeleteFunc(r.flights, func(fl *flight) bool { return fl.from <= last && first < fl.to }) // what they brought, or bring, is not to be had again
	for i := first; i <= last; i++ {
		k.forget(i, &known)
		if k.file != nil && !f.cfg.ReadOnly {
			k.file.WriteAt(make([]byte, 4), known.table()+4*int64(i)) // a block that stays has the checksum of what it is, and fails again
		}
	}
	return true
}

// direct returns a reader of a pack as it lies in the bucket, for one that goes from front to back.
func (f *FS) direct(n *node) io.ReaderAt {
	var buf []byte
	var at int64
	next := int64(blockLen)
	return reader(func(b []byte, off int64) (int, error) {
		size, err := f.sizeOf(n)
		if err != nil {
			return 0, err
		}
		if off >= size {
			return 0, io.EOF
		}
		end := min(off+int64(len(b)), size)
		if off < at || end > at+int64(len(buf)) {
			length := min(max(end-off, next), size-off)
			if off == at+int64(len(buf)) || off > at && off <= at+int64(len(buf)) {
				next = min(4*next, maxWindow*blockLen)
			}
			if int64(cap(buf)) < length {
				buf = make([]byte, length)
			}
			buf, at = buf[:length], off
			if _, _, err := f.ask(n.id, buf, off); err != nil {
				buf = buf[:0]
				return 0, err
			}
		}
		m := copy(b, buf[off-at:end-at])
		if m < len(b) {
			return m, io.EOF
		}
		return m, nil
	})
}
