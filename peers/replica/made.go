package replica

import (
	"encoding/binary"
	"errors"

	"sharefs"
	"sharefs/peers/converge"
	"sharefs/peers/record"
)

// making is a file that is about to be made here for another host. It is in the database before that is done and until the account has the file: so if the process ends in between, and
// somebody removes the file meanwhile, it is known that he did, and not that it was never made.
type making struct {
	link    uint64      // of its name
	highest sharefs.Ino // of the inodes that there were before: it is made as a later one
}

// announce says which files are about to be made.
func (p *plan) announce() error {
	r := p.r
	for i := range p.ops {
		op := &p.ops[i]
		id := op.Key.File
		if op.Verb == converge.Create && op.Node.Type == record.Regular && !op.Node.Live.IsZero() && r.files.Get(id) == nil {
			p.making = append(p.making, id)
			r.put(spaceMaking, id[:], binary.BigEndian.AppendUint64(u64(op.Key.Link), uint64(r.highest)))
		}
	}
	if len(p.making) == 0 {
		return nil
	}
	return r.commit()
}

// withdraw says that what was announced is made, and in the account, or is not. If the account was read anew since, it is not known which: then the author comes to see.
func (p *plan) withdraw() {
	for _, id := range p.making {
		if _, unsure := p.r.unsure[id]; !unsure {
			p.r.drop(spaceMaking, id[:])
		}
	}
	p.making = nil
}

// madeAndGone writes down that an inode was removed which was made for another host's file before the account knew it.
func (r *Replica) madeAndGone(ino sharefs.Ino) error {
	if len(r.unsure) == 0 || r.inos.Get(ino) != nil {
		return nil
	}
	links, err := r.links(ino)
	if err != nil || links > 0 {
		return err
	}
	id, err := r.cfg.Tree.FileID(ino)
	if errors.Is(err, sharefs.KindStale) {
		return nil
	}
	made, ok := r.unsure[id]
	if err != nil || !ok || ino <= made.highest || r.files.Get(id) != nil {
		return err
	}
	r.bind(id, ino, record.Regular)
	return r.nameGone(converge.Key{File: id, Link: made.link})
}

// madeNothing says of what was about to be made, and is nowhere to be found, that it was not.
func (r *Replica) madeNothing() error {
	if len(r.unsure) == 0 {
		return nil
	}
	for id := range r.unsure {
		r.drop(spaceMaking, id[:])
	}
	clear(r.unsure)
	return r.commit()
}
