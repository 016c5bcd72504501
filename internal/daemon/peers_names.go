package daemon

import (
	"errors"
	"slices"
	"strings"

	"sharefs"
	"sharefs/peers/book"
	"sharefs/peers/report"
	"sharefs/versions"
)

// reservedName says why no peer may have a name, empty if one may: behind FILE@@, and where versions of a file are to be chosen from, it means something else.
func (d *Daemon) reservedName(name string) string {
	if why := report.Reserved(name); why != "" {
		return why
	}
	if d.store.Keys.Identity.ID.Begins(name) {
		return "the id of this host begins with it"
	}
	if e := new(sharefs.Error); errors.As(versions.CheckMomentName(name), &e) {
		return e.Detail
	}
	why := ""
	// What cannot be read is no reason to refuse a name.
	_ = d.tree.NamedMoments(func(m versions.Moment) bool {
		switch {
		case !strings.EqualFold(m.Name, name):
			return true
		case m.Ino == sharefs.RootIno:
			why = "a snapshot or branch of the tree has this name"
		default:
			why = "a tag or branch of a file or directory has this name"
		}
		return false
	})
	return why
}

// reservedMoment reports whether no new tag may have a name, or no new branch: what was on no branch is a branch once another one is switched to.
func reservedMoment(name string, branch bool) bool {
	return report.Reserved(name) != "" && !(branch && strings.EqualFold(name, report.FirstBranch))
}

// peerNamed reports whether a peer has a name, which no snapshot, tag or branch may have then. Case does not tell names apart, as above.
func (d *Daemon) peerNamed(name string) bool {
	return d.peers.book != nil && slices.ContainsFunc(d.peers.book.Peers(), func(p book.Peer) bool { return strings.EqualFold(p.Name, name) })
}
