package daemon

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"sharefs"
	"sharefs/esp"
	"sharefs/internal/recovery"
	"sharefs/peers/vault"
	"sharefs/versions/tier"
)

// fetcher brings a store back from peers that keep it. It is none of their peers: the key of the sessions, which follows from the sheet, is what they know.
type fetcher struct {
	ep     *esp.Endpoint
	places []*place
}

// place is a peer on the sheet.
type place struct {
	recovery.Peer
	ep     *esp.Endpoint
	bucket *vault.Bucket
	root   *tier.Root // nil: there is none to be had, and err says why
	err    error

	mu      sync.Mutex // guards what follows; held while it is dialed
	session *esp.Session
	tried   time.Time
	failed  error
}

const (
	fetchDial  = 10 * time.Second // until a peer must have answered
	fetchAgain = 5 * time.Second  // one that did not is left alone
)

func newFetcher(s *recovery.Sheet) (*fetcher, error) {
	ep, err := esp.New(esp.Config{
		Key: fetcherKey(s.Share, s.Store), Authorize: func(esp.PublicKey) error { return errors.New("nobody is let in here") }, HandshakeTimeout: fetchDial,
	})
	if err != nil {
		return nil, err
	}
	f := &fetcher{ep: ep}
	for _, p := range s.Peers {
		one := &place{Peer: p, ep: ep}
		one.bucket = vault.New(vault.Config{Peer: p.ID, Session: one.dial})
		f.places = append(f.places, one)
	}
	return f, nil
}

func (f *fetcher) close() {
	for _, p := range f.places {
		p.bucket.Close()
	}
	_ = f.ep.Close()
}

// dial returns the session with a peer, which is dialed if there is none; nil: it cannot be reached.
func (p *place) dial() vault.Session {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.session != nil {
		select {
		case <-p.session.Done():
			p.session = nil
		default:
			return sessionESP{p.session}
		}
	}
	if time.Since(p.tried) < fetchAgain {
		return nil
	}
	defer func() { p.tried = time.Now() }()
	key, err := esp.PublicKeyFromEd25519(p.ID[:])
	if err != nil {
		p.failed = err
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), fetchDial)
	defer cancel()
	came := make(chan *esp.Session, len(p.Addrs))
	errs := make([]error, len(p.Addrs))
	var all sync.WaitGroup
	for i, a := range p.Addrs {
		all.Go(func() {
			s, err := p.ep.Connect(ctx, key.String()+"@"+a)
			if err != nil {
				errs[i] = err
				if r := new(esp.RefusedError); errors.As(err, &r) {
					cancel() // whoever has the key has spoken
				}
				return
			}
			came <- s
			cancel()
		})
	}
	all.Wait()
	close(came)
	for s := range came {
		if p.session == nil {
			p.session = s
		} else if p.session != s {
			_ = s.Close()
		}
	}
	if p.session == nil {
		p.failed = errors.Join(errs...)
		if len(p.Addrs) == 0 {
			p.failed = errors.New("no address of it is known: name one with --peer")
		}
		return nil
	}
	p.failed = nil
	return sessionESP{p.session}
}

// why says why a peer gives nothing.
func (p *place) why() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	refused := new(esp.RefusedError)
	switch {
	case errors.As(p.failed, &refused):
		return p.ID.Short() + ": it answers, and keeps nothing for this sheet: it is the sheet of another store, or the backup was removed there"
	case p.failed != nil:
		return p.ID.Short() + ": " + p.failed.Error()
	case p.err != nil:
		return p.ID.Short() + ": " + p.err.Error()
	}
	return p.ID.Short()
}

// read reads the latest root that the peer has, of whichever giver: the one that gave last may have no root yet, or be another host, which names the fetcher's key of this store as its own.
func (p *place) read(ctx context.Context, key [32]byte) {
	p.root, _, p.err = tier.ReadRoot(ctx, p.bucket, key)
	offers := p.bucket.State().Vaults
	for _, o := range offers[min(1, len(offers)):] {
		b := vault.New(vault.Config{Peer: p.ID, Session: p.dial, Of: o.Giver})
		root, _, err := tier.ReadRoot(ctx, b, key)
		if err != nil || p.root != nil && !root.Written.After(p.root.Written) {
			b.Close()
			continue
		}
		p.bucket.Close()
		p.bucket, p.root, p.err = b, root, nil
	}
}

// readRoots reads what each peer has, and puts those first that have the latest. Which of several is the latest the time of writing tells, which the root has sealed: peers cannot
// change it, but give an older one.
func (f *fetcher) readRoots(ctx context.Context, key [32]byte) {
	var all sync.WaitGroup
	for _, p := range f.places {
		all.Go(func() { p.read(ctx, key) })
	}
	all.Wait()
	slices.SortStableFunc(f.places, func(a, b *place) int {
		switch {
		case a.root == nil && b.root == nil:
			return 0
		case a.root == nil:
			return 1
		case b.root == nil:
			return -1
		}
		return b.root.Written.Compare(a.root.Written)
	})
}

// buckets returns what each peer has that has something, the one with the latest root first: where one does not answer, the others are asked in its place.
func (f *fetcher) buckets() (out []tier.Bucket) {
	var have []tier.Bucket
	for _, p := range f.places {
		if p.root != nil {
			have = append(have, p.bucket)
		}
	}
	for i := range have {
		out = append(out, tier.Retry(append(anyOf{}, append(slices.Clone(have[i:]), have[:i]...)...), recoverAttempts))
	}
	return out
}

// whyNot says why no peer gives anything.
func (f *fetcher) whyNot() error {
	var whys []string
	for _, p := range f.places {
		whys = append(whys, p.why())
	}
	return &sharefs.Error{Op: opRecover, Kind: sharefs.KindUnreachable, Detail: "no peer on the sheet gives the store; " + strings.Join(whys, "; ")}
}

// anyOf reads from the first of several buckets that has something. Nothing can be put there.
type anyOf []tier.Bucket

func (a anyOf) ReadAt(ctx context.Context, key string, dst []byte, off int64) (n int, info tier.Info, err error) {
	var first error
	for _, b := range a {
		if n, info, err = b.ReadAt(ctx, key, dst, off); err == nil {
			return n, info, nil
		}
		if first == nil || errors.Is(first, sharefs.KindNotExist) {
			first = err
		}
	}
	return 0, tier.Info{}, first
}

func (a anyOf) List(ctx context.Context, prefix, after string, fn func(tier.Info) bool) error {
	return a[0].List(ctx, prefix, after, fn)
}

func (anyOf) Put(context.Context, string, io.ReaderAt, int64, tier.Condition) (string, error) {
	return "", sharefs.KindPermission
}

func (anyOf) Delete(context.Context, string) error { return sharefs.KindPermission }

// peerOf reads what --peer names: ID@HOST:PORT,…, or HOST:PORT of the peers on the sheet.
func peerOf(s *recovery.Sheet, text string) ([]recovery.Peer, error) {
	if id, addrs, ok := strings.Cut(text, "@"); ok {
		p, err := recovery.ParsePeer(id, strings.Split(addrs, ","))
		return []recovery.Peer{p}, err
	}
	var out []recovery.Peer
	for _, p := range s.Peers {
		p, err := recovery.ParsePeer(p.ID.Plain(), append(strings.Split(text, ","), p.Addrs...))
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	if len(out) == 0 {
		return nil, &sharefs.Error{Op: opRecover, Path: text, Kind: sharefs.KindInvalid, Detail: "there is no peer on the sheet: name one as ID@HOST:PORT"}
	}
	return out, nil
}
