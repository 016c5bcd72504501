package engine

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sharefs"
	"sharefs/peers/exchange"
	"sharefs/peers/record"
	"sharefs/peers/replica"
	"sharefs/peers/trust"
)

// Standing is what records of an author count under a policy: what he may do all over the share, or, if that is not the same everywhere ([Where]), where he may do most. Of whom it is
// PassedOver nothing counts.
func Standing(p trust.Policy, author sharefs.PeerID) replica.Standing {
	if p.Former(author) {
		return replica.Merged
	}
	return standing(p.Most(author))
}

func standing(l trust.Level) replica.Standing {
	switch in := l.Rights().In; {
	case in >= trust.InMerge:
		return replica.Merged
	case in >= trust.InQuarantine:
		return replica.Proposed
	}
	return replica.PassedOver
}

// Where is what an author may do under a policy by path, if that is not the same everywhere.
func Where(p trust.Policy, author sharefs.PeerID) (replica.Where, bool) {
	if standing(p.Most(author)) == standing(p.Least(author)) {
		return replica.Where{}, false
	}
	return replica.Where{
		Standing: func(path string) replica.Standing { return standing(p.Level(author, path)) },
		Leads:    func(path string) bool { return p.Leads(author, path) },
	}, true
}

// Much is more than goes by itself (trust.HoldFiles).
func Much() replica.Bulk {
	return replica.Bulk{Files: trust.HoldFiles, Percent: trust.HoldPercent, Least: trust.HoldLeast, Within: trust.HoldMinutes * time.Minute}
}

// Bulk is what an author may remove and rename under a policy before the rest waits for the owner.
func Bulk(p trust.Policy, author sharefs.PeerID) replica.Bulk {
	if !p.Holds(author) {
		return replica.Bulk{}
	}
	return Much()
}

// Log is the log of a replica as an exchange has it. While there is no replica it errors with KindAgain.
type Log struct {
	Self   sharefs.PeerID
	Policy func() trust.Policy                // of the moment
	Most   func(author sharefs.PeerID) uint64 // records that may be here, as the replica has it
	Took   func()                             // called when something was taken
	Anew   func(time.Duration)                // called when a peer's log has to be asked for again, after a while
	Stop   func() error                       // why nothing is taken at present; nil: it is
	Passed func()                             // called when something came by an author of whom nothing counts; may be nil

	mu sync.RWMutex // guards r
	r  *replica.Replica

	// As of the last look, so that nobody waits for the replica to be told.
	id   atomic.Pointer[exchange.LogID]
	last atomic.Uint64

	scopes scopes

	takes sync.Mutex // guards what follows
	// early holds peers of whose log something came that is later than now: where it was before that, the cursor stays until it is asked for again.
	early    map[sharefs.PeerID]bool
	unsigned bool      // some records are left out of the logs of parts, and were not asked for again yet
	resigned time.Time // when that was done last
	// anew holds logs that were begun with once more because something was missing. What is missing still the peer does not have either.
	anew map[taken]bool
}

// taken is a log as it is taken of a peer.
type taken struct {
	peer sharefs.PeerID
	name replica.LogID
}

// mostAnew is how many logs are remembered that were begun with once more: a peer can name as many as it likes.
const mostAnew = 1024

// earlyPause is how long after a record that is later than now a log is asked for again: a clock may be right by then.
const earlyPause = time.Minute

var _ exchange.Log = (*Log)(nil)

// Use has the log be that of a replica, or of none any more.
func (l *Log) Use(r *replica.Replica) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.r = r
	if r != nil {
		l.look(r)
	}
}

func (l *Log) look(r *replica.Replica) {
	id := exchange.LogID(r.Log())
	l.id.Store(&id)
	l.last.Store(r.Arrived())
	l.scopes.look(r)
}

// Look has the log be as long as it is by now, and the one that it is.
func (l *Log) Look() {
	_ = l.with(func(r *replica.Replica) error { // without one it stays as it was
		l.look(r)
		return nil
	})
}

func (l *Log) with(fn func(r *replica.Replica) error) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.r == nil {
		return &sharefs.Error{Op: "exchange records", Kind: sharefs.KindAgain, Detail: "what is known of them is not open"}
	}
	return fn(l.r)
}

// ID implements [exchange.Log].
func (l *Log) ID(peer sharefs.PeerID) exchange.LogID {
	if print, part := l.part(peer); part {
		return l.scope(peer, print).log
	}
	if id := l.id.Load(); id != nil {
		return *id
	}
	return exchange.LogID{}
}

// Last implements [exchange.Log].
func (l *Log) Last(peer sharefs.PeerID) uint64 {
	if print, part := l.part(peer); part {
		return l.scope(peer, print).last
	}
	return l.last.Load()
}

// Known returns how many records are here.
func (l *Log) Known() (n int) {
	_ = l.with(func(r *replica.Replica) (err error) { // without a replica none is
		n, err = r.Known()
		return err
	})
	return n
}

// Behind returns how many records, at most about so many, a peer lacks that has its log up to a number.
func (l *Log) Behind(peer sharefs.PeerID, after uint64, most int) (n int) {
	if after >= l.Last(peer) {
		return 0
	}
	_, part := l.part(peer)
	_ = l.with(func(r *replica.Replica) (err error) {
		if part {
			n, err = r.ScopeBehind(peer, after, most)
		} else {
			n, err = r.Behind(after, most)
		}
		return err
	})
	return n
}

// Since implements [exchange.Log].
func (l *Log) Since(peer sharefs.PeerID, log exchange.LogID, after uint64, most int) (out []exchange.Item, err error) {
	_, part := l.part(peer)
	err = l.with(func(r *replica.Replica) (err error) {
		var items []replica.Item
		if part {
			items, err = r.ScopeSince(peer, replica.LogID(log), after, most)
		} else if log == exchange.LogID(r.Log()) {
			items, _, err = r.Since(after, most)
		}
		for i := range items {
			out = append(out, exchange.Item{Batch: items[i].Batch, Records: items[i].Records, Next: items[i].Number})
		}
		return err
	})
	if part {
		l.leaveUnsigned(out)
	}
	return out, err
}

// Gave implements [exchange.Log].
func (l *Log) Gave(peer sharefs.PeerID, log exchange.LogID, number uint64) (ok bool, err error) {
	_, part := l.part(peer)
	err = l.with(func(r *replica.Replica) (err error) {
		if part {
			ok, err = r.ScopeGave(peer, replica.LogID(log), number)
		} else if log == exchange.LogID(r.Log()) {
			ok, err = r.Gave(number)
		}
		return err
	})
	return ok, err
}

// counted names a log as it is taken under a policy and bounds: by others more may count, and then it is taken anew from its beginning.
func (l *Log) counted(p trust.Policy, log exchange.LogID) replica.LogID {
	ids := p.Peers()
	slices.SortFunc(ids, func(a, b sharefs.PeerID) int { return bytes.Compare(a[:], b[:]) })
	h := sha256.New()
	h.Write(log[:])
	for _, id := range ids {
		if s := Standing(p, id); s != replica.PassedOver {
			h.Write(append(id[:], byte(s)))
			if _, parts := Where(p, id); parts {
				print := p.Print(id)
				h.Write(print[:])
			}
			if l.Most != nil {
				h.Write(binary.BigEndian.AppendUint64(nil, l.Most(id)))
			}
		}
	}
	return replica.LogID(h.Sum(nil))
}

// Have implements [exchange.Log].
func (l *Log) Have(peer sharefs.PeerID, log exchange.LogID) (n uint64, err error) {
	if err := l.Stop(); err != nil { // nor is it asked for
		return 0, err
	}
	l.takes.Lock()
	delete(l.early, peer)
	l.takes.Unlock()
	err = l.with(func(r *replica.Replica) error {
		had, arrived, err := r.Cursor(peer)
		if had == l.counted(l.Policy(), log) {
			n = arrived
		}
		return err
	})
	return n, err
}

// Take implements [exchange.Log].
func (l *Log) Take(peer sharefs.PeerID, log exchange.LogID, items []exchange.Item, upTo uint64) error {
	if err := l.Stop(); err != nil {
		return err
	}
	name := l.counted(l.Policy(), log) // as of before: what comes to count meanwhile is asked for again
	fresh, another, early, anew := 0, false, false, false
	err := l.with(func(r *replica.Replica) (err error) {
		fresh, err = r.Take(peer, whole(r, items))
		if id := l.id.Load(); id != nil { // a batch of this host's own may tell it that its state was lost, also if what the batch names is here
			another = *id != exchange.LogID(r.Log())
		}
		l.takes.Lock()
		defer l.takes.Unlock()
		switch kind := sharefs.KindOf(err); {
		case err != nil && kind == sharefs.KindBusy: // later than now: it is asked for again, with all behind it, which does no harm
			if l.early == nil {
				l.early = map[sharefs.PeerID]bool{}
			}
			l.early[peer], early = true, true
			return nil
		case err != nil && kind == sharefs.KindAgain && !l.anew[taken{peer, name}]: // something before it was passed over
			if l.anew == nil || len(l.anew) >= mostAnew {
				l.anew = map[taken]bool{}
			}
			l.anew[taken{peer, name}], anew = true, true
			return r.SetCursor(peer, replica.LogID{}, 0)
		case err != nil && kind != sharefs.KindAgain:
			return err
		case l.early[peer]:
			return nil
		}
		return r.SetCursor(peer, name, upTo)
	})
	if fresh > 0 || another {
		l.Look()
		l.Took()
	}
	if policy := l.Policy(); l.Passed != nil && slices.ContainsFunc(items, func(i exchange.Item) bool {
		return len(i.Records) > 0 && i.Records[0].Author != l.Self && Standing(policy, i.Records[0].Author) == replica.PassedOver
	}) {
		l.Passed()
	}
	if early && err == nil {
		l.Anew(earlyPause)
	}
	if anew && err == nil {
		return &sharefs.Error{Op: "take records", Kind: sharefs.KindAgain, Detail: "what comes before them is missing: they are asked for from the beginning"}
	}
	return err
}

// whole puts records into the batches that name them: an exchange sends those of a large batch before it.
func whole(r *replica.Replica, items []exchange.Item) []replica.Item {
	alone := map[record.ID]*record.Record{}
	for i := range items {
		if items[i].Batch == nil {
			for _, rec := range items[i].Records {
				alone[rec.ID()] = rec
			}
		}
	}
	var out []replica.Item
	for i := range items {
		it := replica.Item{Batch: items[i].Batch, Records: items[i].Records}
		if it.Batch == nil {
			for _, rec := range it.Records {
				out = append(out, replica.Item{Records: []*record.Record{rec}})
			}
			continue
		}
		if len(it.Records) < len(it.Batch.Records) {
			it.Records = fill(r, it, alone)
		}
		out = append(out, it)
	}
	return out
}

// fill completes the records of a batch with those that came before it.
func fill(r *replica.Replica, it replica.Item, alone map[record.ID]*record.Record) []*record.Record {
	have := map[record.ID]*record.Record{}
	for _, rec := range it.Records {
		have[rec.ID()] = rec
	}
	all := make([]*record.Record, 0, len(it.Batch.Records))
	for _, id := range it.Batch.Records {
		rec := have[id]
		if rec == nil {
			rec = alone[id]
		}
		if rec == nil {
			rec, _ = r.Record(id)
		}
		if rec == nil { // an item that is not whole, as the replica says
			return it.Records
		}
		all = append(all, rec)
	}
	return all
}

// Seen implements [exchange.Log].
func (l *Log) Seen(author sharefs.PeerID) (b *record.Batch, err error) {
	err = l.with(func(r *replica.Replica) (err error) {
		b, err = r.Newest(author)
		return err
	})
	return b, err
}

// Saw implements [exchange.Log].
func (l *Log) Saw(b *record.Batch) error {
	return l.with(func(r *replica.Replica) error {
		defer l.look(r) // the log may be another one
		return r.Saw(b)
	})
}

// Version implements [exchange.Log].
func (l *Log) Version(peer sharefs.PeerID, id record.ID) (v *record.Record, err error) {
	policy := l.Policy()
	if _, err := policy.Some(peer); err != nil {
		return nil, nil
	}
	_, refused := policy.Whole(peer)
	err = l.with(func(r *replica.Replica) (err error) {
		if refused != nil {
			v, err = r.ScopeVersion(peer, id)
		} else {
			v, err = r.Version(id)
		}
		return err
	})
	return v, err
}
