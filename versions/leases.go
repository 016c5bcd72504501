package versions

import (
	"slices"
	"sync"

	"sharefs"
)

// leases keep the garbage collection (gc.go) from what is in use and has no row of a version that says so.
//
// Whoever makes a version row, or any other claim on chunks that outlasts it, takes a lease first and adds the name of each chunk to it before looking
// whether a pack has it; the lease ends when the claim is committed, or given up. A chunk on a lease keeps its row, and the record that the row
// leads to; a record that is on a lease and has no row yet keeps its pack. What was on a lease that ended while a collection was at work counts as
// marked by it, for its mark may have passed the place of the version's row already.
//
// Readers of versions are known too: a version whose row retention takes away keeps its chunks until it is closed.
type leases struct {
	mu     sync.Mutex // guards what follows, and is held while rows of chunks are taken out; of the store's locks it comes first, after history.capturing
	active map[*lease]struct{}
	run    bool       // a collection is at work
	ended  idSet      // what was on leases that ended since it began
	tops   []manifest // held by leases that ended since
	all    bool       // one of those had more than it could name

	reading sync.Mutex // guards readers: who opens a version does not wait for rows that are taken out
	readers map[*keptReader]struct{}
}

// lease holds chunks for one batch. One goroutine uses it.
type lease struct {
	of  *leases
	ids idSet
	all bool // more than maxLeased: it holds every chunk that there is
	// tops lead to more chunks that are held, as those of a version that is being read are: its row was there when they came on the lease.
	tops []manifest
}

// Bounds of what is remembered, in chunks: three quarters of a table of 128 MiB. Beyond them nothing is taken out as long as it lasts; a single file
// has as many from some 800 GB on.
const (
	maxLeased = 12 << 20
	maxEnded  = 12 << 20
)

func (l *leases) open() {
	l.active, l.readers = map[*lease]struct{}{}, map[*keptReader]struct{}{}
}

// take begins a lease; end must follow.
func (l *leases) take() *lease {
	x := &lease{of: l}
	l.mu.Lock()
	l.active[x] = struct{}{}
	l.mu.Unlock()
	return x
}

// add puts a chunk on the lease. What the rows say of it afterwards holds until the lease ends, but that the record may move to another pack.
func (x *lease) add(id *sharefs.ChunkID) {
	x.of.mu.Lock()
	defer x.of.mu.Unlock()
	if x.all || x.ids.n >= maxLeased {
		x.all = true
		x.ids.release()
		return
	}
	x.ids.add(fingerprint(id))
}

// end gives the chunks free.
func (x *lease) end() {
	l := x.of
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.active, x)
	if l.run {
		l.tops = append(l.tops, x.tops...) // a few for each capture of a large file
	}
	if l.run && !l.all {
		if l.all = x.all || l.ended.n+x.ids.n > maxEnded; l.all {
			l.ended.release()
		} else {
			x.ids.each(func(v uint64) { l.ended.add(v) })
		}
	}
	x.ids.release()
}

// begin has what is leased from now on remembered until finish.
func (l *leases) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.run = true
}

func (l *leases) finish() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.run, l.all, l.tops = false, false, nil
	l.ended.release()
}

// held reports whether a chunk is on a lease now.
func (l *leases) held(id *sharefs.ChunkID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.holds(fingerprint(id))
}

func (l *leases) holds(v uint64) bool {
	for x := range l.active {
		if x.all || x.ids.has(v) {
			return true
		}
	}
	return false
}

// unless calls fn with those of some rows whose chunks are on no lease and were on none since begin, while none can be put on one, and used with
// the others.
func (l *leases) unless(rows []chunkRow, used func(r *chunkRow), fn func(free []chunkRow) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	free := rows[:0]
	for i := range rows {
		if v := fingerprint(&rows[i].id); l.all || l.ended.has(v) || l.holds(v) {
			used(&rows[i])
		} else {
			free = append(free, rows[i])
		}
	}
	if len(free) == 0 {
		return nil
	}
	return fn(free)
}

// enter makes a reader known.
func (l *leases) enter(r *keptReader) {
	l.reading.Lock()
	l.readers[r] = struct{}{}
	l.reading.Unlock()
}

func (l *leases) leave(r *keptReader) {
	l.reading.Lock()
	delete(l.readers, r)
	l.reading.Unlock()
}

// hold puts all chunks of a version on the lease. Its row has to be there still afterwards. A mark that does not find the row comes later, and takes up the
// chunks when it is through with the rows (beingRead), for the lease is there then or has ended since the collection began.
func (x *lease) hold(top manifest) {
	x.of.mu.Lock()
	defer x.of.mu.Unlock()
	x.tops = append(x.tops, top)
}

// beingRead lists the manifests of the versions that are being read, or held by leases.
func (l *leases) beingRead() []manifest {
	l.mu.Lock()
	held := slices.Clone(l.tops)
	for x := range l.active {
		held = append(held, x.tops...)
	}
	l.mu.Unlock()
	return append(held, l.read()...)
}

// read lists the manifests of the versions that are being read.
func (l *leases) read() []manifest {
	l.reading.Lock()
	defer l.reading.Unlock()
	list := make([]manifest, 0, len(l.readers))
	for r := range l.readers {
		list = append(list, r.walk.top)
	}
	return list
}
