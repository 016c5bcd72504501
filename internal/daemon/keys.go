package daemon

import (
	"sharefs"
	"sharefs/internal/status"
)

// beginEpoch begins a new epoch of the share keys if somebody who may know the key in use is not to know the next one. That comes after the change of his rules, by which he is sent
// nothing more, and is tried again at the next mount and with the next change, if it fails.
func (d *Daemon) beginEpoch() error {
	p := &d.peers
	p.epoch.Lock()
	defer p.epoch.Unlock()
	due := p.book.EpochsDue()
	if due == 0 {
		return nil
	}
	ring, err := d.tree.BeginEpoch()
	if err == nil {
		d.log.Info("another share key is in use", "epoch", ring.Use().Epoch, "share", ring.Use().Share, "keys", ring.Len())
		err = p.book.EpochBegun(due)
	}
	if err != nil {
		return &sharefs.Error{Op: "begin another epoch of the share keys", Kind: sharefs.KindOf(err),
			Detail: "who is trusted no more gets nothing from here, and may read what is new if it comes by it. The next mount tries again", Err: err}
	}
	return nil
}

// keysStatus sums up for the status.
func (d *Daemon) keysStatus() status.Keys {
	ring := d.tree.Keys()
	use := ring.Use()
	s := status.Keys{Known: ring.Len(), Shares: len(ring.Shares()), Share: use.Share.String(), Epoch: use.Epoch}
	if d.peers.book != nil {
		s.Due = d.peers.book.EpochsDue()
	}
	return s
}
