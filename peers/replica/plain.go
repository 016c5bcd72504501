package replica

import (
	"sharefs/peers/converge"
	"sharefs/peers/record"
)

// plainMode is that of what nobody has told another one of.
func plainMode(typ record.Type) uint16 {
	if typ == record.Directory {
		return 0o755
	}
	return 0o644
}

// isPlain reports whether a file or directory is as it was made for somebody who had told nothing yet of what it is like, and may tell it later; or never, of a directory that leads to what this
// host may read.
func (r *Replica) isPlain(e *entry, now *record.Attr) bool {
	if !e.attr.IsZero() || now.Mode != plainMode(e.typ) || len(now.Xattrs) > 0 || now.HasMtime {
		return false
	}
	for link := range e.names.Keys() {
		if last := r.last.Get(converge.Key{File: e.id, Link: link}); last != nil && last.Author != r.cfg.Self {
			return true
		}
	}
	return false
}

// leads is isPlain for what has lost its records: if somebody told what it is like, it was made so.
func (r *Replica) leads(e *entry, now *record.Attr) bool {
	return r.attrs[e.id] == 0 && r.isPlain(e, now)
}
