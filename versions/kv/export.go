package kv

import (
	"bytes"
	"encoding/binary"
	"runtime/debug"

	"sharefs"
)

// An export is every row with its stamps and its past, taken beside those who commit, some rows at a time: no state of one moment. It becomes
// one by the commits that were made since it began ([DB.Changes]), which a [Builder] adds: a state is set, whether the export has it
// already or a later one, and the last word is theirs.
//
// It reads meta.db alone. What was committed and not applied when it began comes with the changes. Of each space the rows of the moment come
// first and then their past: a state that is superseded in between is in the past by then, if it was not read before.

// Mark says how far meta.db had come when an export began.
type Mark struct {
	Applied  uint64      // the changes behind this commit are needed beside the export
	Epoch    sharefs.HLC // that was open, 0 without one
	Boundary sharefs.HLC // the last one
}

// Part is a run of rows of an export.
type Part struct {
	Space uint8
	Past  bool
	// Rows holds, for each row, the lengths of key and value as uvarints, then both as they stand in the bucket of meta.db.
	Rows []byte
}

// Export is one on its way. One goroutine uses it at a time.
type Export struct {
	db    *DB
	begin Mark
	todo  []exportPart
	from  []byte // in the first of todo
	rows  uint64
}

type exportPart struct {
	space *space
	past  bool
}

// Export begins an export of all spaces but those in skip.
func (db *DB) Export(skip ...uint8) (e *Export, err error) {
	e = &Export{db: db}
	r, err := db.begin()
	if err != nil {
		return nil, err
	}
	defer r.end()
	defer db.damaged(debug.SetPanicOnFault(true), &err)
	m := r.tx.Bucket(metaBucket)
	e.begin = Mark{number(m.Get(keyApplied)), sharefs.HLC(number(m.Get(keyEpoch))), sharefs.HLC(number(m.Get(keyBoundary)))}
	// Boundaries first: [Pruner.Epochs] may remove some meanwhile, and a state without the boundary of its epoch would show too early.
	order := append([]*space{db.spaces[boundaries]}, db.spaces[:boundaries]...)
	for _, s := range order {
		if s == nil || bytes.IndexByte(skip, s.ID) >= 0 {
			continue
		}
		e.todo = append(e.todo, exportPart{s, false})
		if s.Versioned {
			e.todo = append(e.todo, exportPart{s, true})
		}
	}
	return e, nil
}

// Begin returns where the export began.
func (e *Export) Begin() Mark { return e.begin }

// Rows returns how many rows were exported so far.
func (e *Export) Rows() uint64 { return e.rows }

// Next returns the next part, of about limit bytes; ok is false when there is none. Its rows are built in the memory of buf.
func (e *Export) Next(buf []byte, limit int) (p Part, ok bool, err error) {
	for len(e.todo) > 0 {
		w := e.todo[0]
		p = Part{Space: w.space.ID, Past: w.past, Rows: buf[:0]}
		done, err := e.fill(&p, limit)
		if err != nil {
			return Part{}, false, err
		}
		if done {
			e.todo, e.from = e.todo[1:], nil
		}
		if len(p.Rows) > 0 {
			return p, true, nil
		}
	}
	return Part{}, false, nil
}

func (e *Export) fill(p *Part, limit int) (done bool, err error) {
	r, err := e.db.begin()
	if err != nil {
		return false, err
	}
	defer r.end()
	defer e.db.damaged(debug.SetPanicOnFault(true), &err)
	b := r.liveBucket(e.todo[0].space)
	if p.Past {
		b = r.pastBucket(e.todo[0].space)
	}
	if b == nil {
		return true, nil
	}
	c := b.Cursor()
	k, v := c.First()
	if e.from != nil {
		k, v = c.Seek(e.from)
	}
	for ; k != nil; k, v = c.Next() {
		if len(p.Rows) > 0 && len(p.Rows)+len(k)+len(v) > limit {
			e.from = bytes.Clone(k)
			return false, nil
		}
		p.Rows = appendRow(p.Rows, k, v)
		e.rows++
	}
	return true, nil
}

func appendRow(b, key, value []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(key)))
	b = binary.AppendUvarint(b, uint64(len(value)))
	return append(append(b, key...), value...)
}

// nextRow reads what appendRow wrote.
func nextRow(rows []byte) (key, value, rest []byte, ok bool) {
	klen, n := binary.Uvarint(rows)
	if n <= 0 {
		return nil, nil, nil, false
	}
	rows = rows[n:]
	vlen, n := binary.Uvarint(rows)
	if n <= 0 {
		return nil, nil, nil, false
	}
	rows = rows[n:]
	if klen == 0 || klen > uint64(len(rows)) || vlen > uint64(len(rows))-klen {
		return nil, nil, nil, false
	}
	return rows[:klen:klen], rows[klen : klen+vlen : klen+vlen], rows[klen+vlen:], true
}

// First returns the key of the first row of a part, as its space has it, for messages; nil where it cannot be read.
func (p *Part) First() []byte {
	key, _, _, ok := nextRow(p.Rows)
	if !ok {
		return nil
	}
	if p.Past && len(key) > stampSize {
		return plainKey(nil, key)
	}
	return key
}
