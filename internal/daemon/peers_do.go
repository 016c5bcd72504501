package daemon

import (
	"strconv"
	"strings"

	"sharefs"
	"sharefs/peers/pair"
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
	case "peer-revoke":
		_, err = b.Revoke(args["peer"])
	case "peer-rename":
		_, err = b.Rename(args["peer"], args["name"])
	case "peer-forget":
		_, err = b.Forget(args["peer"])
	case "peer-replace":
		_, _, err = b.Replace(args["peer"], args["by"])
	}
	d.rulesChanged()
	if err != nil {
		return err
	}
	return d.beginEpoch()
}
