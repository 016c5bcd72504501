package versions

import (
	"strings"

	"sharefs"
	"sharefs/internal/retain"
	"sharefs/versions/kv"
)

// XattrRetain is the extended attribute by which a file or directory, and all below it, gets a rule of its own ([retain.ParseRule]). It wins over the rules for
// paths; of several on the way up the nearest one counts.
const XattrRetain = "user.sharefs.retain"

// CheckRetain returns what is wrong with a value of XattrRetain, an error of KindInvalid.
func CheckRetain(value []byte) error {
	_, err := retain.ParseRule(string(value))
	if err == nil {
		return nil
	}
	return &sharefs.Error{Op: "set " + XattrRetain, Kind: sharefs.KindInvalid, Detail: err.Error()}
}

// scope says which rule counts for which file, and what live files need of others.
type scope struct {
	rules     []retain.Rule              // those for paths, then those of extended attributes
	ofFile    map[sharefs.Ino]int32      // regular files that one of them counts for
	continued map[sharefs.Ino]uint64     // inodes whose versions from a number on count among the newest of a live file
	dirs      map[sharefs.Ino]*scopedDir // directories that are or were
	xattrs    map[sharefs.Ino]int32
}

// scopedDir is a directory, and what follows from where it lies.
type scopedDir struct {
	parent sharefs.Ino
	name   string
	live   bool
	known  bool // what follows
	path   string
	match  int32 // the last rule for paths that matches it or a directory above it, -1: none
	xattr  int32 // the rule of the nearest extended attribute, -1: none
}

// rule returns which rule counts for a file, -1: those for everything.
func (s *scope) rule(ino sharefs.Ino) int {
	if i, ok := s.ofFile[ino]; ok {
		return int(i)
	}
	return -1
}

// findScope finds out which rules count for what.
func (r *thinner) findScope() (scope, error) {
	s := scope{ofFile: map[sharefs.Ino]int32{}, continued: map[sharefs.Ino]uint64{}, xattrs: map[sharefs.Ino]int32{}}
	for _, p := range r.policy.Paths {
		s.rules = append(s.rules, p.Rule)
	}
	if err := r.findXattrs(&s); err != nil {
		return s, err
	}
	if len(s.rules) > 0 {
		if err := r.findDirs(&s); err != nil {
			return s, err
		}
		if err := r.findFiles(&s); err != nil {
			return s, err
		}
		s.dirs = nil
	}
	r.scope = s
	return s, r.findContinued(&s)
}

// findXattrs reads the rules that extended attributes say.
func (r *thinner) findXattrs(s *scope) error {
	byText := map[string]int32{}
	var seen uint64
	var bad error
	err := r.t.db.Scan(spaceXattr, nil, nil, func(key, value []byte) bool {
		if seen++; seen%4096 == 0 {
			if bad = r.step("look for rules", 0, nil, seen, 4096); bad != nil {
				return false
			}
		}
		if len(key) <= 8 || string(key[8:]) != XattrRetain {
			return true
		}
		i, ok := byText[string(value)]
		if !ok {
			rule, err := retain.ParseRule(string(value))
			if err != nil {
				r.remark("the rule %q of inode %d is not understood: %v", value, keyIno(key), err)
				return true
			}
			i = int32(len(s.rules))
			s.rules = append(s.rules, rule)
			byText[string(value)] = i
		}
		s.xattrs[keyIno(key)] = i
		return true
	})
	if err == nil {
		err = bad
	}
	return err
}

// eachName calls fn for every name that something bears or bore; live tells which. Names whose states retention removed are not known any more.
func (r *thinner) eachName(fn func(parent sharefs.Ino, d *dent, live bool) error) error {
	var seen uint64
	var bad error
	err := r.t.db.ScanEver(spaceDentry, nil, nil, func(e kv.Ever) bool {
		if seen++; seen%1024 == 0 {
			if bad = r.step("look for rules", 0, nil, seen, 1024); bad != nil {
				return false
			}
		}
		parent := keyIno(e.Key)
		newest := true
		bad = r.t.db.Past(spaceDentry, e.Key, func(rev kv.Revision) bool {
			live := newest && !rev.Deleted
			newest = false
			if rev.Deleted {
				return true
			}
			d, err := decodeDent(e.Key, rev.Value)
			if err == nil && d.ino != 0 {
				err = fn(parent, &d, live)
			}
			bad = err
			return err == nil
		})
		return bad == nil
	})
	if err == nil {
		err = bad
	}
	return err
}

func (r *thinner) findDirs(s *scope) error {
	s.dirs = map[sharefs.Ino]*scopedDir{sharefs.RootIno: {known: true, match: -1, xattr: -1}}
	if i, ok := s.xattrs[sharefs.RootIno]; ok {
		s.dirs[sharefs.RootIno].xattr = i
	}
	return r.eachName(func(parent sharefs.Ino, d *dent, live bool) error {
		if uint32(d.typ)<<12 != sharefs.ModeDir {
			return nil
		}
		if old := s.dirs[d.ino]; old == nil || live && !old.live {
			s.dirs[d.ino] = &scopedDir{parent: parent, name: d.name, live: live, match: -1, xattr: -1}
		}
		return nil
	})
}

// dir returns what follows for a directory.
func (r *thinner) dir(s *scope, ino sharefs.Ino, depth int) *scopedDir {
	d := s.dirs[ino]
	switch {
	case d == nil || depth > 4096: // nothing is known of it, or names of different times make a ring
		return &scopedDir{known: true, path: "?", match: -1, xattr: -1}
	case d.known:
		return d
	}
	d.known = true
	up := r.dir(s, d.parent, depth+1)
	d.path = strings.TrimPrefix(up.path+"/"+d.name, "/")
	d.match, d.xattr = max(up.match, r.match(d.path)), up.xattr
	if i, ok := s.xattrs[ino]; ok {
		d.xattr = i
	}
	return d
}

// match returns the last rule for paths that matches one, -1: none.
func (r *thinner) match(path string) int32 {
	for i := len(r.policy.Paths) - 1; i >= 0; i-- {
		if retain.Match(r.policy.Paths[i].Match, path) {
			return int32(i)
		}
	}
	return -1
}

func (r *thinner) findFiles(s *scope) error {
	return r.eachName(func(parent sharefs.Ino, d *dent, live bool) error {
		if uint32(d.typ)<<12 != sharefs.ModeRegular {
			return nil
		}
		dir := r.dir(s, parent, 0)
		rule := dir.xattr
		if i, ok := s.xattrs[d.ino]; ok {
			rule = i
		}
		if rule < 0 {
			rule = max(dir.match, r.match(strings.TrimPrefix(dir.path+"/"+d.name, "/")))
		}
		if rule < 0 {
			return nil
		}
		if !live { // what it was called once counts only when it is called nothing now
			if row, err := loadRow(r.t.db, d.ino); err == nil && row.nlink > 0 {
				return nil
			}
		}
		if old, ok := s.ofFile[d.ino]; !ok || rule > old {
			s.ofFile[d.ino] = rule
		}
		return nil
	})
}

// findContinued finds the versions of other inodes that count among the newest of live files, which continue them.
func (r *thinner) findContinued(s *scope) error {
	h := &r.t.past
	var seen uint64
	var bad error
	err := r.t.db.Scan(spaceLineage, nil, nil, func(key, value []byte) bool {
		if seen++; seen%1024 == 0 {
			if bad = r.step("look for the newest versions", 0, nil, seen, 1024); bad != nil {
				return false
			}
		}
		ino := keyIno(key)
		l, err := decodeLineage(ino, value)
		if err != nil {
			bad = err
			return false
		}
		if l.pred == 0 {
			return true
		}
		if row, err := loadRow(r.t.db, ino); err != nil || row.nlink == 0 {
			return true
		}
		left := r.minVersions(s.rule(ino))
		seg := segment{ino: ino, base: l.base, through: noLimit, since: l.since, line: l}
		for more := true; more && left > 0; {
			bad = ownVersions(r.t.db, seg.ino, seg.through, func(v *version) bool {
				if v.place == placeLost {
					return true
				}
				left--
				if at, ok := s.continued[seg.ino]; seg.ino != ino && (!ok || v.own < at) {
					s.continued[seg.ino] = v.own
				}
				return left > 0
			})
			if bad == nil && left > 0 {
				seg, more, bad = h.older(seg)
			}
			if bad != nil {
				return false
			}
		}
		return true
	})
	if err == nil {
		err = bad
	}
	return err
}
