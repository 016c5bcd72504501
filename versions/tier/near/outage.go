package near

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"sharefs"
	"sharefs/versions/pack"
	"sharefs/versions/tier"
)

// Between two questions to a bucket that does not answer.
const (
	firstProbe = time.Second
	lastProbe  = 15 * time.Second
)

// outage is what is known of how the bucket answers.
type outage struct {
	mu    sync.Mutex
	since time.Time // zero: it answers
	cause error
	rate  int64 // bytes a second that it last sent; 0: not known
}

func (o *outage) state() (since time.Time, cause error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.since, o.cause
}

// window returns how many blocks may be fetched ahead: what comes in a second.
func (o *outage) window() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.rate == 0 {
		return firstWindow
	}
	return int(min(max(o.rate/blockLen, 1), maxWindow))
}

// measured notes how long a fetch took, if it was of some length.
func (o *outage) measured(bytes int, took time.Duration) {
	if bytes < blockLen {
		return // that is the time of an answer, and not a rate
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.rate = int64(float64(bytes) / max(took, time.Microsecond).Seconds())
}

// bucketReader reads a pack in the bucket.
func (f *FS) bucketReader(id pack.ID) io.ReaderAt {
	return reader(func(b []byte, off int64) (int, error) {
		n, _, err := f.ask(id, b, off)
		return n, err
	})
}

// ask reads exactly len(b) bytes of a pack in the bucket.
func (f *FS) ask(id pack.ID, b []byte, off int64) (int, tier.Info, error) {
	key := keyOf(id)
	if err := f.down(id); err != nil {
		return 0, tier.Info{}, err
	}
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	case <-f.ctx.Done():
		return 0, tier.Info{}, f.unreachable(id, "the store is being closed", f.ctx.Err())
	}
	if err := f.down(id); err != nil { // since it waited
		return 0, tier.Info{}, err
	}
	ctx, cancel := context.WithTimeout(f.ctx, f.cfg.Patience)
	defer cancel()
	began := time.Now()
	n, info, err := f.cfg.Bucket.ReadAt(ctx, key, b, off)
	if err == nil && n == len(b) {
		f.outage.measured(n, time.Since(began))
		f.fetched.Add(uint64(n))
		f.fetches.Add(1)
		return n, info, nil
	}
	if f.ctx.Err() != nil {
		return 0, info, f.unreachable(id, "the store is being closed", f.ctx.Err())
	}
	kind := sharefs.KindOf(err)
	switch {
	case err == nil || kind == sharefs.KindRange:
		return 0, info, &sharefs.Error{Op: "fetch", Path: key, Kind: sharefs.KindCorrupt, Detail: fmt.Sprintf("the object in %s is too short: it has %d bytes", f.cfg.URL, info.Size), Err: err}
	case kind == sharefs.KindNotExist:
		return 0, info, f.absent(id, err)
	}
	f.fails(id, err)
	return 0, info, f.unreachable(id, "the bucket does not answer", err)
}

// unreachable says that a pack cannot be had at present.
func (f *FS) unreachable(id pack.ID, why string, cause error) error {
	where := f.cfg.URL
	if where == "" {
		where = f.urlOf(id)
	}
	return &sharefs.Error{Op: "fetch", Path: keyOf(id), Kind: sharefs.KindUnreachable, Detail: fmt.Sprintf("it lies in the bucket %s alone, and %s", where, why), Err: cause}
}

// absent says that the bucket does not have a pack: it is lost, unless it was put into another bucket.
func (f *FS) absent(id pack.ID, cause error) error {
	if was := f.urlOf(id); was != "" && was != f.cfg.URL {
		return &sharefs.Error{Op: "fetch", Path: keyOf(id), Kind: sharefs.KindUnreachable,
			Detail: fmt.Sprintf("it lies in the bucket %s alone, and [tier] in share.toml names %s now, which does not have it", was, f.cfg.URL)}
	}
	return &sharefs.Error{Op: "fetch", Path: keyOf(id), Kind: sharefs.KindCorrupt, Detail: "the bucket " + f.cfg.URL + " has lost it", Err: cause}
}

// Missing tells why a pack that the bucket does not have cannot be read, and whether it is lost: it is not if it was put into another bucket.
func (f *FS) Missing(id pack.ID) (lost bool, why error) {
	err := f.absent(id, nil)
	return sharefs.KindOf(err) == sharefs.KindCorrupt, err
}

// urlOf returns where a pack was put; empty: not known.
func (f *FS) urlOf(id pack.ID) string {
	f.mu.Lock()
	n := f.nodes[id]
	f.mu.Unlock()
	if n == nil {
		return ""
	}
	n.remote.mu.RLock()
	defer n.remote.mu.RUnlock()
	return n.remote.note.url
}

// down returns an error where there is no bucket, and while it is known not to answer.
func (f *FS) down(id pack.ID) error {
	if f.cfg.Bucket == nil {
		return f.unreachable(id, "the bucket is not to be had", f.cfg.Missing)
	}
	since, cause := f.outage.state()
	if since.IsZero() {
		return nil
	}
	return f.unreachable(id, "the bucket has not answered since "+since.Format(time.RFC3339), cause)
}

// fails notes that the bucket does not answer, and has something ask it until it does.
func (f *FS) fails(id pack.ID, err error) {
	o := &f.outage
	o.mu.Lock()
	first := o.since.IsZero()
	if first {
		o.since = time.Now()
	}
	o.cause = err
	o.mu.Unlock()
	if !first {
		return
	}
	f.log.Warn("the bucket does not answer: what lies there alone cannot be read", "bucket", f.cfg.URL, "err", err)
	f.spawn(func() { f.probe(id) })
}

// probe asks for one byte until there is an answer.
func (f *FS) probe(id pack.ID) {
	o := &f.outage
	for wait := firstProbe; ; wait = min(2*wait, lastProbe) {
		select {
		case <-f.ctx.Done():
			return
		case <-time.After(wait):
		}
		ctx, cancel := context.WithTimeout(f.ctx, f.cfg.Patience)
		_, _, err := f.cfg.Bucket.ReadAt(ctx, keyOf(id), make([]byte, 1), 0)
		cancel()
		kind := sharefs.KindOf(err)
		if err == nil || kind == sharefs.KindNotExist || kind == sharefs.KindRange {
			o.mu.Lock()
			since := o.since
			o.since, o.cause = time.Time{}, nil
			o.mu.Unlock()
			f.log.Info("the bucket answers again", "bucket", f.cfg.URL, "after", time.Since(since).Round(time.Millisecond))
			f.Rouse() // packs may have stayed meanwhile
			return
		}
		o.mu.Lock()
		o.cause = err
		o.mu.Unlock()
	}
}
