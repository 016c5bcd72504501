package replica

import (
	"slices"
	"strings"
	"sync"
	"time"

	"sharefs"
	"sharefs/peers/converge"
	"sharefs/peers/record"
)

// outlook is the tree as it would be if an author's records that are proposed or held counted, as he sees it himself. It is made when somebody looks, follows what comes as long as
// he does, and is as large as the tree of records itself.
type outlook struct {
	// Guarded by Replica.mu:
	pending []converge.Input // to be added
	records int              // in the tree and in pending
	used    time.Time
	leaving *time.Timer // of leave; it holds the tree as long as it runs

	mu   sync.Mutex // guards what follows; comes before Replica.mu
	tree *converge.Tree
}

// Bounds of what is kept of such trees: how many records are in all of them, each of which takes 0.3 kB of memory there; how many trees there may be in any case, so that two can be
// looked at in turn, for one is made at 20 to 60 thousand records a second; and for how long one is kept after somebody looked.
const (
	mostInOutlooks = 800_000
	leastOutlooks  = 2
	outlookFor     = time.Minute
)

// proposes reports whether anything of an author waits.
func (r *Replica) proposes(author sharefs.PeerID) bool {
	for _, s := range r.aside[author] {
		if s.waits() {
			return true
		}
	}
	return false
}

// outlook returns the tree of an author, which is made if there is none. r.mu is held.
func (r *Replica) outlook(author sharefs.PeerID) *outlook {
	o := r.outlooks[author]
	if o == nil {
		o = &outlook{tree: converge.New()}
		r.tree.Inputs(func(i converge.Input) {
			if r.aside[author][i.Record.ID()].waits() {
				o.pending = append(o.pending, judged{i.Record, Merged}.inputs()...)
				return
			}
			o.pending = append(o.pending, i)
		})
		o.records = len(o.pending)
		r.makeRoom(o.records)
		r.outlooks[author] = o
		o.leaving = time.AfterFunc(outlookFor, func() { r.leave(author, o) })
	}
	o.used = time.Now()
	return o
}

// makeRoom gives trees up, those first at which nobody has looked for longest, until there is room for one more of so many records. r.mu is held.
func (r *Replica) makeRoom(records int) {
	for _, o := range r.outlooks {
		records += o.records
	}
	for records > mostInOutlooks && len(r.outlooks) >= leastOutlooks {
		var oldest sharefs.PeerID
		for id, other := range r.outlooks {
			if at := r.outlooks[oldest]; at == nil || other.used.Before(at.used) {
				oldest = id
			}
		}
		records -= r.outlooks[oldest].records
		r.giveUp(oldest)
	}
}

// giveUp gives the tree of an author up. r.mu is held.
func (r *Replica) giveUp(author sharefs.PeerID) {
	r.outlooks[author].leaving.Stop()
	delete(r.outlooks, author)
}

// leave gives an author's tree up that nobody has looked at for a while.
func (r *Replica) leave(author sharefs.PeerID, o *outlook) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.outlooks[author] != o {
		return
	}
	if rest := outlookFor - time.Since(o.used); rest > 0 {
		o.leaving.Reset(rest)
		return
	}
	r.giveUp(author)
}

// follow has the trees of authors know of records that came.
func (r *Replica) follow(in ...converge.Input) {
	for _, o := range r.outlooks {
		o.pending = append(o.pending, in...)
		o.records += len(in)
	}
}

// both calls fn with the tree as an author sees it, in which all is that has come, and with r.mu held. What makes it costs as much as all records, and is done without r.mu.
func (r *Replica) both(author sharefs.PeerID, fn func(over *converge.Tree) error) error {
	for {
		if err := r.enter(); err != nil {
			return err
		}
		if !r.proposes(author) { // he sees what is live
			defer r.mu.Unlock()
			return fn(r.tree)
		}
		o := r.outlook(author)
		r.mu.Unlock()
		if ok, err := r.through(author, o, fn); ok {
			return err
		}
	}
}

// through is both with a tree; ok is false where that is given up by now.
func (r *Replica) through(author sharefs.PeerID, o *outlook, fn func(over *converge.Tree) error) (ok bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for first := true; ; first = false {
		if err := r.enter(); err != nil {
			return true, err
		}
		pending := o.pending
		o.pending = nil
		switch {
		case r.outlooks[author] != o:
			r.mu.Unlock()
			return false, nil
		case first && len(pending) > 0: // the many; what comes meanwhile is little
			r.mu.Unlock()
			o.tree.Add(pending...)
			continue
		}
		defer r.mu.Unlock()
		if len(pending) > 0 {
			o.tree.Add(pending...)
		}
		return true, fn(o.tree)
	}
}

// Shown is a name in the tree of an author.
type Shown struct {
	Name    string
	Type    record.Type
	Version *record.Record // that is live there; nil of directories, and where none has come
	Attr    *record.Record // nil: none has come
}

// shown is ok unless nobody has said yet where a symlink leads: whoever proposes may have one wait like that for ever, and the rest of the tree does not wait for it.
func shown(t *converge.Tree, n *converge.Node) (s Shown, ok bool) {
	return Shown{n.Name, n.Type, t.Record(n.Live), t.Record(n.Attr)}, n.Type != record.Symlink || !n.Live.IsZero()
}

// Find returns what has a path in the tree as an author sees it, where all of him counts that is proposed or held; ok is false where nothing has. The path of the root is empty.
func (r *Replica) Find(author sharefs.PeerID, path string) (s Shown, ok bool, err error) {
	err = r.both(author, func(over *converge.Tree) error {
		var n converge.Node
		if n, ok = lookup(over, path); ok {
			s, ok = shown(over, &n)
		}
		return nil
	})
	return s, ok, err
}

// List lists a directory of the tree as an author sees it, by name. KindNotExist: there is none of that path.
func (r *Replica) List(author sharefs.PeerID, path string) (list []Shown, err error) {
	err = r.both(author, func(over *converge.Tree) error {
		n, ok := lookup(over, path)
		if !ok || n.Type != record.Directory {
			return &sharefs.Error{Op: "list", Path: path, Kind: sharefs.KindNotExist}
		}
		over.Children(n.Key.File, func(n converge.Node) {
			if s, ok := shown(over, &n); ok {
				list = append(list, s)
			}
		})
		return nil
	})
	slices.SortFunc(list, func(a, b Shown) int { return strings.Compare(a.Name, b.Name) })
	return list, err
}

// lookup finds a path in a tree; that of the root is empty.
func lookup(t *converge.Tree, path string) (n converge.Node, ok bool) {
	if path == "" {
		return t.Node(converge.Key{})
	}
	dir := record.Root
	for name := range strings.SplitSeq(path, "/") {
		if n, ok = t.Lookup(dir, name); !ok {
			return n, false
		}
		dir = n.Key.File
	}
	return n, ok
}

// pathIn returns where a name is in a tree.
func pathIn(t *converge.Tree, n *converge.Node) (string, bool) {
	parts := []string{n.Name}
	for at := n.Parent; at != record.Root; {
		up, ok := t.Node(converge.Key{File: at})
		if !ok {
			return "", false
		}
		parts, at = append(parts, up.Name), up.Parent
	}
	slices.Reverse(parts)
	return strings.Join(parts, "/"), true
}
