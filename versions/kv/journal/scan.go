package journal

import (
	"fmt"
	"slices"

	"sharefs"
)

// Scan reads what is left of a journal, whatever is missing of it, and changes nothing: it calls fn for every record that reads, in the order of
// their numbers within a segment and of the segments, until fn errors. Damage says what does not read and had been synced; behind a torn tail,
// where that was not, a record of a later segment may still follow with a number that leaves some out.
func Scan(fs FS, fn func(Record) error) (damage []error, err error) {
	names, err := fs.List()
	if err != nil {
		return nil, fail("list", "", err)
	}
	slices.Sort(names)
	var last, durable uint64
	for _, name := range names {
		number, ok := parseName(name)
		if !ok {
			continue
		}
		data, err := fs.ReadFile(name)
		if err != nil {
			damage = append(damage, fail("read", name, err))
			continue
		}
		var fnErr error
		end := ParseSegment(number, data, func(r Record) {
			durable = max(durable, r.Durable)
			if fnErr == nil {
				fnErr = fn(r)
				last = max(last, r.Seq)
			}
		})
		if fnErr != nil {
			return damage, fnErr
		}
		if behind := durableBehind(number, data, end); behind > last {
			durable = max(durable, behind)
			damage = append(damage, &sharefs.Error{Op: "journal scan", Path: name, Kind: sharefs.KindCorrupt, Detail: fmt.Sprintf("nothing reads behind record %d", last)})
		}
	}
	if durable > last && len(damage) == 0 {
		damage = append(damage, &sharefs.Error{Op: "journal scan", Kind: sharefs.KindCorrupt,
			Detail: fmt.Sprintf("record %d is lost, though all up to %d had been synced", last+1, durable)})
	}
	return damage, nil
}
