package trust

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"maps"
	"slices"

	"sharefs"
)

// Rule grants a level to a peer for what a pattern names.
type Rule struct {
	Peer    sharefs.PeerID
	Pattern Pattern
	Level   Level
}

// Policy is all that this host says about its peers. It never changes, so any number of goroutines may use it; the zero value blocks everybody.
type Policy struct {
	peers map[sharefs.PeerID]peer
}

// peer is what a policy says about one peer. Rules are in the order of their patterns, each pattern once.
type peer struct {
	ceiling Level
	rules   []Rule
	former  bool // see [Policy.Former]
}

// Grant returns a policy in which the rule stands; one of the same peer and pattern gives way. A former key of this host is that of a peer then.
func (p Policy) Grant(r Rule) Policy {
	return p.with(r.Peer, func(e *peer) {
		e.former = false
		e.rules = append(slices.DeleteFunc(slices.Clone(e.rules), func(old Rule) bool { return old.Pattern == r.Pattern }), r)
		sortRules(e.rules)
	})
}

// Revoke returns a policy without the rule of that peer and pattern, if there is one. The last rule of a peer leaves it blocked, ceiling or not.
func (p Policy) Revoke(id sharefs.PeerID, pattern Pattern) Policy {
	if _, known := p.peers[id]; !known {
		return p
	}
	return p.with(id, func(e *peer) {
		e.rules = slices.DeleteFunc(slices.Clone(e.rules), func(r Rule) bool { return r.Pattern == pattern })
	})
}

// Cap returns a policy in which no rule grants the peer more than a ceiling; Manage is none.
func (p Policy) Cap(id sharefs.PeerID, ceiling Level) Policy {
	return p.with(id, func(e *peer) { e.ceiling = min(ceiling, Manage) })
}

// Forget returns a policy that says nothing about a peer: it is blocked.
func (p Policy) Forget(id sharefs.PeerID) Policy {
	next := maps.Clone(p.peers)
	delete(next, id)
	return Policy{next}
}

func (p Policy) with(id sharefs.PeerID, change func(*peer)) Policy {
	e, known := p.peers[id]
	if !known {
		e.ceiling = Manage
	}
	change(&e)
	next := maps.Clone(p.peers)
	if next == nil {
		next = map[sharefs.PeerID]peer{}
	}
	if e.empty() {
		delete(next, id)
	} else {
		next[id] = e
	}
	return Policy{next}
}

// empty reports whether nothing is said.
func (e *peer) empty() bool { return e.ceiling == Manage && len(e.rules) == 0 && !e.former }

// WithFormer returns a policy in which a key is one that nobody has any more, be it of a host that is gone or one that this host had before it came back from a backup,
// and nothing else is said about it.
func (p Policy) WithFormer(id sharefs.PeerID) Policy {
	return p.Forget(id).with(id, func(e *peer) { e.former = true })
}

// Former reports whether a key is one that nobody has any more. What it has signed counts as this host's own, whoever brings it. Its level is Blocked: who has the key now, such
// as a thief of the disk, is let in by no host and given nothing.
func (p Policy) Former(id sharefs.PeerID) bool { return p.peers[id].former }

func sortRules(rules []Rule) {
	slices.SortFunc(rules, func(a, b Rule) int { return cmp.Compare(a.Pattern.text, b.Pattern.text) })
}

// Peers returns whom the policy speaks of, in the order of their keys.
func (p Policy) Peers() []sharefs.PeerID {
	return slices.SortedFunc(maps.Keys(p.peers), func(a, b sharefs.PeerID) int { return bytes.Compare(a[:], b[:]) })
}

// Rules returns the rules of a peer, in the order of their patterns.
func (p Policy) Rules(id sharefs.PeerID) []Rule { return slices.Clone(p.peers[id].rules) }

// Ceiling returns what no rule of a peer goes beyond; of a peer that the policy does not speak of it is Blocked.
func (p Policy) Ceiling(id sharefs.PeerID) Level { return p.peers[id].ceiling }

// Level returns how far a peer is trusted with a path from the root of the share.
func (p Policy) Level(id sharefs.PeerID, path string) Level { return p.Explain(id, path).Level }

// Most returns the highest level that a peer has anywhere. The connection of one for whom it is Blocked ends after the key check.
func (p Policy) Most(id sharefs.PeerID) Level {
	e := p.peers[id]
	most := Blocked
	for i, r := range e.rules {
		if i == 0 && r.Pattern.text != "" {
			most = Paired // what it is where no rule speaks of the path
		}
		most = max(most, r.Level)
	}
	return min(most, e.ceiling)
}

// MergesAll reports whether what a peer writes counts everywhere in the share.
func (p Policy) MergesAll(id sharefs.PeerID) bool { return p.Least(id).Rights().In >= InMerge }

// Least returns the level that a peer has everywhere in the share at least: what concerns the share as a whole goes by it, and so nobody gets by one rule what another
// one keeps from him.
func (p Policy) Least(id sharefs.PeerID) Level {
	e := p.peers[id]
	least, all := Manage, false
	for _, r := range e.rules {
		least = min(least, r.Level)
		all = all || r.Pattern.text == ""
	}
	switch {
	case len(e.rules) == 0:
		least = Blocked
	case !all:
		least = min(least, Paired) // what it is where no rule speaks of the path
	}
	return min(least, e.ceiling)
}

// Reads reports whether a peer receives what has a path from the root of the share.
func (p Policy) Reads(id sharefs.PeerID, path string) bool {
	return p.Level(id, path).Rights().Out >= OutPlain
}

// Holds reports whether removals and renames in bulk by a peer wait for the owner: whether that is so by any of its rules.
func (p Policy) Holds(id sharefs.PeerID) bool {
	e := p.peers[id]
	return slices.ContainsFunc(e.rules, func(r Rule) bool { return min(r.Level, e.ceiling).Rights().Hold })
}

// Leads reports whether a path lies on the way to what a rule names by which a peer's records count: a rule that says how deep that is and how each directory there is called.
func (p Policy) Leads(id sharefs.PeerID, path string) bool {
	e, names := p.peers[id], splitPath(path)
	for _, r := range e.rules {
		if min(r.Level, e.ceiling).Rights().In >= InMerge && r.Pattern.leads(names) {
			return true
		}
	}
	return false
}

// Below lists the rules of a peer that may name something below what a pattern names: there they count, and not the rule for that pattern.
func (p Policy) Below(id sharefs.PeerID, above Pattern) (below []Rule) {
	for _, r := range p.peers[id].rules {
		if r.Pattern.below(above) {
			below = append(below, r)
		}
	}
	return below
}

// Print names what a policy says about a peer: policies that say something else about it have another one.
func (p Policy) Print(id sharefs.PeerID) [32]byte {
	e, known := p.peers[id]
	h := sha256.New()
	if known {
		h.Write([]byte{byte(e.ceiling)})
	}
	if e.former {
		h.Write([]byte("former"))
	}
	for _, r := range e.rules {
		h.Write([]byte{byte(r.Level)})
		h.Write(append([]byte(r.Pattern.text), 0)) // no pattern has a NUL in it
	}
	return [32]byte(h.Sum(nil))
}

// Narrows reports whether there may be something that a peer receives under a policy, and not any more under the next one. It errs on the side of true.
func (p Policy) Narrows(id sharefs.PeerID, next Policy) bool {
	if p.Most(id).Rights().Out < OutPlain || p.Print(id) == next.Print(id) {
		return false
	}
	reads := func(e peer) (yes, no map[Pattern]bool) {
		yes, no = map[Pattern]bool{}, map[Pattern]bool{}
		for _, r := range e.rules {
			if min(r.Level, e.ceiling).Rights().Out >= OutPlain {
				yes[r.Pattern] = true
			} else if r.Pattern.text != "" {
				no[r.Pattern] = true
			}
		}
		return yes, no
	}
	yes, no := reads(p.peers[id])
	stillYes, newNo := reads(next.peers[id])
	for pattern := range yes {
		if !stillYes[pattern] {
			return true
		}
	}
	for pattern := range newNo {
		if !no[pattern] {
			return true
		}
	}
	return false
}

// Explanation says how the level of a peer at a path comes about.
type Explanation struct {
	Path    string
	Level   Level  // that counts
	Ceiling Level  // that the rules are capped by
	Rules   []Rule // that speak of the path; the first one wins
	Places  []int  // how many names the place has that each of them names
	Default Level  // what counts where there are no such rules
	Former  bool   // its key is one that nobody has any more
	Capped  bool   // the ceiling is lower than what the rules say
}

// Explain returns how a peer's level at a path comes about.
func (p Policy) Explain(id sharefs.PeerID, path string) Explanation {
	e := p.peers[id]
	x := Explanation{Path: path, Ceiling: e.ceiling, Former: e.former}
	if len(e.rules) > 0 {
		x.Default = Paired
	}
	type found struct {
		rule  Rule
		place int
	}
	var all []found
	names := splitPath(path)
	for _, r := range e.rules {
		if depth, ok := r.Pattern.place(names); ok {
			all = append(all, found{r, depth})
		}
	}
	slices.SortFunc(all, func(a, b found) int {
		return cmp.Or(cmp.Compare(b.place, a.place), a.rule.Pattern.narrower(b.rule.Pattern))
	})
	for _, f := range all {
		x.Rules, x.Places = append(x.Rules, f.rule), append(x.Places, f.place)
	}
	says := x.Default
	if len(all) > 0 {
		says = all[0].rule.Level
	}
	x.Level = min(says, e.ceiling)
	x.Capped = x.Level < says
	return x
}
