package versions

import (
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/versions/chunk"
	"sharefs/versions/pack"
	"sharefs/versions/writers"
)

// The capture brings versions into packs, one after the other, in the background:
//
//  1. queue    the rows of the space pending, read some at a time: memory does not grow with them, and they survive whatever ends
//     the daemon
//  2. source   the live backing file, or the one that was set aside
//  3. cut      the content into chunks and holes (package chunk); name them; those that a pack has are passed over
//  4. seal     the others into the pack that grows (package pack)
//  5. check    that the version's row still points where the content was read: then it was not changed meanwhile, for the row is changed
//     before the content is. Otherwise it is read again from its new place
//  6. sync     the pack: what is captured survives power loss before any row says so
//  7. commit   rows of chunks, then of versions, and sync the journal; from then on the live file may change freely
//  8. tidy     remove what was set aside, let go of the backing files of inodes without a name
//
// 1 to 5 are done for many versions before 6 to 8 are done once for all of them. All is sequential, in one goroutine. Versions of files that
// somebody may write to meanwhile, and those that Commit and Restore take, go the way from 3 on at once (capture_timed.go).

// noLimit stands for no upper bound of the own numbers of an inode.
const noLimit = math.MaxUint64

// Bounds of a batch, which is also what a crash makes the capture do again.
const (
	batchVersions = 2048
	batchBytes    = 64 << 20
	batchChunks   = 8192
	batchTime     = 2 * time.Second
	commitRows    = 32   // version rows in one commit: others wait for Tree.mu meanwhile
	chunkRows     = 2048 // chunk rows in one commit
	checkEvery    = 16 << 20
	smallStep     = 16 << 10         // bytes that a chunk or hole counts for at least
	retryAfter    = 10 * time.Minute // a version that could not be read
	urgentSize    = 64 << 20         // bytes that take so long to copy that a writer had better not have to wait for it
	maxUrgent     = 1024             // remembered; the others wait for their turn
	maxRetries    = 1000             // remembered
)

// batch is what has been captured and not yet committed.
type batch struct {
	h        *history
	tools    *tools
	pace     *pacer
	lease    *lease // on all chunks of the versions
	given    uint64 // how many packs had been given up when it began: another one takes its chunks with it
	chunks   map[sharefs.ChunkID]pack.Loc
	versions []captured
	early    map[versionID]bool   // of versions: those that were taken before their turn
	large    map[sharefs.Ino]bool // of versions: large files
	bytes    int64
	began    time.Time
}

// captured is a version whose content is in packs.
type captured struct {
	id    versionID
	stamp writers.Stamp // of the content that was read
	top   manifest
	key   uint64 // as in the version
}

// tools are what capturing takes beside the packs; one content at a time. They hold 2 MiB.
type tools struct {
	behind bool // those of the capture itself
	key    *shareKey
	cutter *chunk.Chunker
	namer  *chunk.Hasher
	maps   mapper
}

// newTools returns tools for the key in use.
func (h *history) newTools() *tools { return newTools(h.t.keys.load().use) }

func newTools(k *shareKey) *tools {
	return &tools{key: k, cutter: chunk.NewChunker(k.gear()), namer: chunk.NewHasher(k.chunk)}
}

// run captures until the tree is closed.
func (h *history) run() {
	t := h.t
	pause := time.Second
	again := time.NewTicker(retryAfter) // for what could not be read: nothing else tells of that
	defer again.Stop()
	for {
		select {
		case <-t.stop:
			return
		case <-h.wake:
		case <-again.C:
		}
		for {
			if h.hurries() {
				h.pace.hurry()
			} else if !h.pace.ready(h.waiting()) {
				return
			}
			n, err := 0, t.reserve.refuse("capture versions")
			if err == nil {
				n, err = h.capture()
			}
			if errors.Is(err, errStopped) {
				return
			}
			h.note(err)
			if err != nil {
				t.log.Warn("versions wait to be captured", "err", err)
				if !h.lull(pause, err) {
					return
				}
				pause = min(2*pause, time.Minute)
				continue
			}
			pause = time.Second
			if n == 0 && !h.quickens() {
				break
			}
		}
	}
}

// lull waits after an error before the next try, on a full disk only until there is room: the error, and what waits, stay as long as it takes. It
// reports false if the tree is being closed.
func (h *history) lull(pause time.Duration, err error) bool {
	t := h.t
	if !noRoom(err) {
		return t.sleep(pause)
	}
	had := t.reserve.free()
	for end := time.Now().Add(pause); ; {
		left := time.Until(end)
		if left <= 0 || t.reserve.free() >= had+roomMade {
			return true
		}
		if !t.sleep(min(left, roomLook)) {
			return false
		}
	}
}

// How often a capture on a full disk looks for room, and how many bytes more than before are worth another try.
const (
	roomLook = time.Second
	roomMade = 1 << 20
)

// note keeps the last error for the status.
func (h *history) note(err error) {
	h.mu.Lock()
	h.lastErr = err
	h.mu.Unlock()
}

// waiting returns since when something waits.
func (h *history) waiting() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.oldest
}

// capture does one batch and returns how many versions it dealt with; 0: nothing waits, or what waits cannot be read at present.
func (h *history) capture() (n int, err error) {
	h.capturing.Lock()
	defer h.capturing.Unlock()
	if n, err = h.captureQuick(); n > 0 || err != nil {
		return n, err
	}
	n, err = h.captureTimed()
	if err != nil {
		return n, err
	}
	b := h.newBatch(h.tools)
	defer b.lease.end()
	defer func() {
		if err2 := b.finish(); err == nil {
			err = err2
		}
	}()
	for id, ok := h.nextUrgent(); ok; id, ok = h.nextUrgent() {
		if b.large[id.ino] {
			return n, nil
		}
		b.early[id] = true
		done, err := b.add(id)
		if err != nil {
			return n, err
		}
		if done {
			n++
		}
		if b.full() {
			return n, nil
		}
	}
	// From where the last batch ended to the end of the queue, then from its beginning to there.
	start := h.cursor
	for _, part := range [...]struct{ from, to versionID }{{start, endOfQueue}, {versionID{}, start}} {
		for h.cursor = part.from; ; {
			ids := h.pending(h.cursor, part.to, batchVersions)
			if len(ids) == 0 {
				break
			}
			for _, id := range ids {
				if h.quickens() {
					return n, nil
				}
				h.cursor = versionID{id.ino, id.own + 1}
				if b.early[id] {
					continue
				}
				if b.large[id.ino] { // the one before is to be its basis, and has to be committed
					h.cursor = id
					return n, nil
				}
				done, err := b.add(id)
				if err != nil {
					return n, err
				}
				if done {
					n++
				}
				if b.full() {
					return n, nil
				}
			}
		}
	}
	h.cursor = versionID{}
	h.mu.Lock()
	h.oldest = time.Time{}
	h.mu.Unlock()
	return n, nil
}

// captureQuick captures what is to be captured at once, in batches of its own for which somebody waits.
func (h *history) captureQuick() (n int, err error) {
	h.mu.Lock()
	list := h.quick
	h.quick = nil
	h.mu.Unlock()
	if len(list) == 0 {
		return 0, nil
	}
	b := h.newBatch(h.tools)
	defer b.lease.end()
	for _, id := range list { // small ones, maxUrgent at the most
		done, err := b.add(id)
		if err != nil {
			return n, err
		}
		if done {
			n++
		}
	}
	return n, b.finish()
}

// quickens reports whether something is to be captured at once.
func (h *history) quickens() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.quick) > 0
}

// hurries reports whether something is to be captured before all others.
func (h *history) hurries() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.urgent) > 0 || len(h.quick) > 0
}

// nextUrgent takes a version that is to be captured before all others. What is not done then waits in the queue as the others do.
func (h *history) nextUrgent() (id versionID, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.urgent) == 0 {
		return id, false
	}
	id = h.urgent[0]
	h.urgent = h.urgent[1:]
	return id, true
}

// endOfQueue comes after every version.
var endOfQueue = versionID{noLimit, noLimit}

// pending lists up to n versions of the queue that lie between two places in it.
func (h *history) pending(from, to versionID, n int) (ids []versionID) {
	err := h.t.db.Scan(spacePending, pendingKey(from.ino, from.own), pendingKey(to.ino, to.own), func(key, _ []byte) bool {
		if len(key) == 16 {
			ids = append(ids, versionID{keyIno(key), binary.BigEndian.Uint64(key[8:])})
		}
		return len(ids) < n
	})
	if err != nil {
		h.t.log.Error("the queue of versions cannot be read", "err", err)
	}
	return ids
}

// newBatch begins a batch, whose lease is to be ended.
func (h *history) newBatch(t *tools) *batch {
	pace := &h.pace
	if !t.behind { // somebody waits for it, beside the capture
		pace = &pacer{}
		pace.begin(h.t)
		pace.hurry()
	}
	return &batch{h: h, tools: t, pace: pace, lease: h.leases.take(), given: h.packs.Stats().GivenUp, chunks: map[sharefs.ChunkID]pack.Loc{}, early: map[versionID]bool{}, large: map[sharefs.Ino]bool{}, began: time.Now()}
}

func (b *batch) full() bool {
	return len(b.versions) >= batchVersions || b.bytes >= batchBytes || len(b.chunks) >= batchChunks ||
		time.Since(b.began) > batchTime && !b.h.t.cfg.byHand
}

// add captures one version. It reports false for one that it passed over. An error is that of the packs or the store: the batch is void.
func (b *batch) add(id versionID) (done bool, err error) {
	h := b.h
	if at, ok := h.retry[id]; ok && time.Now().Before(at) {
		return false, nil
	}
	for {
		v, err := loadVersion(h.t.db, id.ino, id.own)
		if errors.Is(err, sharefs.KindNotExist) || err == nil && v.place != placeLive && v.place != placeAside {
			return true, h.unqueue(id)
		}
		if err != nil {
			return false, err
		}
		if v.place == placeLive && h.t.restless(id.ino) {
			return false, nil // adopted at the start, and its verdict is still to come: cooled wakes the capture then
		}
		top, referred, err := b.read(v)
		var unreadable *sourceError
		switch {
		case err == nil:
		case errors.As(err, &unreadable):
			again, err := h.unreadable(v, unreadable)
			if again {
				continue
			}
			return false, err
		default:
			return false, err
		}
		b.versions = append(b.versions, captured{id, v.stamp(), top, b.tools.key.place})
		if v.size >= uint64(h.t.partFrom()) {
			b.large[id.ino] = true
		}
		if referred {
			h.referred[id] = h.mark(&top)
		}
		return true, nil
	}
}

// restless reports whether a file is open for writing, or has not been looked at since.
func (t *Tree) restless(ino sharefs.Ino) bool {
	f := t.files.find(ino)
	if f == nil {
		return false
	}
	defer t.files.unpin(f)
	hot := func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.hot {
			t.past.passed.Store(true) // with f.mu held: whoever resets hot looks at it afterwards
		}
		return f.hot
	}
	if !hot() {
		return false
	}
	// The version is on disk a moment before its file is marked as being at rest, in one section of Tree.mu.
	t.mu.Lock()
	defer t.mu.Unlock()
	return hot()
}

// sourceError is a failure to read the content of a version.
type sourceError struct{ error }

func (e *sourceError) Unwrap() error { return e.error }

// errStopped says that the tree is being closed.
var errStopped = errors.New("the tree is being closed")

// errMoved says that the content was set aside while it was read, or that the version stands for another one now.
var errMoved = errors.New("set aside meanwhile")

// unreadable deals with content that could not be read. It reports true where that should be tried again at once.
func (h *history) unreadable(v *version, cause *sourceError) (again bool, err error) {
	id := versionID{v.ino, v.own}
	now, err := loadVersion(h.t.db, v.ino, v.own)
	if err != nil {
		return false, err
	}
	if now.place != v.place || now.stamp() != v.stamp() || errors.Is(cause, errMoved) {
		return true, nil
	}
	gone := errors.Is(cause, unix.ENOENT) || errors.Is(cause, errShort)
	if gone && v.place == placeAside {
		// The power may have gone before the name of the aside file was on disk: then the change that it was made for never happened.
		if st, err := h.t.live.stat(v.ino); err == nil && stampOf(&st) == v.stamp() {
			_, err := h.replace(id, placeAside, placeLive)
			return true, err
		}
	}
	if gone {
		lost, err := h.replace(id, v.place, placeLost)
		if lost {
			h.reportLoss(v, "its content is gone", cause)
		}
		return false, err
	}
	h.t.log.Error("the content of a version cannot be read", "inode", uint64(v.ino), "version", v.own, "err", cause)
	if len(h.retry) >= maxRetries {
		clear(h.retry)
	}
	h.retry[id] = time.Now().Add(retryAfter)
	return false, nil
}

// errShort says that there is less or more content than the version has.
var errShort = errors.New("the size is not the version's")

// read cuts the content of a version into chunks that packs have, and returns the manifest. Referred is as batch.content has it.
func (b *batch) read(v *version) (top manifest, referred bool, err error) {
	h := b.h
	var fd int
	if v.place == placeLive {
		fd, err = h.t.live.openProbe(v.ino)
	} else {
		fd, err = h.aside.read(versionID{v.ino, v.own})
	}
	if err != nil {
		return manifest{}, false, &sourceError{err}
	}
	f := os.NewFile(uintptr(fd), "content")
	defer f.Close()
	if v.place == placeLive {
		h.setInHand(beingRead{v.ino, f})
		defer h.setInHand(beingRead{})
	}
	st, err := f.Stat()
	if err != nil {
		return manifest{}, false, &sourceError{err}
	}
	if uint64(st.Size()) != v.size {
		if err := h.stays(v, f); err != nil {
			return manifest{}, false, err
		}
		return manifest{}, false, &sourceError{errShort}
	}
	next := int64(checkEvery)
	top, referred, err = b.content(v, f, st.Size(), func(at int64) error {
		switch {
		case h.t.closed.Load():
			return errStopped
		case at < next:
			return nil
		}
		next = at + checkEvery
		return h.stays(v, f)
	})
	if err == nil {
		err = h.stays(v, f)
		if err != nil && referred {
			h.aside.remove(referencePart(versionID{v.ino, v.own}))
		}
	}
	return top, referred, err
}

// stays reports whether what an open file holds is a version still: because its row says so, or because the file was moved aside as it is.
func (h *history) stays(v *version, f *os.File) error {
	now, err := loadVersion(h.t.db, v.ino, v.own)
	switch {
	case err != nil:
		return err
	case now.stamp() != v.stamp():
	case now.place == placeAside && h.aside.holds(versionID{v.ino, v.own}, int(f.Fd())):
		return nil
	case now.place == v.place && now.place != placeAside:
		return nil
	}
	return &sourceError{errMoved}
}

// setInHand notes which live file the capture has open.
func (h *history) setInHand(what beingRead) {
	h.mu.Lock()
	h.inHand = what
	h.mu.Unlock()
}

// cut does stages 3 and 4 for one content; going is called with the offset now and then and may end it.
func (b *batch) cut(f *os.File, size int64, going func(at int64) error) (manifest, error) {
	b.readyMaps()
	b.tools.cutter.Reset(chunk.File{File: f}, size, chunk.For(size))
	for {
		p, err := b.tools.cutter.Next()
		if err == io.EOF {
			return b.tools.maps.finish()
		}
		if err != nil {
			return manifest{}, &sourceError{err}
		}
		if err := b.piece(&p); err != nil {
			return manifest{}, err
		}
		if err := going(p.Off); err != nil {
			return manifest{}, err
		}
	}
}

// readyMaps begins a manifest.
func (b *batch) readyMaps() {
	b.tools.maps.keep = func(node []byte) (sharefs.ChunkID, error) {
		id := b.tools.namer.ID(node)
		return id, b.keep(pack.TypeMap, id, node)
	}
	b.tools.maps.reset()
}

// piece takes the next piece of a content.
func (b *batch) piece(p *chunk.Piece) error {
	s := span{len: p.Len, hole: p.Data == nil}
	if !s.hole {
		s.id = b.tools.namer.ID(p.Data)
		if err := b.keep(pack.TypeChunk, s.id, p.Data); err != nil {
			return err
		}
	}
	b.pace.step(max(int64(len(p.Data)), smallStep))
	return b.tools.maps.add(s)
}

// keep puts a chunk into packs unless it is there.
func (b *batch) keep(typ pack.Type, id sharefs.ChunkID, data []byte) error {
	return b.keepUnder(b.tools.key, typ, id, data, false)
}

// keepUnder is keep for a chunk that is named by some key. Unread says that nobody is going to read it in the packs soon.
func (b *batch) keepUnder(key *shareKey, typ pack.Type, id sharefs.ChunkID, data []byte, unread bool) error {
	h := b.h
	h.counts.bytes.Add(uint64(len(data)))
	b.bytes += int64(len(data))
	if _, ok := b.chunks[id]; ok {
		return nil
	}
	b.lease.add(&id)
	_, ok, err := h.t.db.Get(spaceChunk, id[:])
	if err != nil || ok && !h.spoilt.has(&id) {
		return failed("look for a chunk", err)
	}
	put := h.packs.AppendTo
	if unread {
		put = h.packs.AppendUnread
	}
	loc, err := put(key.epoch(), typ, id, data)
	if err != nil {
		b.void()
		return err
	}
	h.counts.fresh.Add(uint64(len(data)))
	b.chunks[id] = loc
	if len(b.chunks) >= 2*batchChunks {
		return b.flush() // in the middle of a large file: its chunks are there when it is read again after a crash
	}
	return nil
}

// void forgets what a failure of the packs took.
func (b *batch) void() {
	clear(b.chunks)
	b.versions = nil
}

// flush makes all chunks so far survive power loss and commits their rows.
func (b *batch) flush() error {
	err := b.h.packs.Sync()
	if given := b.h.packs.Stats().GivenUp; err == nil && given != b.given {
		err = &sharefs.Error{Op: "capture", Kind: sharefs.KindAgain, Detail: "a pack failed"}
	}
	if err != nil {
		b.void()
		return err
	}
	return b.commitChunks()
}
