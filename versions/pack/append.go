package pack

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"sharefs"
)

// flushLen is how much is gathered before it is written, in bytes.
const flushLen = 1 << 20

// gatherSpare is room for what is gathered beyond flushLen until it is written, in bytes: the last record, if it is not longer than most are.
const gatherSpare = 512 << 10

// writeStep is what the ends of writes are multiples of while more is to come, in bytes: so no page, nor a few that the kernel keeps together, is written twice.
const writeStep = 64 << 10

// active is the pack that grows. Store.append guards it, except where an atomic says otherwise.
type active struct {
	hdr     Header
	file    *handle
	nonce   [12]byte     // 8 random bytes and the counter of the next record
	size    int64        // with what is in buf
	written atomic.Int64 // where the last record ends that is in the file, all of it
	synced  int64        // zero: not even the name survives power loss
	buf     []byte
	room    []byte // where buf lies, as long as it fits
	entries []entry
	names   bool // the directory is synced
	unread  int  // bytes in buf that nobody is going to read soon
}

// entry is a line of the index.
type entry struct {
	id     sharefs.ChunkID
	off    uint32
	sealed uint32
	plain  uint32
	typ    Type
	codec  Codec
}

// Append puts a record behind the others of the epoch in use and returns its place. It does not look whether the chunk is there already.
// plain may have up to MaxPlain bytes and is not kept. An error voids all locations since the last Sync, those that other goroutines
// got too: they, and whoever appends while others read, learn it from [Stats].GivenUp, which has moved then.
func (s *Store) Append(typ Type, id sharefs.ChunkID, plain []byte) (Loc, error) {
	return s.seals(nil, typ, id, plain, false)
}

// AppendTo is Append to a pack of some epoch.
func (s *Store) AppendTo(e Epoch, typ Type, id sharefs.ChunkID, plain []byte) (Loc, error) {
	return s.seals(&e, typ, id, plain, false)
}

// AppendUnread is AppendTo for what nobody is going to read soon. It does not stay in the page cache, where the system can do that: its memory is at hand for what
// comes next then, and what others have there stays.
func (s *Store) AppendUnread(e Epoch, typ Type, id sharefs.ChunkID, plain []byte) (Loc, error) {
	return s.seals(&e, typ, id, plain, true)
}

// seals is AppendTo; nil: the epoch in use.
func (s *Store) seals(e *Epoch, typ Type, id sharefs.ChunkID, plain []byte, unread bool) (Loc, error) {
	if len(plain) > MaxPlain || typ < TypeChunk || typ == typeIndex || typ > TypeRows {
		return Loc{}, &sharefs.Error{Op: "append", Kind: sharefs.KindInvalid, Detail: "a record of that type or length cannot be"}
	}
	scratch := s.bufs.Get().(*[]byte)
	defer s.bufs.Put(scratch)
	body, codec := s.codecs.compress(*scratch, plain)
	if codec != Stored {
		*scratch = body
	}
	return s.appendBody(e, typ, codec, id, body, len(plain), unread)
}

// appendBody is seals for a body that is compressed already, where it is; plain is its length when it is not.
func (s *Store) appendBody(epoch *Epoch, typ Type, codec Codec, id sharefs.ChunkID, body []byte, plain int, unread bool) (Loc, error) {
	s.append.Lock()
	defer s.append.Unlock()
	if epoch == nil {
		epoch = &s.use
	}
	c, err := s.ready(*epoch)
	if err != nil {
		return Loc{}, err
	}
	e := c.add(typ, codec, id, body, plain)
	s.records.Add(1)
	s.plainBytes.Add(uint64(plain))
	s.sealedBytes.Add(uint64(e.sealed) + recordHeaderLen)
	if unread {
		c.unread += recordHeaderLen + int(e.sealed)
	}
	loc := Loc{Pack: c.hdr.ID, Off: e.off, Sealed: e.sealed, Plain: e.plain}
	switch {
	case c.size >= s.cfg.Target:
		err = s.seal(c)
	case len(c.buf) >= flushLen:
		err = s.write(c, len(c.buf)-int(c.size%writeStep))
	}
	return loc, err
}

// add seals a body into the buffer and the index.
func (c *active) add(typ Type, codec Codec, id sharefs.ChunkID, body []byte, plain int) entry {
	h := recordHeader{typ: typ, codec: codec, sealed: uint32(len(body) + tagLen), plain: uint32(plain), nonce: c.nonce, id: id}
	binary.BigEndian.PutUint32(c.nonce[8:], binary.BigEndian.Uint32(c.nonce[8:])+1)
	var head [recordHeaderLen]byte
	h.encode(head[:])
	at := len(c.buf)
	c.buf = append(c.buf, head[:]...)
	c.buf = c.file.aead.Seal(c.buf, h.nonce[:], body, head[:boundLen])
	h.body = checksum(c.buf[at+recordHeaderLen:])
	h.encode(c.buf[at:])
	e := entry{id: id, off: uint32(c.size), sealed: h.sealed, plain: h.plain, typ: typ, codec: codec}
	if typ != typeIndex {
		c.entries = append(c.entries, e)
	}
	c.size += recordHeaderLen + int64(h.sealed)
	return e
}

// ready returns the pack of an epoch to append to.
func (s *Store) ready(e Epoch) (*active, error) {
	switch {
	case s.closed:
		return nil, errClosed
	case s.cfg.ReadOnly:
		return nil, &sharefs.Error{Op: "append", Kind: sharefs.KindReadOnly}
	}
	if c := s.current(e); c != nil {
		return c, nil
	}
	if err := s.takeUp(); err != nil {
		return nil, err
	}
	if c := s.current(e); c != nil {
		return c, nil
	}
	return s.begin(e)
}

// current returns the pack of an epoch that grows; nil: there is none.
func (s *Store) current(e Epoch) *active {
	for _, c := range s.cur {
		if c.hdr.Epoch == e {
			return c
		}
	}
	return nil
}

// begin makes a new pack.
func (s *Store) begin(e Epoch) (*active, error) {
	c := &active{hdr: Header{Epoch: e}}
	rand.Read(c.hdr.ID[:])
	rand.Read(c.nonce[:8])
	if s.cfg.Clock != nil {
		c.hdr.Created = s.cfg.Clock.Next()
	}
	aead, err := s.aead(&c.hdr)
	if err != nil {
		return nil, err
	}
	f, err := s.cfg.FS.Create(c.hdr.ID.growing())
	if err != nil {
		return nil, failed("create", c.hdr.ID, err)
	}
	c.file = s.replace(&handle{id: c.hdr.ID, epoch: e, file: f, aead: aead})
	c.gather(nil)
	c.buf = append(c.buf, c.hdr.encode()...)
	c.size = packHeaderLen
	s.grows(c)
	return c, nil
}

// grows enters a pack into those that grow.
func (s *Store) grows(c *active) { s.setCurrent(append(slices.Clone(s.cur), c)) }

// grown takes a pack out of those that grow, with its pin.
func (s *Store) grown(c *active) {
	s.setCurrent(slices.DeleteFunc(slices.Clone(s.cur), func(other *active) bool { return other == c }))
	c.file.unpin(s)
}

func (s *Store) setCurrent(list []*active) {
	s.cur = list
	s.writing.Store(&list)
}

// growsNow returns a pack that grows; nil: it does not. It takes no lock, and what is returned is for looking at id and written alone.
func (s *Store) growsNow(id ID) *active {
	if list := s.writing.Load(); list != nil {
		for _, c := range *list {
			if c.hdr.ID == id {
				return c
			}
		}
	}
	return nil
}

// Use has what is appended from now on belong to another epoch. Packs of others that grow are sealed.
func (s *Store) Use(e Epoch) error {
	s.append.Lock()
	defer s.append.Unlock()
	if _, err := s.cfg.Key(e); err != nil {
		return &sharefs.Error{Op: "use a share key", Kind: sharefs.KindOf(err), Detail: "it is not here", Err: err}
	}
	s.use = e
	_, err := s.sealOthers()
	return err
}

// SealOthers seals the packs that grow and are not of the epoch in use. An error is that of [Store.Sync], about the pack that is returned.
func (s *Store) SealOthers() (ID, error) {
	s.append.Lock()
	defer s.append.Unlock()
	return s.sealOthers()
}

func (s *Store) sealOthers() (ID, error) {
	for _, c := range s.cur {
		if c.hdr.Epoch == s.use {
			continue
		}
		if err := s.seal(c); err != nil {
			return c.hdr.ID, err
		}
	}
	return ID{}, nil
}

// flush writes what is gathered.
func (s *Store) flush(c *active) error {
	if len(c.buf) == 0 {
		return nil
	}
	return s.write(c, len(c.buf))
}

// write writes the first n bytes of what is gathered, which may end in the middle of a record.
func (s *Store) write(c *active, n int) error {
	at := c.size - int64(len(c.buf))
	writeAt := File.WriteAt
	if 2*c.unread > n {
		writeAt = WriteUnread
	}
	if _, err := writeAt(c.file.file, c.buf[:n], at); err != nil {
		return s.giveUp(c, "write", err)
	}
	c.gather(c.buf[n:])
	c.unread = min(c.unread, len(c.buf))
	c.written.Store(c.endBefore(at + int64(n)))
	return nil
}

// gather begins to gather anew, with what was left of what was gathered before, in memory from which the disk may take what it can (WriteUnread).
func (c *active) gather(rest []byte) {
	if c.room == nil {
		c.room = pastRoom(pastUnit + flushLen + gatherSpare)
	}
	lead := int(c.size-int64(len(rest))) & (pastUnit - 1)
	c.buf = c.room[lead : lead+copy(c.room[lead:], rest)]
}

// endBefore returns where the last record ends that lies before some place, all of it.
func (c *active) endBefore(at int64) int64 {
	if at == c.size {
		return at
	}
	for _, e := range slices.Backward(c.entries) {
		if l := (Loc{Off: e.off, Sealed: e.sealed}); l.end() <= at {
			return l.end()
		}
	}
	return packHeaderLen
}

// Sync makes everything appended so far survive power loss. An error voids all locations since the last Sync that
// returned nil.
func (s *Store) Sync() error {
	s.append.Lock()
	defer s.append.Unlock()
	return s.syncLocked()
}

func (s *Store) syncLocked() error {
	for _, c := range s.cur {
		if err := s.syncOne(c); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) syncOne(c *active) error {
	if c.synced == c.size {
		return nil
	}
	if err := s.flush(c); err != nil {
		return err
	}
	if err := c.file.file.Sync(); err != nil {
		return s.giveUp(c, "sync", err)
	}
	if !c.names {
		if err := s.cfg.FS.SyncDir(openDir); err != nil {
			return s.giveUp(c, "sync", err)
		}
		c.names = true
	}
	c.synced = c.size
	s.syncs.Add(1)
	return nil
}

// seal writes index and footer, syncs and moves the pack to its lasting place. Everything in it survives power loss then.
func (s *Store) seal(c *active) error {
	s.finish(c)
	if err := s.flush(c); err != nil {
		return err
	}
	if err := c.file.file.Sync(); err != nil {
		return s.giveUp(c, "sync", err)
	}
	if err := s.place(c.hdr.ID); err != nil {
		return s.giveUp(c, "seal", err)
	}
	s.syncs.Add(1)
	s.sealed.Add(1)
	s.grown(c)
	return nil
}

// finish puts index and footer into the buffer.
func (s *Store) finish(c *active) {
	body := make([]byte, 0, len(c.entries)*indexEntryLen)
	for i := range c.entries {
		body = c.entries[i].append(body)
	}
	plain := len(body)
	packed, codec := s.codecs.compress(nil, body)
	at := c.size
	e := c.add(typeIndex, codec, sharefs.ChunkID{}, packed, plain)
	foot := footer{index: uint64(at), records: uint32(len(c.entries)), length: recordHeaderLen + e.sealed}
	c.buf = append(c.buf, foot.encode()...)
	c.size += footerLen
}

// place moves a sealed pack from open/ to its lasting place.
func (s *Store) place(id ID) error {
	if err := s.cfg.FS.Rename(id.growing(), id.name()); err != nil {
		return err
	}
	if err := s.cfg.FS.SyncDir(id.dir()); err != nil {
		return err
	}
	return s.cfg.FS.SyncDir(openDir)
}

// giveUp leaves the growing pack as it was at the last Sync, for the next process to seal. One for which the disk had no room is taken up again by this
// one, as soon as something is to be appended or Recover is called: what is dead in it is not to keep the disk full.
func (s *Store) giveUp(c *active, op string, cause error) error {
	defer s.grown(c)
	s.givenUp.Add(1)
	id := c.hdr.ID
	// What fails here fails beside a failure that is reported, and costs only room: a record past the synced length is not
	// pointed to by anybody.
	if f, err := s.cfg.FS.Open(id.growing(), true); err == nil {
		if c.synced > 0 && f.Truncate(c.synced) == nil && op == "write" && (errors.Is(cause, unix.ENOSPC) || errors.Is(cause, unix.EDQUOT)) {
			s.adopted = false
		}
		f.Close()
		if c.synced == 0 {
			s.cfg.FS.Remove(id.growing())
		}
	}
	s.mu.Lock()
	s.forgetPack(id)
	s.mu.Unlock()
	return failed(op, id, cause)
}

func (e *entry) append(b []byte) []byte {
	b = append(b, e.id[:]...)
	b = binary.BigEndian.AppendUint32(b, e.off)
	b = binary.BigEndian.AppendUint32(b, e.sealed)
	b = binary.BigEndian.AppendUint32(b, e.plain)
	return append(b, byte(e.typ), byte(e.codec), 0, 0)
}
