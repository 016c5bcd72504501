package daemon

import (
	"maps"
	"slices"
	"time"

	"sharefs"
	"sharefs/internal/bytesize"
	"sharefs/peers/book"
	"sharefs/peers/report"
	"sharefs/peers/vault"
)

// status tells how a peer keeps the backup; nil: it is not to.
func (v *vaults) status(id sharefs.PeerID) *report.Backup {
	v.mu.Lock()
	g := v.given[id]
	v.mu.Unlock()
	if g == nil {
		return nil
	}
	s, at := g.uploader.Stats(), g.bucket.State()
	g.mu.Lock()
	r := g.report
	g.mu.Unlock()
	r.Files, r.Bytes, r.Complete, r.BacklogFiles, r.BacklogBytes, r.Behind, r.Sent = s.Files, s.Bytes, s.Complete, s.BacklogFiles, s.BacklogBytes, s.Behind, s.Sent
	r.Used, r.Quota, r.Damaged, r.Error, r.Refused, r.PutBack = at.Used, at.Quota, at.Damaged, s.Error, s.Refused, s.PutBack
	as := at.As
	if as != book.CleanName(as) {
		as = "NAME"
	}
	if at.NoQuota {
		r.NoQuota(allowing(as))
		return &r
	}
	if r.Full = full(at.Refused, r.Quota, r.Used+uint64(r.BacklogBytes), as); r.Full != nil && r.Error != "" {
		r.Error = r.FullText()
	}
	return &r
}

// backupLate is how long a peer may lack something without anybody having to see to it.
const backupLate = 24 * time.Hour

// troubles says what somebody should see to.
func (v *vaults) troubles() (list []string) {
	byID := func(a, b sharefs.PeerID) int { return slices.Compare(a[:], b[:]) }
	v.mu.Lock()
	ids := slices.SortedFunc(maps.Keys(v.given), byID)
	for _, id := range slices.SortedFunc(maps.Keys(v.errs), byID) {
		list = append(list, "no backup is given to "+v.d.peerName(id)+": "+v.errs[id].Error())
	}
	v.mu.Unlock()
	for _, id := range ids {
		b := v.status(id)
		if b == nil || b.Error == "" || !b.Refused && b.Full == nil && b.Allow == "" && (b.Behind.IsZero() || time.Since(b.Behind) < backupLate) {
			continue
		}
		is := "does not get on: "
		if b.Full != nil {
			is = "is "
		}
		list = append(list, "the backup with "+v.d.peerName(id)+" "+is+b.Error)
	}
	for _, p := range v.d.peers.book.Peers() {
		if k := v.keeps(p.ID, p.Name); k != nil && k.Full != nil {
			list = append(list, "the backup that this host keeps for "+p.Name+" is "+k.FullText())
		}
	}
	return list
}

// full tells that there is no room for what was refused; nil: nothing was. Quota is the one that there is, of which so much is needed, and as the name of the giver on the host that keeps it.
func full(r vault.Refused, quota, needed uint64, as string) *report.Full {
	if r.Since.IsZero() {
		return nil
	}
	f := &report.Full{Since: r.Since, Needs: r.Size, Disk: r.Disk}
	if more := quota; quota > 0 && !r.Disk {
		for needed = max(needed, quota, r.Size); more < needed+needed/4 && more < 1<<62; {
			more *= 2
		}
		f.More = limiting(as, bytesize.Size(more).String())
	}
	return f
}

// limiting is the command that gives a giver room, by its name on the host that keeps it; allowing is that of one that has none.
func limiting(name, quota string) string { return "sharefs peers limit " + name + " quota=" + quota }
func allowing(name string) string        { return limiting(name, "50GB") }
