package sim

import (
	"errors"
	"slices"
	"sort"

	"sharefs/peers/replica"
)

// table is a space of a database: keys in order, and values by key.
type table struct {
	keys   []string
	values map[string]string
}

func (t *table) put(r *replica.Row) {
	key := string(r.Key)
	i, there := slices.BinarySearch(t.keys, key)
	switch {
	case r.Value == nil && there:
		t.keys = slices.Delete(t.keys, i, i+1)
		delete(t.values, key)
	case r.Value != nil:
		if !there {
			t.keys = slices.Insert(t.keys, i, key)
		}
		if t.values == nil {
			t.values = map[string]string{}
		}
		t.values[key] = string(r.Value)
	}
}

// disk is the database of a replica, in memory. It implements [replica.Store]. Commits that were not synced are lost at a crash, from some moment on.
type disk struct {
	h      *host
	spaces map[uint8]*table
	log    [][]replica.Row // all commits
	safe   int             // how many of them are synced
	fail   bool            // the next commit fails
}

func newDisk(h *host) *disk { return &disk{h: h, spaces: map[uint8]*table{}} }

var errDisk = errors.New("the disk failed")

// replay makes the database from its first commits.
func (d *disk) replay(n int) {
	d.spaces = map[uint8]*table{}
	d.log = slices.Clone(d.log[:n])
	d.safe = n
	for _, rows := range d.log {
		d.write(rows)
	}
}

func (d *disk) write(rows []replica.Row) {
	for i := range rows {
		s := d.spaces[rows[i].Space]
		if s == nil {
			s = &table{}
			d.spaces[rows[i].Space] = s
		}
		s.put(&rows[i])
	}
}

func (d *disk) crash(rnd func(n int) int) { d.replay(d.safe + rnd(len(d.log)-d.safe+1)) }

// Get implements [replica.Store].
func (d *disk) Get(space uint8, key []byte) ([]byte, bool, error) {
	s := d.spaces[space]
	if s == nil {
		return nil, false, nil
	}
	v, ok := s.values[string(key)]
	return []byte(v), ok, nil
}

// Scan implements [replica.Store].
func (d *disk) Scan(space uint8, from, to []byte, fn func(key, value []byte) bool) error {
	s := d.spaces[space]
	if s == nil {
		return nil
	}
	for _, key := range slices.Clone(s.keys[sort.SearchStrings(s.keys, string(from)):]) {
		if to != nil && key >= string(to) || !fn([]byte(key), []byte(s.values[key])) {
			break
		}
	}
	return nil
}

// Commit implements [replica.Store].
func (d *disk) Commit(rows []replica.Row) error {
	d.h.tick()
	if d.fail {
		d.fail = false
		return errDisk
	}
	mine := make([]replica.Row, len(rows))
	for i, r := range rows {
		mine[i] = replica.Row{Space: r.Space, Key: slices.Clone(r.Key)}
		if r.Value != nil {
			mine[i].Value = append([]byte{}, r.Value...)
		}
	}
	d.log = append(d.log, mine)
	d.write(mine)
	d.h.tick()
	return nil
}

// Sync implements [replica.Store].
func (d *disk) Sync() error {
	d.h.tick()
	d.safe = len(d.log)
	d.h.tick()
	return nil
}
