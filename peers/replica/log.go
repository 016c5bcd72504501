package replica

import (
	"encoding/binary"
	"errors"
	"net"
	"time"

	"sharefs"
	"sharefs/peers/converge"
	"sharefs/peers/record"
)

// Log returns the id of the log that Since lists.
func (r *Replica) Log() LogID {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log
}

// Arrived returns the number of the last item of the log.
func (r *Replica) Arrived() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.arrived
}

// Take takes items that a peer sent, in the order in which it has them, and however often. It returns how many records were new; they survive power loss then. What is wrong with one
// item is an error, and none after it is taken, but those before it are:
//
//   - KindInvalid, KindCorrupt: it is not what an honest host sends: another share, a wrong signature.
//   - KindAgain: batches of its author are missing that come before it. They were passed over when they came, as long as its author did not count here:
//     begin with 0 once ([Replica.SetCursor]). What comes after it is taken.
//   - KindBusy: its time is more than 5 minutes ahead of this host's clock, which need not be the fault of whoever sent it: another time. What comes after it is taken, so that
//     nobody holds up what others wrote.
//
// Items of authors that do not count here are passed over and counted ([Replica.PassedOver]). So are, without being counted, those of one that signed two histories, from the first on
// that the other history has too, or one in two shares.
//
// What costs more than its own taking, as a directory that somebody says to have moved before many others did, is taken a part at a time, with pauses in which others get on, so that
// nobody has this host do no more than that.
func (r *Replica) Take(from sharefs.PeerID, items []Item) (fresh int, err error) {
	if err := r.catchUpHere(); err != nil {
		return 0, err
	}
	for {
		began := r.cfg.Now()
		n, news, end, e := r.takeSome(from, items)
		if e != nil && (end || err == nil) {
			err = e
		}
		if fresh += news; end || n == len(items) {
			return fresh, err
		}
		items = items[n:]
		r.rest(min(r.cfg.Now().Sub(began), longestRest))
		select {
		case <-r.cfg.Ending:
			return fresh, net.ErrClosed
		default:
		}
	}
}

// sleep rests, or until the host is to end.
func (r *Replica) sleep(d time.Duration) {
	select {
	case <-time.After(d):
	case <-r.cfg.Ending:
	}
}

// Bounds of what is done anew at a time for what a peer sends: records and names, about a microsecond each; and of the pause after it, which is as long as that took.
const (
	mostRedone  = 1 << 18
	longestRest = 10 * time.Second
)

// takeSome takes the first items, as many as are not too much at a time; end: none after them is to be taken.
func (r *Replica) takeSome(from sharefs.PeerID, items []Item) (n, fresh int, end bool, err error) {
	if err := r.enter(); err != nil {
		return 0, 0, true, err
	}
	defer r.mu.Unlock()
	var in []converge.Input
	twice := map[record.ID]bool{}
	r.young.prune(r.cfg.Now().Add(-youngFor))
	before := r.tree.Redone() + r.looked
	for n < len(items) && !end && r.tree.Redone()+r.looked-before < mostRedone {
		i := &items[n]
		n++
		w := r.watches(i)
		_, parts := r.where(i.author())
		if (w != nil || parts) && len(in) > 0 { // what is there is looked at
			r.add(in...)
			in = nil
		}
		come, news, e := r.takeItem(from, i, w, twice)
		in, fresh = append(in, come...), fresh+news
		if parts {
			in = nil // it was added
		}
		if e != nil && err == nil {
			err = e
		}
		if e != nil && !errors.Is(e, sharefs.KindAgain) && !errors.Is(e, sharefs.KindBusy) {
			err, end = e, true
		}
	}
	r.add(in...) // before the commit, which makes batches of what is in the tree
	if e := r.sync(); e != nil {
		return n, 0, true, e
	}
	return n, fresh, end, err
}

// takeItem checks an item and puts what is new of it into the database. What is judged by where it is in the tree is added to it, one record after the other; all else the caller adds.
func (r *Replica) takeItem(from sharefs.PeerID, i *Item, w *watch, twice map[record.ID]bool) (in []converge.Input, news int, err error) {
	if err := i.check(); err != nil {
		return nil, 0, err
	}
	author := i.Records[0].Author
	if author != r.cfg.Self && !r.cfg.Counts(author) {
		return nil, 0, r.passOver(from, i)
	}
	r.counted(author)
	if i.Batch == nil && twice[i.Records[0].ID()] {
		return nil, 0, nil
	}
	if i.Batch == nil && r.have(i.Records[0].ID()) || i.Batch != nil && r.taken(i.Batch) {
		in, news := r.again(i, w)
		return in, news, nil
	}
	if err := r.acceptable(i); err != nil {
		return nil, 0, err
	}
	if over, err := r.tooMany(i); err != nil || over {
		return nil, 0, err
	}
	lost := false
	if i.Batch == nil {
		if err := i.Records[0].Verify(); err != nil {
			return nil, 0, err
		}
	} else if c := r.chains[chainID{author, i.Batch.Incarnation}]; c != nil && c.Share() != i.Batch.Share {
		// No honest host goes on with a chain in another share. Whoever relays it may have seen that part of it first.
		if err := i.Batch.Verify(); err != nil {
			return nil, 0, err
		}
		r.cfg.Log.Warn("a host has signed one chain in two shares", "author", author.String(), "batch", i.Batch.Number)
		return nil, 0, nil
	} else {
		fresh, err := r.link(i.Batch)
		if errors.Is(err, sharefs.KindPermission) && (r.chain(i.Batch).Fork() != nil) {
			if author != r.cfg.Self {
				return nil, 0, nil
			}
			lost = true // and counts as what this host wrote since, in the chain that it begins
		} else if err != nil || !fresh {
			return nil, 0, err
		}
		r.noteBacks(i)
		if fresh {
			r.enlog(i.Batch)
		}
	}
	_, parts := r.where(author)
	for _, rec := range i.Records {
		id := rec.ID()
		if twice[id] || r.have(id) {
			continue
		}
		twice[id] = true
		if lost {
			r.anew = append(r.anew, id)
		}
		j := judged{rec, r.judge(rec)}
		if j.standing == Merged && w != nil {
			j.standing = w.judge(rec)
		}
		if p, ok := rec.Says().Body.(*record.Place); ok && j.standing == Merged && !r.placed[p.File] && r.cfg.Bulk != nil {
			r.young.add(p.File, r.cfg.Now())
		}
		if r.vouched[id] != nil {
			delete(r.vouched, id)
			r.tree.Renew(rec)
			if counts, _ := r.tree.Standing(id); counts == converge.Merged {
				j.standing = Merged
			}
		}
		in = append(in, j.inputs()...)
		news++
		r.written[author]++
		r.keep(j)
		if parts {
			r.addPart(j, w)
		}
		if i.Batch == nil {
			r.put(spaceLog, r.arrive(), id[:])
		}
	}
	return in, news, nil
}

// again judges anew what was passed over of an item that was taken before: it is asked for again when its author may do more. The records that are here are kept, for nobody has looked at the
// signatures of those that came now, but where that of one here is known to be wrong.
func (r *Replica) again(i *Item, w *watch) (in []converge.Input, news int) {
	_, parts := r.where(i.author())
	for _, rec := range i.Records {
		if r.resign(rec) {
			news++
		}
		had, ok := r.standingOf(rec.ID())
		if !ok || had != PassedOver && had != Leading {
			continue
		}
		rec = r.tree.Record(rec.ID())
		j := judged{rec, r.judge(rec)}
		if j.standing == Merged && w != nil {
			j.standing = w.judge(rec)
		}
		if j.standing == PassedOver || j.standing == had {
			continue
		}
		in = append(in, j.inputs()...)
		news++
		r.keep(j)
		if parts {
			r.addPart(j, w)
		}
	}
	return in, news
}

// taken reports whether a batch is in its chain already.
func (r *Replica) taken(b *record.Batch) bool {
	c := r.chains[chainID{b.Author, b.Incarnation}]
	return c != nil && c.Has(b)
}

// acceptable holds that what is wrong with records by themselves is not.
func (r *Replica) acceptable(i *Item) error {
	ahead := sharefs.HLCAt(r.cfg.Now().Add(sharefs.MaxClockLead))
	share, latest := i.Records[0].Share, i.Records[0].HLC
	for _, rec := range i.Records {
		latest = max(latest, rec.HLC)
	}
	if i.Batch != nil {
		latest = max(latest, i.Batch.HLC)
	}
	switch {
	case !r.cfg.Keys.Takes(share):
		return &sharefs.Error{Op: "take records", Kind: sharefs.KindInvalid, Detail: "they are of share " + share.String() + ", of which there is no key here"}
	case latest > ahead:
		return &sharefs.Error{Op: "take records", Kind: sharefs.KindBusy, Detail: "their time, " + latest.String() + ", is more than 5 minutes ahead of this host's clock: set one of the clocks"}
	}
	return nil
}

// Since lists items that arrived after a number, in their order, whoever wrote them, until they hold so many records, and returns the number to go on from. One item at the
// least is listed if there is any.
func (r *Replica) Since(after uint64, most int) (items []Item, next uint64, err error) {
	if err := r.enter(); err != nil {
		return nil, after, err
	}
	defer r.mu.Unlock()
	next = after
	n := 0
	var bad error
	err = r.cfg.Store.Scan(spaceLog, u64(after+1), nil, func(k, v []byte) bool {
		i, err := r.item(v)
		if err != nil {
			bad = err
			return false
		}
		i.Number = binary.BigEndian.Uint64(k)
		items, next = append(items, i), i.Number
		n += len(i.Records)
		return n < most
	})
	if err == nil {
		err = bad
	}
	return items, next, err
}

// Gave reports whether a number was given in this host's log. One that a peer goes on from was not where this host was put back from an image, and its clock was ahead when it gave it: what
// has come since may stand before it.
func (r *Replica) Gave(number uint64) (bool, error) {
	if err := r.enter(); err != nil {
		return false, err
	}
	defer r.mu.Unlock()
	_, ok, err := r.cfg.Store.Get(spaceLog, u64(number))
	return ok || number == 0, err
}

// item returns what a row of the log stands for.
func (r *Replica) item(row []byte) (i Item, err error) {
	ids := []record.ID{}
	if len(row) == len(record.ID{}) {
		ids = append(ids, record.ID(row))
	} else {
		raw, ok, err := r.cfg.Store.Get(spaceBatch, row)
		if err == nil && !ok {
			err = damaged("log")
		}
		if err != nil {
			return i, err
		}
		if i.Batch, err = record.DecodeBatch(raw); err != nil {
			return i, err
		}
		ids = i.Batch.Records
	}
	for _, id := range ids {
		rec := r.tree.Record(id)
		if rec == nil {
			return i, damaged("log")
		}
		i.Records = append(i.Records, rec)
	}
	return i, nil
}

// Cursor returns what this host has of a peer's log. Of another log than that it has nothing.
func (r *Replica) Cursor(peer sharefs.PeerID) (log LogID, arrived uint64, err error) {
	b, ok, err := r.cfg.Store.Get(spaceCursor, peer[:])
	if err != nil || !ok {
		return log, 0, err
	}
	if len(b) != 24 {
		return log, 0, damaged("cursors")
	}
	return LogID(b[:16]), binary.BigEndian.Uint64(b[16:]), nil
}

// SetCursor notes what this host has of a peer's log, once Take took it. If the power goes, it may be lost again, and items come twice.
func (r *Replica) SetCursor(peer sharefs.PeerID, log LogID, arrived uint64) error {
	return r.cfg.Store.Commit([]Row{{spaceCursor, append([]byte(nil), peer[:]...), binary.BigEndian.AppendUint64(append([]byte(nil), log[:]...), arrived)}})
}

// Reconsider has everything asked for again, from all peers: after an author has come to count more, for what came of him before was passed over. What was taken
// keeps the standing that its author had then.
func (r *Replica) Reconsider() error {
	var rows []Row
	err := r.cfg.Store.Scan(spaceCursor, nil, nil, func(k, _ []byte) bool {
		rows = append(rows, Row{Space: spaceCursor, Key: append([]byte(nil), k...)})
		return true
	})
	if err != nil || len(rows) == 0 {
		return err
	}
	return r.cfg.Store.Commit(rows)
}
