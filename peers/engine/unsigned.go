package engine

import (
	"slices"
	"time"

	"sharefs"
	"sharefs/peers/exchange"
	"sharefs/peers/record"
	"sharefs/peers/replica"
)

// resignPause is how often at most all is asked for again because the signatures of some records are wrong: whoever relays batches can have it so as often as he likes.
const resignPause = time.Hour

// leaveUnsigned takes records out of items whose signatures are not those of their authors, as nobody who is told of them singly would take them, and has all be asked for again: somebody else
// may have the right ones.
func (l *Log) leaveUnsigned(items []exchange.Item) {
	var bad []record.ID
	for i := range items {
		items[i].Records = slices.DeleteFunc(items[i].Records, func(rec *record.Record) bool {
			wrong := rec.Verify() != nil
			if wrong {
				bad = append(bad, rec.ID())
			}
			return wrong
		})
	}
	ask := false
	_ = l.with(func(r *replica.Replica) (err error) { // what fails is found again by the next peer who is told
		news := false
		if len(bad) > 0 {
			if news, err = r.Unsigned(bad...); err != nil {
				return err
			}
		}
		l.takes.Lock()
		defer l.takes.Unlock()
		l.unsigned = l.unsigned || news
		if !l.unsigned || time.Since(l.resigned) < resignPause {
			return nil
		}
		// What is under way is not to set a cursor before the logs are asked for.
		for _, peer := range l.Policy().Peers() {
			if l.early == nil {
				l.early = map[sharefs.PeerID]bool{}
			}
			l.early[peer] = true
		}
		if err = r.Reconsider(); err == nil {
			l.unsigned, l.resigned, ask = false, time.Now(), true
		}
		return err
	})
	if ask {
		l.Anew(0)
	}
}
