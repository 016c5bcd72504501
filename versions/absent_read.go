package versions

import (
	"errors"
	"sync"

	"golang.org/x/sys/unix"

	"sharefs"
)

// partial is an absent file as long as somebody has it open or brings it here: what of its backing file is known to be right, and where the rest comes from.
type partial struct {
	t   *Tree
	f   *file // nil: it is looked at only
	ino sharefs.Ino
	v   *version // whose content it is
	key *shareKey
	bad error // why there is no key

	// saving is held shared while a chunk is written into the backing file, and exclusively by whoever ends that for good.
	saving  sync.RWMutex
	retired bool // guarded by saving: the file has another content by now, or all of this and may be written to

	mu     sync.Mutex // guards what follows
	walk   walker
	names  *namers
	here   map[int64]bool         // chunks that are right in the backing file, by where they begin
	flight map[int64]*flight      // chunks that somebody is getting
	remote Remote                 // nil: not asked for yet
	next   int64                  // where who reads from front to back goes on
	run    int64                  // how far he has come, in bytes
	told   int64                  // up to where the remote was told what is wanted
	added  bool                   // something came since it was opened
	recent [recentChunks]struct { // chunks that are not in the backing file for want of room
		at   int64
		data []byte
	}
	turn int
}

// recentChunks is how many chunks that were not kept are at hand, for a chunk is read in several pieces.
const recentChunks = 4

// flight is a chunk on its way.
type flight struct {
	done   chan struct{} // closed with what follows
	data   []byte
	err    error
	gaveUp bool // who was getting it was told to end, or not patient, which is no news for others
}

// Bounds of what is asked for ahead of who reads from front to back, in bytes.
const (
	aheadLeast = 256 << 10
	aheadMost  = 32 << 20
)

func newPartial(f *file, t *Tree, v *version) *partial {
	p := &partial{t: t, f: f, ino: v.ino, v: v, names: t.keys.namers(), here: map[int64]bool{}, flight: map[int64]*flight{}}
	h := &t.past
	p.walk = walker{top: v.top, size: int64(v.size), load: func(id sharefs.ChunkID, _ uint8) ([]byte, error) { return h.readChunk(id, nil) }}
	c, err := t.contentOf(v)
	if err == nil {
		p.key, err = t.keyFor(c)
	}
	p.bad = err
	return p
}

// openPartial has an absent file that is open read what is not here; nil: it is not absent. EINTR: cancel was closed while somebody emptied it.
func (t *Tree) openPartial(cancel <-chan struct{}, f *file) (*partial, error) {
	for {
		f.mu.Lock()
		p, emptying := f.part.Load(), f.emptying
		absent := t.absentNow(f.ino)
		f.mu.Unlock()
		if p != nil || !absent {
			return p, nil
		}
		if emptying != nil {
			select {
			case <-emptying:
				continue
			case <-cancel:
				return nil, failed("read", unix.EINTR)
			}
		}
		r, err := t.row(f.ino)
		if err != nil {
			return nil, err
		}
		v, err := newestVersion(t.db, f.ino, noLimit)
		if err != nil {
			return nil, err
		}
		good := v != nil && v.place == placeKept && v.size == r.size
		if p, err := t.startPartial(f, r, v, good); p != nil || err != nil {
			return p, err
		}
	}
}

// startPartial has who reads an absent file find what is here by a row and a version; nil: it has changed meanwhile. Good is false where they do not fit, for which it errors then.
func (t *Tree) startPartial(f *file, r *row, v *version, good bool) (*partial, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now, err := t.row(f.ino)
	if err != nil || now != r || f.part.Load() != nil || f.emptying != nil {
		return nil, err
	}
	if !good {
		return nil, corrupt("the version that an absent file has", f.ino)
	}
	if err := t.ready(f.ino, int64(v.size)); err != nil {
		return nil, err
	}
	p := newPartial(f, t, v)
	f.part.Store(p)
	return p, nil
}

// errRetired tells who reads that the file has another content now.
var errRetired = errors.New("the file is another one by now")

// retire ends it: nothing is written into the backing file any more.
func (p *partial) retire() {
	p.saving.Lock()
	p.retired = true
	p.saving.Unlock()
	p.idle()
}

func (p *partial) isRetired() bool {
	p.saving.RLock()
	defer p.saving.RUnlock()
	return p.retired
}

// idle says that nobody reads at present.
func (p *partial) idle() {
	p.mu.Lock()
	r := p.remote
	p.run, p.told = 0, 0
	p.mu.Unlock()
	if r != nil {
		r.Drop()
	}
}

// readAt reads; cancel, when closed, ends waiting. Errors: KindUnreachable: nobody has what is missing; errRetired.
func (p *partial) readAt(cancel <-chan struct{}, b []byte, off int64) (n int, err error) {
	size := int64(p.v.size)
	for n < len(b) && off < size {
		l, err := p.at(off)
		if err != nil {
			return n, err
		}
		in := off - l.off
		part := b[n:min(len(b), n+int(min(l.len-in, int64(len(b)))))]
		switch {
		case l.hole:
			clear(part)
		case p.isHere(l.off):
			m, err := p.pread(part, off)
			if p.isRetired() {
				return 0, errRetired
			}
			if err != nil {
				return n, err
			}
			if m < len(part) {
				return n, corrupt("a backing file", p.ino)
			}
		default:
			data, err := p.chunk(cancel, l, false, true)
			if err != nil {
				return n, err
			}
			copy(part, data[in:])
		}
		n, off = n+len(part), off+int64(len(part))
	}
	if p.isRetired() {
		return 0, errRetired
	}
	return n, nil
}

// at finds the chunk, or hole, that covers a place in the file.
func (p *partial) at(off int64) (located, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l, err := p.walk.at(off)
	return l, err
}

func (p *partial) isHere(at int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.here[at]
}

// pread reads the backing file.
func (p *partial) pread(b []byte, off int64) (n int, err error) {
	fd, err := p.t.live.openProbe(p.ino)
	if err != nil {
		return 0, failed("read", err)
	}
	defer unix.Close(fd)
	n, err = preadFull(fd, b, off)
	return n, failed("read", err)
}

// good reports whether bytes are what a name stands for.
func (p *partial) good(l *located, data []byte) bool {
	if p.bad != nil || int64(len(data)) != l.len {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.names.of(p.key).ID(data) == l.id
}

// chunk returns a chunk that is not known to be in the backing file, and puts it there; whoever wants it kept is told if that fails. Who is patient waits for somebody who has it to come.
func (p *partial) chunk(cancel <-chan struct{}, l located, keep, patient bool) ([]byte, error) {
	for {
		p.mu.Lock()
		fl := p.flight[l.off]
		if fl == nil {
			fl = &flight{done: make(chan struct{})}
			p.flight[l.off] = fl
			p.mu.Unlock()
			var saved error
			fl.data, saved, fl.err = p.get(cancel, &l, keep, patient)
			if fl.err != nil {
				fl.gaveUp = !patient
				select {
				case <-cancel:
					fl.gaveUp = true
				default:
				}
			}
			p.mu.Lock()
			if fl.err == nil && saved != nil {
				p.recent[p.turn].at, p.recent[p.turn].data = l.off, fl.data
				p.turn = (p.turn + 1) % recentChunks
			}
			delete(p.flight, l.off)
			p.mu.Unlock()
			close(fl.done)
			if fl.err == nil && keep && saved != nil {
				return nil, saved
			}
			return fl.data, fl.err
		}
		p.mu.Unlock()
		select {
		case <-fl.done:
		case <-cancel:
			return nil, failed("read", unix.EINTR)
		}
		if fl.err == nil && (!keep || p.isHere(l.off)) {
			return fl.data, nil
		}
		if fl.err != nil && !fl.gaveUp {
			return nil, fl.err
		}
	}
}

// get finds a chunk: in the backing file, in packs, or elsewhere. Saved tells why it is not in the backing file now.
func (p *partial) get(cancel <-chan struct{}, l *located, keep, patient bool) (data []byte, saved, err error) {
	if p.bad != nil {
		return nil, nil, p.bad
	}
	if data := p.lately(l.off); data != nil {
		return data, p.save(l, data, keep), nil
	}
	p.readAhead(l)
	h := &p.t.past
	if data := p.onDisk(l); data != nil {
		p.came(l, false)
		return data, nil, nil
	}
	if ok, err := h.has(&l.id); err == nil && ok {
		if b, err := h.readChunk(l.id, nil); err == nil && p.good(l, b) {
			return b, p.save(l, b, keep), nil
		}
	}
	remote, err := p.from()
	if err != nil {
		return nil, nil, err
	}
	b, err := remote.Get(cancel, l.id, patient)
	if err != nil {
		return nil, nil, err
	}
	if !p.good(l, b) {
		return nil, nil, &sharefs.Error{Op: "read", Kind: sharefs.KindCorrupt, Detail: "what was sent as chunk " + l.id.String() + " is another one"}
	}
	return b, p.save(l, b, keep), nil
}

// onDisk returns a chunk that the backing file has; nil: it has not.
func (p *partial) onDisk(l *located) []byte {
	fd, err := p.t.live.openProbe(p.ino)
	if err != nil {
		return nil
	}
	at, err := unix.Seek(fd, l.off, unix.SEEK_DATA)
	unix.Close(fd)
	if err != nil || at >= l.off+l.len {
		return nil
	}
	data := make([]byte, l.len)
	if n, err := p.pread(data, l.off); err != nil || n < len(data) || !p.good(l, data) {
		return nil
	}
	return data
}

// lately returns a chunk that came and was not kept.
func (p *partial) lately(at int64) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.recent {
		if r.data != nil && r.at == at {
			return r.data
		}
	}
	return nil
}

// from returns where the content comes from.
func (p *partial) from() (Remote, error) {
	p.mu.Lock()
	r := p.remote
	p.mu.Unlock()
	if r != nil {
		return r, nil
	}
	r, err := p.t.remoteOf(p.v)
	if err == nil {
		p.mu.Lock()
		p.remote = r
		p.mu.Unlock()
	}
	return r, err
}

// remoteOf returns where the content of a version can be had.
func (t *Tree) remoteOf(v *version) (Remote, error) {
	e := t.elsewhere.Load()
	if e == nil {
		return nil, &sharefs.Error{Op: "read", Kind: sharefs.KindUnreachable, Detail: "the content is on other hosts, and none is connected"}
	}
	c, err := t.contentOf(v)
	if err != nil {
		return nil, err
	}
	return (*e).Find(v.ino, c)
}

func (p *partial) came(l *located, added bool) {
	p.mu.Lock()
	p.here[l.off] = true
	p.added = p.added || added
	p.mu.Unlock()
}

// errOverBudget tells that a chunk is not kept, for there is no room for it in the budget.
var errOverBudget = errors.New("the budget has no room")

// save puts a chunk into the backing file, if there is room or it is to be kept anyway.
func (p *partial) save(l *located, data []byte, keep bool) error {
	p.saving.RLock()
	defer p.saving.RUnlock()
	if p.retired {
		return errRetired
	}
	if admit := p.t.admit.Load(); admit != nil && !(*admit)(uint64(len(data)), keep) && !keep {
		return errOverBudget
	}
	if err := p.t.reserve.refuse("read"); err != nil { // the room that is left is for what is written here
		return err
	}
	fd, err := p.t.live.open(p.ino, unix.O_WRONLY)
	if err != nil {
		return failed("write a backing file", err)
	}
	defer unix.Close(fd)
	for n := 0; n < len(data); {
		m, err := ignoringEINTR(func() (int, error) { return unix.Pwrite(fd, data[n:], l.off+int64(n)) })
		if err != nil {
			return failed("write a backing file", err)
		}
		n += m
	}
	p.came(l, true)
	return nil
}

// readAhead has what follows a chunk asked for, of who reads from front to back.
func (p *partial) readAhead(l *located) {
	p.mu.Lock()
	if d := l.off - p.next; p.run > 0 && (d > 1<<20 || d < -1<<20) { // several reads of the kernel are on their way at once
		p.run, p.told = 0, 0
	}
	p.next = l.off + l.len
	p.run += l.len
	from := max(p.told, p.next)
	end := min(int64(p.v.size), p.next+min(max(2*p.run, aheadLeast), aheadMost))
	if end-from < min(aheadLeast, int64(p.v.size)-from) || from >= end {
		p.mu.Unlock()
		return
	}
	list, upTo := p.lacking(from, end)
	p.told = upTo
	p.mu.Unlock()
	if len(list) == 0 {
		return
	}
	if remote, err := p.from(); err == nil {
		remote.Want(list...)
	}
}

// lacking lists chunks from one place on that are neither here nor likely to be, up to where it looked. p.mu is held.
func (p *partial) lacking(from, end int64) (list []sharefs.ChunkID, upTo int64) {
	fd, err := p.t.live.openProbe(p.ino)
	if err != nil {
		return nil, end
	}
	defer unix.Close(fd)
	for from < end {
		l, err := p.walk.at(from)
		if err != nil {
			return list, end
		}
		from = l.off + l.len
		if l.hole || p.here[l.off] {
			continue
		}
		if data, err := unix.Seek(fd, l.off, unix.SEEK_DATA); err == nil && data < from {
			continue
		}
		if ok, err := p.t.past.has(&l.id); err == nil && !ok {
			list = append(list, l.id)
		}
	}
	return list, from
}

// allHere reports whether the backing file holds the whole content, by looking at all of it that is not known.
func (p *partial) allHere() (bool, error) {
	for off := int64(0); off < int64(p.v.size); {
		l, err := p.at(off)
		if err != nil {
			return false, err
		}
		off = l.off + l.len
		if l.hole || p.isHere(l.off) {
			continue
		}
		data := make([]byte, l.len)
		n, err := p.pread(data, l.off)
		if err != nil {
			return false, err
		}
		if n < len(data) || !p.good(&l, data) {
			return false, nil
		}
		p.came(&l, false)
	}
	return true, nil
}

// known reports whether all of the content is known to be here.
func (p *partial) known() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for off := int64(0); off < int64(p.v.size); {
		l, err := p.walk.at(off)
		if err != nil || !l.hole && !p.here[l.off] {
			return false
		}
		off = l.off + l.len
	}
	return true
}

// nextData is [VersionReader]'s NextData: it asks nobody.
func (p *partial) nextData(off int64) (start, end int64, err error) {
	size := int64(p.v.size)
	for off < size {
		l, err := p.at(off)
		if err != nil {
			return 0, 0, err
		}
		if !l.hole {
			return off, l.off + l.len, nil
		}
		off = l.off + l.len
	}
	return size, size, nil
}

// seek finds data or a hole, as lseek(2) does.
func (p *partial) seek(off int64, whence int) (int64, error) {
	size := int64(p.v.size)
	if off >= size {
		return 0, failed("seek", unix.ENXIO)
	}
	for {
		start, end, err := p.nextData(off)
		switch {
		case err != nil:
			return 0, err
		case whence == unix.SEEK_HOLE && start > off:
			return off, nil
		case whence == unix.SEEK_DATA && start >= size:
			return 0, failed("seek", unix.ENXIO)
		case whence == unix.SEEK_DATA:
			return start, nil
		case end >= size:
			return size, nil
		}
		off = end
	}
}
