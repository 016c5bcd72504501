package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sharefs"
	"sharefs/internal/store"
	"sharefs/internal/term"
	"sharefs/peers/book"
)

// succeed has what was signed with the keys that the store had before count on the recovered one, so that what its host wrote after its last backup comes from peers that have it. The
// keys stand in the root, which is sealed: who keeps it cannot name another one.
func (r *recoverer) succeed(s *store.Store) error {
	path := filepath.Join(s.Dir, store.PeersFile)
	text, err := os.ReadFile(path) // of an earlier call
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return &sharefs.Error{Op: opRecover, Path: path, Kind: sharefs.KindOf(err), Err: err}
	}
	b, err := book.Open(text, func(text []byte) error { return s.WriteFile(store.PeersFile, text) })
	if err != nil {
		return err
	}
	name, now := s.Config.Peers.HostName(), time.Now()
	if s.Config.Peers.Name == "" {
		name = r.root.Host
	}
	for i, id := range r.root.Authors {
		if err := b.AddFormer(id, name, now.Add(time.Duration(-i)*time.Second)); err != nil { // the latest first, as the book tells
			return err
		}
	}
	if r.peers == nil && len(r.root.Authors) == 0 {
		return nil
	}
	name = book.CleanName(name)
	whom, grant := "its peers, if it has any,", "sharefs grant NAME LEVEL on both"
	if len(r.root.Peers) > 0 {
		whom = strings.Join(r.root.Peers, ", ")
		grant = "there sharefs grant " + name + " write, and here sharefs grant " + strings.Join(r.root.Peers, " write; sharefs grant ") + " write"
	}
	note := "for " + whom + " this is a new host. For each of them, here: sharefs pair --link; there: sharefs pair LINK, and sharefs peers replace " + name + " NEW, where NEW is the name that it printed; then " + grant
	if r.peers != nil {
		note += ". Who kept the backup is paired in the same way, and goes on with it by sharefs grant NAME store here, and sharefs peers limit " + name + " quota=50GB there"
	}
	r.report.Notes = append(r.report.Notes, note)
	if len(r.root.Authors) > 0 {
		r.report.Notes = append(r.report.Notes, "what "+name+" wrote after "+term.Second(r.root.Written)+" comes from peers that have it, once one of them is connected and granted write")
	}
	return nil
}
