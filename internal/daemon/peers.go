package daemon

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"sharefs"
	"sharefs/fs"
	"sharefs/internal/status"
	"sharefs/internal/store"
	"sharefs/peers/book"
	"sharefs/peers/link"
	"sharefs/peers/pace"
	"sharefs/peers/report"
	"sharefs/peers/trust"
	"sharefs/peers/trust/shell"
)

// peers is what the daemon has of other hosts.
type peers struct {
	book *book.Book
	hub  *link.Hub // nil: there are none, and err says why
	pace *pace.Pacer
	err  error

	epoch sync.Mutex // held by whoever begins an epoch of the share keys

	mu      sync.Mutex // guards answers
	answers []report.Answer
}

// answersKept is how many answers to commands are kept for who asked.
const answersKept = 64

// startPeers begins to keep the store connected to its peers. The mount goes on whatever becomes of that; what is wrong is in the status.
func (d *Daemon) startPeers() {
	p := &d.peers
	path := filepath.Join(d.store.Dir, store.PeersFile)
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		p.err = &sharefs.Error{Op: "read peers", Path: path, Kind: sharefs.KindOf(err), Err: err}
	}
	if p.err == nil {
		p.book, p.err = book.Open(text, func(text []byte) error { return d.store.WriteFile(store.PeersFile, text) })
	}
	if p.err == nil {
		p.book.Reserve(d.reservedName)
		p.pace = pace.New(p.book.Rates)
		c := &d.store.Config.Peers
		listen := c.Listen
		if d.options.Listen != "" {
			listen = d.options.Listen
		}
		p.hub, p.err = link.Start(link.Config{
			Key: d.store.Keys.Identity.Private(), Name: c.HostName(), Listen: listen, LAN: c.LAN, Book: p.book, Log: d.log.With("part", "peers"),
		})
	}
	if p.err != nil {
		d.log.Error("there are no peers", "file", path, "error", p.err)
		return
	}
	d.startKeeper()
	if at := p.hub.Pairing(); at.Error != "" {
		d.warn("no peer can reach this store: " + at.Error)
	}
	if err := d.beginEpoch(); err != nil {
		d.log.Error("a key is in use that a peer may know whose trust has ended", "error", err)
	}
}

// stopPeers ends all sessions.
func (d *Daemon) stopPeers() {
	if d.peers.hub != nil {
		d.peers.hub.Close()
	}
}

// peersStatus sums up for the status, with each peer where they may be seen; nil where nobody was ever paired and nothing is wrong.
func (d *Daemon) peersStatus(seen bool) *status.Peers {
	if d.peers.err != nil {
		return &status.Peers{Error: d.peers.err.Error()}
	}
	if d.peers.hub == nil {
		return nil
	}
	at, all := d.peers.hub.Pairing(), d.peers.hub.Peers()
	if seen {
		d.tellOf(all)
	}
	s := &status.Peers{Listening: at.Listening, Error: at.Error}
	for i := range all {
		if all[i].Level != report.Former {
			s.Known++
		}
		if all[i].Connected {
			s.Connected++
		}
	}
	if s.Known == 0 && at.Listening == "" && at.Error == "" {
		return nil
	}
	sync := d.travel.sync(seen)
	s.Sync, s.Backups = &sync, d.vaults.troubles()
	if seen {
		s.All = all
	}
	return s
}

// peersFiles are the files of .share/ctl about peers.
func (d *Daemon) peersFiles() []fs.CtlFile {
	return []fs.CtlFile{
		{Name: "peers.json", Mode: 0o400, Read: func() []byte {
			d.sound()
			return d.json(d.allPeers())
		}},
		{Name: "conflicts.json", Mode: 0o400, Read: func() []byte { return d.json(d.travel.conflicts()) }},
		{Name: "decided.json", Mode: 0o400, Read: func() []byte { return d.json(d.travel.decisions.list()) }},
		{Name: "held.json", Mode: 0o400, Read: func() []byte { return d.json(d.travel.held()) }},
		{Name: "sync", Mode: 0o400, Read: func() []byte {
			s := d.travel.sync(true)
			return []byte(s.Text())
		}},
		{Name: "sync.json", Mode: 0o400, Read: func() []byte { return d.json(d.travel.sync(true)) }},
		{Name: "pairing.json", Mode: 0o400, Read: func() []byte {
			r := report.Pairing{Addresses: []string{}, Asked: []report.Window{}}
			if d.peers.hub != nil {
				r = d.peers.hub.Pairing()
			} else if d.peers.err != nil {
				r.Error = d.peers.err.Error()
			}
			d.peers.mu.Lock()
			defer d.peers.mu.Unlock()
			r.Answers = slices.Clone(d.peers.answers)
			if r.Answers == nil {
				r.Answers = []report.Answer{}
			}
			return d.json(r)
		}},
	}
}

// allPeers tells of all peers, by name.
func (d *Daemon) allPeers() []report.Peer {
	if d.peers.hub == nil {
		return []report.Peer{}
	}
	all := d.peers.hub.Peers()
	d.tellOf(all)
	return all
}

// tellOf completes what the hub tells of peers by what travels, and is kept.
func (d *Daemon) tellOf(all []report.Peer) {
	now, policy := d.travel.present(), d.peers.book.Policy()
	left := map[string]uint64{}
	for _, l := range d.travel.leftOut() {
		left[l.ID] = l.Changes
	}
	for i := range all {
		p := &all[i]
		if id, err := sharefs.ParsePeerID(p.ID); err == nil {
			p.LeftOut, p.Cuts = left[p.ID], d.travel.cuts(id)
			p.Files = d.travel.files(&now, policy, id)
			p.Backup, p.Keeps = d.vaults.status(id), d.vaults.keeps(id, p.Name)
			if l := d.peers.book.Limits(id); l != (book.Limits{}) {
				p.Limits = &report.Limits{Up: l.Up, Down: l.Down, Quota: l.Quota, Records: l.Records, Domain: l.Domain, Text: l.String()}
			}
			p.Why = status.Why(p)
		}
	}
}

// sound asks peers that were not heard of for a while whether they are there.
func (d *Daemon) sound() {
	if d.peers.hub != nil {
		d.peers.hub.Sound()
	}
}

// ofNow has a file tell of peers that have been asked whether they are there.
func (d *Daemon) ofNow(read func(of string) ([]byte, error)) func(of string) ([]byte, error) {
	return func(of string) ([]byte, error) {
		d.sound()
		return read(of)
	}
}

// peersDir is .share/ctl/peers: a directory for each peer.
func (d *Daemon) peersDir() fs.CtlDir {
	text := func(read func(report.Peer) string) func(string) ([]byte, error) {
		return func(of string) ([]byte, error) {
			if d.peers.hub == nil {
				return nil, sharefs.KindNotExist
			}
			all := d.allPeers()
			i := slices.IndexFunc(all, func(p report.Peer) bool { return p.Name == of })
			if i < 0 {
				return nil, sharefs.KindNotExist
			}
			return []byte(read(all[i])), nil
		}
	}
	return fs.CtlDir{Name: "peers", List: func() (names []string) {
		if d.peers.book != nil {
			for _, p := range d.peers.book.Peers() {
				names = append(names, p.Name)
			}
		}
		return names
	}, Files: []fs.CtlEntry{
		{Name: "id", Mode: 0o400, Read: text(func(p report.Peer) string { return p.ID + "\n" })},
		{Name: "level", Mode: 0o600, Read: text(func(p report.Peer) string { return p.Level + "\n" }), Write: func(of, line string) error {
			_, err := d.grant(of, strings.TrimSpace(line), "")
			return err
		}},
		{Name: "rules", Mode: 0o400, Read: text(func(p report.Peer) string { return d.rules(p.ID, p.Name) })},
		{Name: "limits", Mode: 0o600, Read: text(func(p report.Peer) string {
			if p.Limits == nil {
				return ""
			}
			return p.Limits.Text + "\n"
		}), Write: func(of, line string) error { return d.limit(of, strings.Fields(line)...) }},
		{Name: "addresses", Mode: 0o400, Read: text(func(p report.Peer) string {
			return strings.Join(append(slices.Clone(p.Addresses), ""), "\n")
		})},
		{Name: "proposed.json", Mode: 0o400, Read: func(of string) ([]byte, error) {
			if d.peers.hub == nil {
				return nil, sharefs.KindNotExist
			}
			p, err := d.travel.proposed(of)
			if err != nil {
				return nil, err
			}
			return d.json(p), nil
		}},
		{Name: "status", Mode: 0o400, Read: d.ofNow(text(func(p report.Peer) string { return p.Text() }))},
		{Name: "status.json", Mode: 0o400, Read: d.ofNow(text(func(p report.Peer) string { return string(d.json(p)) }))},
	}}
}

// rules writes what a peer may.
func (d *Daemon) rules(id, name string) string {
	peer, err := sharefs.ParsePeerID(id)
	if err != nil {
		return ""
	}
	return shell.Format(d.peers.book.Policy(), peer, name)
}

// rulesChanged has the rules of the moment count.
func (d *Daemon) rulesChanged() {
	d.peers.hub.Sync()
	d.travel.rulesChanged()
	d.vaults.rulesChanged()
}

// grant gives a peer a level at a path, or takes the rule for the path away ([trust.Inherit]).
func (d *Daemon) grant(peer, level, path string) (book.Peer, error) {
	var l trust.Level
	var err error
	if level != trust.Inherit {
		if l, err = trust.ParseLevel(level); err != nil {
			return book.Peer{}, err
		}
	}
	pattern, err := trust.ParsePattern(path)
	if err != nil {
		return book.Peer{}, err
	}
	if d.peers.hub == nil {
		return book.Peer{}, d.peers.err
	}
	var p book.Peer
	if level == trust.Inherit {
		p, err = d.peers.book.Inherit(peer, pattern)
	} else {
		p, err = d.peers.book.Grant(peer, l, pattern)
	}
	d.rulesChanged()
	if err == nil {
		err = d.beginEpoch()
	}
	if err == nil {
		_, err = d.travel.heedCuts()
	}
	return p, err
}

// limit changes limits of a peer, each "NAME=VALUE".
func (d *Daemon) limit(peer string, changes ...string) error {
	if d.peers.hub == nil {
		return d.peers.err
	}
	_, err := d.peers.book.Limit(peer, changes...)
	if err == nil {
		d.travel.rulesChanged() // what was too much is asked for again if it is not any more
	}
	return err
}

// peerVerbs are the commands about peers. Their values are escaped as in the query of a URL; what became of one stands in pairing.json under the word that asked gives.
var peerVerbs = map[string]verb{
	"pair-offer":   {keys: []string{"asked", "lan"}, need: true},
	"pair-join":    {keys: []string{"asked", "link"}, need: true},
	"pair-add":     {keys: []string{"asked", "id", "name", "addresses"}, need: true},
	"pair-answer":  {keys: []string{"asked", "of", "number", "agree"}, need: true},
	"pair-end":     {keys: []string{"asked", "of"}, need: true},
	"peer-grant":   {keys: []string{"asked", "peer", "level", "path"}, need: true},
	"peer-ask":     {keys: []string{"asked", "peer"}, need: true},
	"peer-limit":   {keys: []string{"asked", "peer", "up", "down", "quota", "records", "domain"}, need: true},
	"peer-check":   {keys: []string{"asked", "peer"}, need: true},
	"peer-drop":    {keys: []string{"asked", "peer"}, need: true},
	"peer-purge":   {keys: []string{"asked", "peer", "cut", "dry"}, need: true},
	"peer-revoke":  {keys: []string{"asked", "peer"}, need: true},
	"peer-rename":  {keys: []string{"asked", "peer", "name"}, need: true},
	"peer-forget":  {keys: []string{"asked", "peer"}, need: true},
	"peer-gone":    {keys: []string{"asked", "id", "name"}, need: true},
	"peer-replace": {keys: []string{"asked", "peer", "by"}, need: true},
	"accept":       {keys: []string{"asked", "peer", "paths", "all"}, need: true},
	"reject":       {keys: []string{"asked", "peer", "paths", "all"}, need: true},
	"held":         {keys: []string{"asked", "peer", "accept"}, need: true},
	"resolve":      {keys: []string{"asked", "path", "take", "of"}, need: true},
}

// answerTime is how long a peer may take to say what it lets this host read.
const answerTime = 2 * time.Second

// askPeer asks one.
func (d *Daemon) askPeer(word string) (says string, err error) {
	p, err := d.peers.book.Find(word)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	return d.peers.hub.Ask(ctx, p.ID), nil
}

// askPeers does one of them, and keeps the answer for who asked.
func (d *Daemon) askPeers(c command) error {
	args := map[string]string{}
	for key, value := range c.args {
		plain, err := url.QueryUnescape(value)
		if err != nil {
			return ctlError(c.verb, key+" is not escaped as in a URL")
		}
		args[key] = plain
	}
	err := d.peers.err
	a := report.Answer{Asked: args["asked"]}
	switch {
	case d.peers.hub == nil:
	case c.verb == "peer-purge":
		a.Changes, a.CutBy, err = d.travel.purge(args["peer"], args["cut"] == "yes", args["dry"] == "yes")
	case c.verb == "peer-revoke" || c.verb == "peer-replace":
		a.Changes, a.CutBy, err = d.revoke(c.verb, args)
	case c.verb == "peer-ask":
		a.Says, err = d.askPeer(args["peer"])
	default:
		err = d.doPeers(c.verb, args)
	}
	if args["asked"] == "" {
		return err
	}
	if err != nil {
		a.Error, a.Kind = err.Error(), uint8(sharefs.KindOf(err))
	}
	d.peers.mu.Lock()
	defer d.peers.mu.Unlock()
	d.peers.answers = append(d.peers.answers, a)
	if n := len(d.peers.answers); n > answersKept {
		d.peers.answers = d.peers.answers[n-answersKept:]
	}
	return nil
}
