package vault

import (
	"fmt"
	"time"

	"sharefs"
	"sharefs/versions/tier"
)

// Refused is an object for which there was no room. Neither end keeps it: the giver tries again within a minute, behind what comes before that object.
type Refused struct {
	Since time.Time // so long nothing was complete; zero: there was room for all
	Tried time.Time // when something was to come the last time; of the keeper alone
	Size  uint64    // of the object, with what it takes beside
	Disk  bool      // the quota has room for it, the disk has not
	key   string
}

// again notes one more.
func (r *Refused) again(key string, size uint64, disk bool) {
	if r.Since.IsZero() {
		r.Since = time.Now()
	}
	r.key, r.Size, r.Disk, r.Tried = key, size, disk, time.Now()
}

// came notes that there was room for an object: for the same one, or for the root, which is put when all else is there.
func (r *Refused) came(key string) {
	if key == r.key || key == tier.RootKey {
		*r = Refused{}
	}
}

// name is what a peer is called here; empty: that is not known.
func (s *Store) name(id sharefs.PeerID) string {
	if s.cfg.Name == nil {
		return ""
	}
	return s.cfg.Name(id)
}

// unwanted notes that a peer without a quota wants to give something, and says why nothing is taken.
func (s *Store) unwanted(id sharefs.PeerID, why string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.vain[id] = time.Now()
	return &sharefs.Error{Op: "keep", Kind: sharefs.KindPermission, Detail: why}
}

// wanted notes that a peer has a quota by now.
func (s *Store) wanted(id sharefs.PeerID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.vain, id)
}

// noRoom notes that there is none for an object, of which replaced bytes give way, and says why. v.mu is held.
func (v *Vault) noRoom(in *incoming, quota, replaced, free uint64) error {
	disk := v.used+v.held+in.held <= quota+replaced
	v.refused.again(in.key, in.held, disk)
	e := &sharefs.Error{Op: "keep", Path: in.key, Kind: sharefs.KindNoSpace}
	if disk {
		e.Detail = fmt.Sprintf("its disk is full: %d bytes are free, %d stay so, and %d are to come", free, v.store.cfg.Spare, in.held)
	} else {
		e.Detail = fmt.Sprintf("it keeps %d bytes for this host (its quota), of which %d are used, and %d are to come", quota, v.used+v.held, in.held)
	}
	return e
}

// full notes that the disk had no room for an object, although it seemed to have.
func (v *Vault) full(in *incoming) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.refused.again(in.key, in.held, true)
}

// wants returns the object for which there is no room still. v.mu is held.
func (v *Vault) wants(quota uint64) Refused {
	r := v.refused
	if r.Since.IsZero() {
		return r
	}
	replaced := uint64(0)
	if old := v.objects[r.key]; old != nil {
		replaced = old.charge()
	}
	r.Disk = v.used+r.Size <= quota+replaced
	if r.Disk {
		if free, err := v.store.free(); err == nil && v.store.held.Load()+r.Size+v.store.cfg.Spare <= free {
			return Refused{}
		}
	}
	return r
}
