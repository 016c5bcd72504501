package client

import (
	"crypto/rand"
	"encoding/json"
	"maps"
	"net/url"
	"path/filepath"
	"slices"

	"sharefs"
	"sharefs/internal/term"
	"sharefs/peers/report"
)

// Peers lists the hosts that the mount's store is paired with, by name.
func (m *Mount) Peers() (all []report.Peer, err error) { return all, m.readPeers("peers.json", &all) }

// Pairing tells who this host is and what becomes of attempts to pair.
func (m *Mount) Pairing() (*report.Pairing, error) {
	r := new(report.Pairing)
	return r, m.readPeers("pairing.json", r)
}

// Authors returns how hosts are called that wrote something: this one, and its peers, by names that only root and whoever mounted it may see. Others see ids.
func (m *Mount) Authors() func(sharefs.PeerID) string {
	var self sharefs.PeerID
	names := map[string]string{}
	if r, err := m.Pairing(); err == nil {
		if id, err := sharefs.ParsePeerID(r.ID); err == nil {
			self = id
		}
	}
	if all, err := m.Peers(); err == nil {
		for i := range all {
			names[all[i].ID] = all[i].Name
		}
	}
	return func(id sharefs.PeerID) string { return report.AuthorName(id, self, names[id.String()]) }
}

func (m *Mount) readPeers(name string, v any) error {
	text, err := m.CtlText(name)
	if sharefs.KindOf(err) == sharefs.KindAccess {
		return &sharefs.Error{Path: term.Quote(m.Point), Kind: sharefs.KindAccess, Detail: "only root and whoever mounted it may see its peers"}
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, v); err != nil {
		return &sharefs.Error{Op: "read the peers of", Path: term.Quote(m.Point), Kind: sharefs.KindCorrupt, Err: err}
	}
	return nil
}

// AskPeers has the mount do a command about peers and returns the word by which it knows what was asked. The error is the mount's own.
func (m *Mount) AskPeers(verb string, args map[string]string) (asked string, err error) {
	a, err := m.Answer(verb, args)
	return a.Asked, err
}

// Purge takes back what a peer did to the tree, cut: what is past where it was revoked first alone; dry: it only tells. The answer has what that changes.
func (m *Mount) Purge(peer string, cut, dry bool) (report.Answer, error) {
	args := map[string]string{"peer": peer}
	for key, on := range map[string]bool{"cut": cut, "dry": dry} {
		if on {
			args[key] = "yes"
		}
	}
	return m.Answer("peer-purge", args)
}

// AskPeer has the mount ask a peer whether this host may read something there, and returns what it says: one of the words of [report.Answer].
func (m *Mount) AskPeer(name string) (says string, err error) {
	a, err := m.Answer("peer-ask", map[string]string{"peer": name})
	return a.Says, err
}

// Answer has the mount do a command about peers, and returns what it says.
func (m *Mount) Answer(verb string, args map[string]string) (a report.Answer, err error) {
	asked := rand.Text()
	line := verb + " asked=" + asked
	for _, key := range slices.Sorted(maps.Keys(args)) {
		if args[key] != "" {
			line += " " + key + "=" + url.QueryEscape(args[key])
		}
	}
	if err := m.Tell(line); err != nil {
		return a, err
	}
	r, err := m.Pairing()
	if err != nil {
		return a, err
	}
	i := slices.IndexFunc(r.Answers, func(a report.Answer) bool { return a.Asked == asked })
	switch {
	case i < 0:
		return a, &sharefs.Error{Op: verb, Kind: sharefs.KindStale, Detail: "the mount does not answer; its log says more"}
	case r.Answers[i].Error != "":
		return a, &sharefs.Error{Kind: sharefs.Kind(r.Answers[i].Kind), Detail: term.Clean(r.Answers[i].Error)}
	}
	return r.Answers[i], nil
}

// Attempt is what has become of an attempt to pair; nil when the mount knows nothing of it any more.
func (m *Mount) Attempt(asked string) (*report.Window, error) {
	r, err := m.Pairing()
	if err != nil {
		return nil, err
	}
	for i := range r.Asked {
		if r.Asked[i].Asked == asked {
			return &r.Asked[i], nil
		}
	}
	return nil, nil
}

// PeerRules is what a peer may, as package shell reads it.
func (m *Mount) PeerRules(name string) (string, error) {
	text, err := m.CtlText("peers/" + name + "/rules")
	return string(text), err
}

// Conflicts lists names of which several versions wait for a choice, by path.
func (m *Mount) Conflicts() (all []report.Conflict, err error) {
	return all, m.readPeers("conflicts.json", &all)
}

// Held lists removals and renames in bulk that wait for the owner, by peer.
func (m *Mount) Held() (all []report.Held, err error) {
	return all, m.readPeers("held.json", &all)
}

// Decide accepts or rejects what a peer proposes, and returns what became of it.
func (m *Mount) Decide(verb string, args map[string]string) (*report.Decided, error) {
	asked, err := m.AskPeers(verb, args)
	if err != nil {
		return nil, err
	}
	var all []report.Decided
	if err := m.readPeers("decided.json", &all); err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(d report.Decided) bool { return d.Asked == asked })
	if i < 0 {
		return nil, &sharefs.Error{Op: verb, Kind: sharefs.KindStale, Detail: "it is done, and the mount does not tell any more what it was"}
	}
	return &all[i], nil
}

// Sync tells how far the mount's tree and what its peers said are.
func (m *Mount) Sync() (*report.Sync, error) {
	s := new(report.Sync)
	return s, m.readPeers("sync.json", s)
}

// NameInMount finds the mount that a name lies in, and the path from its root; the name itself is not followed where it is a symbolic link.
func NameInMount(name string) (m *Mount, path string, err error) {
	abs, err := filepath.Abs(name)
	if err != nil {
		return nil, "", pathError(name, err)
	}
	dir, m, err := Wherever(filepath.Dir(abs))
	if err != nil {
		if at, e := MountOf(abs); e == nil && at.Point == abs { // the mount itself
			return at, "", nil
		}
		return nil, "", renamed(err, name)
	}
	rel, err := filepath.Rel(m.Point, filepath.Join(dir, filepath.Base(abs)))
	if err != nil {
		return nil, "", pathError(name, err)
	}
	return m, rel, m.WantLive()
}
