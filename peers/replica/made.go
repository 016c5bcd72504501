package replica

import (
	"encoding/binary"
	"errors"
	"slices"

	"sharefs"
	"sharefs/peers/converge"
	"sharefs/peers/record"
)

// making is a file that is about to be made here for another host. It is in the database before that is done and until the account has the file: so if the process ends in between, and
// somebody removes the file meanwhile, it is known that he did, and not that it was never made. The inode tells it from one that was the same file before, and gave it up.
type making struct {
	link  uint64 // of its name
	ino   sharefs.Ino
	older bool // an older build wrote it, and ino is the highest inode that there was before
}

// makingNow ends a row that tells which inode the file is made as.
const makingNow = 1

func (m making) encode() []byte {
	return append(binary.BigEndian.AppendUint64(u64(m.link), uint64(m.ino)), makingNow)
}

func decodeMaking(b []byte) (m making, bad bool) {
	if m.older = len(b) == 16; !m.older && (len(b) != 17 || b[16] != makingNow) {
		return m, true
	}
	m.link, m.ino = binary.BigEndian.Uint64(b), sharefs.Ino(binary.BigEndian.Uint64(b[8:]))
	return m, false
}

// is reports whether an inode that was the file may be the one that was made. Of what an older build wrote a lower one may be as well: inodes are readied ahead, in no order.
func (m making) is(ino sharefs.Ino) bool { return m.older && ino > m.ino || !m.older && ino == m.ino }

// announce says which files are about to be made of the contents that are ready: up to the first one that has not been looked at, unless this is the last round, which leaves those aside.
func (p *plan) announce(last bool) error {
	r, before := p.r, len(p.making)
	for i := p.next; i < len(p.ops); i++ {
		op := &p.ops[i]
		rec := p.needs(op)
		if rec == nil {
			continue
		}
		it, looked := p.ready[rec.ID()]
		if !looked && !last {
			break
		}
		id := op.Key.File
		if it.content == nil || op.Verb != converge.Create || slices.Contains(p.making[before:], id) {
			continue
		}
		ino := it.content.Ino()
		if ino == 0 { // it was readied for the file that was there then
			it.content.Drop()
			p.ready[rec.ID()] = result{err: errAgain}
			continue
		}
		p.making = append(p.making, id)
		r.put(spaceMaking, id[:], making{link: op.Key.Link, ino: ino}.encode())
	}
	if len(p.making) == before {
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
	if err != nil || !ok || !made.is(ino) || r.files.Get(id) != nil {
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
