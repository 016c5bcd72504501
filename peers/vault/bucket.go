package vault

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"sharefs"
	"sharefs/peers/pace"
	"sharefs/peers/trust"
	"sharefs/versions/tier"
)

// Session is one with a peer, such as [sharefs/esp.Session].
type Session interface {
	// Open opens a stream.
	Open(ctx context.Context) (net.Conn, error)
	// Done is closed when the session has ended.
	Done() <-chan struct{}
}

// Config says whose bucket it is, and what may go there.
type Config struct {
	Peer sharefs.PeerID
	// Session returns the session with the peer; nil: it is not connected.
	Session func() Session
	// Permit asks whether sealed objects may go to the peer, each time that one is to. Nil: none may; all else can be done.
	Permit func() (trust.Cipher, error)
	Sealer *trust.FileSealer
	// Fetcher is the public key, X25519, of who may fetch; nil: nobody is named.
	Fetcher []byte
	// Of is the giver whose objects are fetched by one who has the fetcher's key; empty: the one that gave last.
	Of string
	// Pace bounds how fast bytes of objects go and come; nil: nothing does.
	Pace *pace.Pacer
	// Damaged, where not nil, is told when the peer has found more objects to be damaged than before; they are listed no more.
	Damaged func()
}

// Bucket is what a peer keeps for this host, or for who recovers. It implements [tier.Bucket], and may be used by several goroutines.
type Bucket struct {
	cfg   Config
	slots chan struct{} // one for each stream

	mu      sync.Mutex // guards what follows
	closed  bool
	idle    []*line
	tidy    *time.Timer
	state   State
	doubted map[string]bool
}

// State is what the peer said last of all that it keeps.
type State struct {
	Used, Quota uint64 // bytes
	Damaged     int
	NoQuota     bool    // it gives this host no room, and takes nothing
	Refused     Refused // for which there was no room the last time
	As          string  // what this host is called there; empty: it does not say
	Vaults      []Offer // for who recovers
}

// line is a stream that requests go over.
type line struct {
	p     patient
	of    Session
	used  bool // something was asked over it
	since time.Time
}

// New returns the bucket of a peer. Nothing is sent before it is used.
func New(cfg Config) *Bucket {
	return &Bucket{cfg: cfg, slots: make(chan struct{}, streamsGiver), doubted: map[string]bool{}}
}

// Close ends its streams. What is under way ends with an error.
func (b *Bucket) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	if b.tidy != nil {
		b.tidy.Stop()
	}
	for _, l := range b.idle {
		l.p.c.Close()
	}
	b.idle = nil
}

// State returns what the peer said last.
func (b *Bucket) State() State {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state
}

// Ready errors with KindUnreachable while there is no session with the peer.
func (b *Bucket) Ready() error {
	if b.cfg.Session() == nil {
		return errAway
	}
	return nil
}

var errAway = &sharefs.Error{Op: "reach the peer", Kind: sharefs.KindUnreachable, Detail: "it is not connected"}

func (b *Bucket) told(s state) {
	b.mu.Lock()
	worse := s.Damaged > b.state.Damaged
	b.state.Used, b.state.Quota, b.state.Damaged, b.state.NoQuota = s.Used, s.Quota, s.Damaged, s.Quota == 0
	b.mu.Unlock()
	if worse && b.cfg.Damaged != nil {
		b.cfg.Damaged()
	}
}

// Doubt has an object listed no more until it is put again: the peer does not have it, whatever it says.
func (b *Bucket) Doubt(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.doubted[key] = true
}

func unreachable(op, key, detail string, err error) error {
	return &sharefs.Error{Op: op, Path: key, Kind: sharefs.KindUnreachable, Detail: detail, Err: err}
}

// wrong says that a peer does what none does that keeps to the protocol.
func wrong(op, key, detail string) error {
	return &sharefs.Error{Op: op, Path: key, Kind: sharefs.KindCorrupt, Detail: "the peer " + detail}
}

// line returns a stream that nobody uses, or a new one.
func (b *Bucket) line(ctx context.Context, op string) (*line, error) {
	s := b.cfg.Session()
	if s == nil {
		return nil, errAway
	}
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil, unreachable(op, "", "it is closed", nil)
	}
	for n := len(b.idle); n > 0; n = len(b.idle) {
		l := b.idle[n-1]
		b.idle = b.idle[:n-1]
		if l.of == s && time.Since(l.since) < idleGiver {
			b.mu.Unlock()
			return l, nil
		}
		l.p.c.Close()
	}
	b.mu.Unlock()
	c, err := s.Open(ctx)
	if err != nil {
		return nil, unreachable(op, "", "", err)
	}
	l := &line{p: patient{c, giveUp}, of: s}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	var o opened
	if err = l.p.send(opening{Purpose: Purpose, Fetcher: b.cfg.Fetcher, Of: b.cfg.Of}); err == nil {
		err = l.p.receive(&o)
	}
	if err == nil && o.Error != nil {
		c.Close()
		b.mu.Lock()
		b.state.As, b.state.NoQuota = o.As, sharefs.Kind(o.Error.Kind) == sharefs.KindPermission
		b.mu.Unlock()
		return nil, o.Error.err(op, "")
	}
	if err != nil {
		c.Close()
		return nil, unreachable(op, "", "", err)
	}
	b.mu.Lock()
	b.state.Vaults, b.state.As = o.Vaults, o.As
	b.mu.Unlock()
	b.told(o.state)
	return l, nil
}

// keep has a stream used again.
func (b *Bucket) keep(l *line) {
	l.used, l.since = true, time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		l.p.c.Close()
		return
	}
	b.idle = append(b.idle, l)
	if b.tidy == nil {
		b.tidy = time.AfterFunc(idleGiver, b.closeIdle)
	} else {
		b.tidy.Reset(idleGiver)
	}
}

func (b *Bucket) closeIdle() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range b.idle {
		l.p.c.Close()
	}
	b.idle = nil
}

// errAnswer is behind what ended before the peer had answered anything.
var errAnswer = errors.New("no answer")

// do has fn use a stream: it is used again if fn returns nil, or a fault that the peer told of. A stream that the peer has closed meanwhile is replaced by another one.
func (b *Bucket) do(ctx context.Context, op, key string, fn func(l *line) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case b.slots <- struct{}{}:
		defer func() { <-b.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for {
		l, err := b.line(ctx, op)
		if err != nil {
			return cmpErr(ctx, err)
		}
		stop := context.AfterFunc(ctx, func() { l.p.c.Close() })
		err = fn(l)
		stop()
		var told *told
		switch {
		case err == nil:
			b.keep(l)
			return nil
		case errors.As(err, &told):
			b.keep(l)
			return told.err
		}
		l.p.c.Close()
		if l.used && errors.Is(err, errAnswer) && ctx.Err() == nil {
			continue
		}
		if sharefs.KindOf(err) != sharefs.KindCorrupt && !errors.Is(err, errOwn) {
			err = unreachable(op, key, "", err)
		}
		return cmpErr(ctx, err)
	}
}

// errOwn marks errors of this end, which are told as they are.
var errOwn = errors.New("of this host")

// told is an error that the peer told of, behind which the stream goes on.
type told struct{ err error }

func (t *told) Error() string { return t.err.Error() }

func cmpErr(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// ask sends a request and takes the first answer to it.
func (b *Bucket) ask(l *line, r *request) (*reply, error) {
	if err := l.p.send(r); err != nil {
		return nil, errors.Join(errAnswer, err)
	}
	var out reply
	if err := l.p.receive(&out); err != nil {
		if sharefs.KindOf(err) == sharefs.KindInvalid {
			return nil, wrong(r.Op, r.Key, "answers in words that nobody knows")
		}
		return nil, errors.Join(errAnswer, err)
	}
	b.told(out.state)
	if out.Error != nil {
		return nil, &told{out.Error.err(r.Op, r.Key)}
	}
	return &out, nil
}

// Put implements [tier.Bucket]. Nothing leaves this host that is not sealed: KindCorrupt.
func (b *Bucket) Put(ctx context.Context, key string, body io.ReaderAt, size int64, only tier.Condition) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if b.cfg.Permit == nil {
		return "", &sharefs.Error{Op: opPut, Path: key, Kind: sharefs.KindPermission, Detail: "who fetches changes nothing"}
	}
	file, err := b.cfg.Sealer.Adopt(key, body, size)
	if err != nil {
		return "", err
	}
	var tag string
	err = b.do(ctx, opPut, key, func(l *line) error {
		permit, err := b.cfg.Permit()
		var e trust.FileEnvelope
		if err == nil {
			e, err = permit.File(file)
		}
		if err == nil && e.To() != b.cfg.Peer {
			err = &sharefs.Error{Op: opPut, Path: key, Kind: sharefs.KindPermission, Detail: "it is for another peer"}
		}
		if err != nil {
			return errors.Join(errOwn, err)
		}
		tag, err = b.send(ctx, l, e, only)
		return err
	})
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case err == nil:
		delete(b.doubted, key)
		b.state.Refused.came(key)
	case errors.Is(err, sharefs.KindNoSpace) && !errors.Is(err, errOwn): // the disk of this host is another matter
		o := object{size: size}
		b.state.Refused.again(key, o.charge(), b.state.Used+o.charge() <= b.state.Quota)
	}
	return tag, err
}

// send writes a sealed file to the peer: the one place from which bytes of objects go out.
func (b *Bucket) send(ctx context.Context, l *line, e trust.FileEnvelope, only tier.Condition) (string, error) {
	file := e.File()
	sum := file.ID()
	if _, err := b.ask(l, &request{Op: opPut, Key: file.Name(), Size: file.Size(), Sum: sum[:], Absent: only.Absent, Tag: only.ETag}); err != nil {
		return "", err
	}
	out := b.cfg.Pace.Writer(ctx, b.cfg.Peer, l.p)
	buf := make([]byte, min(piece, max(file.Size(), 1)))
	for off := int64(0); off < file.Size(); {
		part := buf[:min(int64(len(buf)), file.Size()-off)]
		if n, err := file.Body().ReadAt(part, off); n < len(part) {
			return "", errors.Join(errOwn, &sharefs.Error{Op: opPut, Path: file.Name(), Kind: sharefs.KindOf(err), Detail: "the file could not be read to its end", Err: err})
		}
		if _, err := out.Write(part); err != nil {
			return "", err
		}
		off += int64(len(part))
	}
	var end reply
	if err := l.p.receive(&end); err != nil {
		return "", err
	}
	b.told(end.state)
	if end.Error != nil {
		return "", &told{end.Error.err(opPut, file.Name())}
	}
	if end.Tag != hex.EncodeToString(sum[:]) {
		return "", wrong(opPut, file.Name(), "says that it keeps something else than it was given")
	}
	return end.Tag, nil
}

// ReadAt implements [tier.Bucket].
func (b *Bucket) ReadAt(ctx context.Context, key string, dst []byte, off int64) (n int, info tier.Info, err error) {
	for {
		part := dst[n:min(len(dst), n+maxRead)]
		m, i, err := b.readSome(ctx, key, part, off+int64(n))
		switch {
		case err != nil && n > 0 && errors.Is(err, sharefs.KindRange):
			return n, info, nil
		case err != nil:
			return 0, tier.Info{}, err
		case n > 0 && i != info:
			return 0, tier.Info{}, &sharefs.Error{Op: opRead, Path: key, Kind: sharefs.KindAgain, Detail: "it was replaced while it was read"}
		}
		info = i
		if n += m; n == len(dst) || m < len(part) || off+int64(n) >= info.Size {
			return n, info, nil
		}
	}
}

func (b *Bucket) readSome(ctx context.Context, key string, dst []byte, off int64) (n int, info tier.Info, err error) {
	err = b.do(ctx, opRead, key, func(l *line) error {
		out, err := b.ask(l, &request{Op: opRead, Key: key, Off: off, Len: int64(len(dst))})
		if err != nil {
			return err
		}
		if out.Size < 0 || out.Size > maxObject || off > out.Size || out.N != min(int64(len(dst)), out.Size-off) || len(out.Tag) > 128 {
			return wrong(opRead, key, "sends another number of bytes than there can be")
		}
		n, err = io.ReadFull(b.cfg.Pace.Reader(ctx, b.cfg.Peer, l.p, nil), dst[:out.N])
		info = tier.Info{Key: key, Size: out.Size, ETag: out.Tag}
		return err
	})
	return n, info, err
}

// List implements [tier.Bucket].
func (b *Bucket) List(ctx context.Context, prefix, after string, fn func(tier.Info) bool) error {
	for count := 0; ; {
		var page *reply
		err := b.do(ctx, opList, prefix, func(l *line) (err error) {
			page, err = b.ask(l, &request{Op: opList, Prefix: prefix, After: after})
			return err
		})
		if err != nil {
			return err
		}
		for _, e := range page.Objects {
			if !validKey(e.Key) || e.Key <= after || !strings.HasPrefix(e.Key, prefix) || e.Size < 0 || e.Size > maxObject || len(e.Tag) > 128 {
				return wrong(opList, prefix, "lists what cannot be there")
			}
			if count++; count > maxListed {
				return wrong(opList, prefix, "lists without end")
			}
			after = e.Key
			b.mu.Lock()
			doubted := b.doubted[e.Key]
			b.mu.Unlock()
			if !doubted && !fn(tier.Info{Key: e.Key, Size: e.Size, ETag: e.Tag}) {
				return nil
			}
		}
		if !page.More || len(page.Objects) == 0 {
			return nil
		}
	}
}

// Delete implements [tier.Bucket].
func (b *Bucket) Delete(ctx context.Context, key string) error {
	return b.do(ctx, opDelete, key, func(l *line) error {
		_, err := b.ask(l, &request{Op: opDelete, Key: key})
		return err
	})
}

// Vaults asks what there is for who recovers.
func (b *Bucket) Vaults(ctx context.Context) ([]Offer, error) {
	err := b.do(ctx, "fetch", "", func(*line) error { return nil })
	return b.State().Vaults, err
}

var _ tier.Bucket = (*Bucket)(nil)
