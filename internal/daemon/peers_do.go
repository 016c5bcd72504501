package daemon

import (
	"strconv"
	"strings"
	"time"

	"sharefs"
	"sharefs/peers/book"
	"sharefs/peers/pair"
	"sharefs/peers/report"
	"sharefs/peers/trust"
)

// doPeers does one command about peers.
func (d *Daemon) doPeers(verb string, args map[string]string) error {
	hub, b := d.peers.hub, d.peers.book
	switch verb {
	case "pair-offer":
		return hub.Offer(args["asked"], args["lan"] == "yes")
	case "pair-join":
		return hub.Join(args["asked"], args["link"])
	case "pair-add":
		id, err := sharefs.ParsePeerID(args["id"])
		if err != nil {
			return err
		}
		var given []string
		for _, a := range strings.Fields(args["addresses"]) {
			addr, ok := pair.Address(a)
			if !ok {
				return &sharefs.Error{Op: "pair", Path: strconv.Quote(a), Kind: sharefs.KindInvalid, Detail: "no address of a peer: HOST:PORT is wanted, [HOST]:PORT where HOST has colons in it"}
			}
			given = append(given, addr)
		}
		return hub.AddByHand(args["asked"], id, args["name"], given)
	case "pair-answer":
		n, err := strconv.Atoi(args["number"])
		if err != nil {
			return ctlError(verb, "number is that of a candidate")
		}
		return hub.Answer(args["of"], n, args["agree"] == "yes")
	case "pair-end":
		hub.End(args["of"])
		return nil
	case "resolve":
		return d.travel.resolve(args["path"], args["take"], args["of"])
	case "accept", "reject":
		p := picked{all: args["all"] == "yes"}
		if !p.all && args["paths"] == "" {
			return ctlError(verb, "takes paths, or all=yes")
		}
		if !p.all {
			p.paths = strings.Split(args["paths"], "\x00")
		}
		if verb == "reject" {
			return d.travel.reject(args["asked"], args["peer"], p)
		}
		return d.travel.accept(args["asked"], args["peer"], p)
	case "held":
		return d.travel.decideHeld(args["peer"], args["accept"] == "yes")
	case "peer-grant":
		_, err := d.grant(args["peer"], args["level"], args["path"])
		return err
	case "peer-check":
		return d.vaults.checkNow(args["peer"])
	case "peer-drop":
		return d.dropKept(args["peer"])
	case "peer-limit":
		var changes []string
		for _, name := range []string{"up", "down", "quota", "records", "domain"} {
			if value := args[name]; value != "" {
				changes = append(changes, name+"="+value)
			}
		}
		return d.limit(args["peer"], changes...)
	}
	var err error
	switch verb {
	case "peer-rename":
		_, err = b.Rename(args["peer"], args["name"])
	case "peer-forget":
		_, err = b.Forget(args["peer"])
	case "peer-gone":
		err = d.gone(args["id"], args["name"])
	}
	d.rulesChanged()
	if err != nil {
		return err
	}
	return d.beginEpoch()
}

// gone notes that a host is no more. One that is connected is there, and this host itself is.
func (d *Daemon) gone(text, name string) error {
	id, err := sharefs.ParsePeerID(text)
	if err != nil {
		return err
	}
	refuse := func(detail string) error {
		return &sharefs.Error{Op: "gone", Path: strconv.Quote(id.Short()), Kind: sharefs.KindInvalid, Detail: detail}
	}
	if id == d.store.Keys.Peer() {
		return refuse("it is this host")
	}
	if known, ok := d.peers.book.Peer(id); ok {
		if _, connected := d.peers.hub.Connected(id); connected {
			return refuse("it is connected, so it is not gone: sharefs revoke " + known.Name + " shuts it out")
		}
		if policy := d.peers.book.Policy(); policy.Most(id) == trust.Blocked && !policy.Former(id) && !known.Lost {
			return refuse("it was revoked here, and whoever has its key may have signed more since: sharefs grant " + known.Name + " write has all of it count nevertheless")
		}
	}
	_, err = d.peers.book.Gone(id, name, time.Now())
	return err
}

// revoke does a command that revokes a peer: this host says where that one ends, and takes back what is past where others have revoked it before. It returns what that changes, and who those are.
func (d *Daemon) revoke(verb string, args map[string]string) (changes []report.Change, by string, err error) {
	b := d.peers.book
	ends := &d.travel.ends // so that nobody else does what is due before the new share key is in use, and tells here of it
	ends.doing.Lock()
	defer ends.doing.Unlock()
	var p book.Peer
	if verb == "peer-replace" {
		p, _, err = b.Replace(args["peer"], args["by"])
	} else {
		p, err = b.Revoke(args["peer"])
	}
	d.rulesChanged()
	if err != nil {
		return nil, "", err
	}
	if err := d.beginEpoch(); err != nil {
		return nil, "", err
	}
	back, err := d.travel.heed()
	if took := back[p.ID]; len(took.Changes) > 0 {
		changes, by = changesOf(took.Changes), d.travel.author(took.By)
	}
	return changes, by, err
}
