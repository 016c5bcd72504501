package journal

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"sharefs"
)

// Open reads the journal in a directory and calls fn for each record after number after, in order; payloads stay valid.
// When it returns, all of them survive the loss of power, torn tails are cut off, and files that add nothing are gone.
// An error of fn ends it. Damage to records that had been synced is an [sharefs.Error] of [sharefs.KindCorrupt].
func Open(fs FS, after uint64, fn func(Record) error) (*Journal, error) {
	return OpenKeeping(fs, after, after, fn)
}

// OpenKeeping is Open for somebody who copies the records elsewhere ([Journal.Tail]) and has come as far as the number copied: files with
// records behind that are not removed, though fn is not called for those up to after.
func OpenKeeping(fs FS, after, copied uint64, fn func(Record) error) (*Journal, error) {
	r, err := read(fs, after, copied, fn)
	if err != nil {
		return nil, err
	}
	j := &Journal{fs: fs, last: r.next - 1, number: r.number}
	if err := j.adopt(r); err != nil {
		return nil, err
	}
	return j, nil
}

// Read is Open for somebody who may only look: nothing is changed, and the last number comes back.
func Read(fs FS, after uint64, fn func(Record) error) (last uint64, err error) {
	r, err := read(fs, after, after, fn)
	if err != nil {
		return 0, err
	}
	return r.next - 1, nil
}

// replay is what reading a journal found.
type replay struct {
	segs   []found
	next   uint64 // the number after the last one delivered
	number uint64 // of the latest segment
}

type found struct {
	name string
	data []byte // its content as far as it could be read
	torn bool   // there was more
	last uint64 // the latest record delivered from it or not yet copied, 0 without one
}

func read(fs FS, after, copied uint64, fn func(Record) error) (*replay, error) {
	names, err := fs.List()
	if err != nil {
		return nil, fail("list", "", err)
	}
	r := &replay{next: after + 1}
	slices.Sort(names)
	var durable uint64
	for _, name := range names {
		number, ok := parseName(name)
		if !ok {
			continue
		}
		r.number = max(r.number, number)
		data, err := fs.ReadFile(name)
		if err != nil {
			return nil, fail("read", name, err)
		}
		g := found{name: name}
		end := ParseSegment(number, data, func(rec Record) {
			durable = max(durable, rec.Durable)
			// Before next: applied already. Beyond it: written behind records that were lost, so it never was promised.
			if rec.Seq > copied && rec.Seq <= after {
				g.last = rec.Seq
			}
			if rec.Seq != r.next || err != nil {
				return
			}
			if err = fn(rec); err != nil {
				return
			}
			r.next++
			g.last = rec.Seq
		})
		if err != nil {
			return nil, err
		}
		durable = max(durable, durableBehind(number, data, end))
		g.data, g.torn = data[:end], end < len(data)
		r.segs = append(r.segs, g)
	}
	if durable >= r.next {
		return nil, &sharefs.Error{Op: "journal replay", Kind: sharefs.KindCorrupt,
			Detail: fmt.Sprintf("record %d is lost, though all up to %d had been synced", r.next, durable)}
	}
	return r, nil
}

func parseName(name string) (uint64, bool) {
	hex, ok := strings.CutSuffix(name, ".wal")
	if !ok || len(hex) != 16 {
		return 0, false
	}
	n, err := strconv.ParseUint(hex, 16, 64)
	return n, err == nil && segmentName(n) == name
}

// adopt takes over what replay delivered records from and removes the rest.
//
// What a dead process left may be in the page cache alone, and a sync of it may have failed before, after which the
// kernel takes the pages for clean (Rebello et al., cited above). So the same bytes are written again, which needs no
// new room, and then synced. No record is ever appended to such a file: behind its tear there may be whole records with
// its salt.
//
// Of what is removed, some was dropped because a record before it is lost, and must not come back to follow on a new
// one with that number. It cannot: the first new record goes into a new segment, and create syncs the directory.
func (j *Journal) adopt(r *replay) error {
	for _, g := range r.segs {
		if g.last == 0 {
			if err := j.fs.Remove(g.name); err != nil && !errors.Is(err, os.ErrNotExist) {
				return fail("remove", g.name, err)
			}
			continue
		}
		f, err := j.fs.Open(g.name)
		if err != nil {
			return fail("open", g.name, err)
		}
		s := &segment{name: g.name, file: f, size: int64(len(g.data)), last: g.last}
		copy(s.salt[:], g.data[16:])
		j.old = append(j.old, s)
		j.segments.Add(1)
		j.bytes.Add(s.records())
		if _, err = f.WriteAt(g.data, 0); err == nil {
			if g.torn {
				err = f.Truncate(int64(len(g.data)))
			}
			if err == nil {
				err = f.Datasync()
			}
		}
		if err != nil {
			j.Close()
			return fail("take over", g.name, err)
		}
	}
	j.synced.Store(j.last)
	j.appended.Store(j.last)
	return nil
}
