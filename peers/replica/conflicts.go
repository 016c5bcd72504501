package replica

import (
	"fmt"
	"slices"
	"strings"

	"sharefs"
	"sharefs/peers/converge"
	"sharefs/peers/record"
)

// Conflict is a name of which several versions wait for a choice.
type Conflict struct {
	Path string // from the root, without a slash before it
	// Live is the version that is shown; nil of a directory, and of a file whose version has not come.
	Live *record.Record
	// Others are the versions beside it, ranked, of the same file or of others that have the same name. The record is nil where none has come of such a file.
	Others []Other
}

// Other is a version that is not shown.
type Other struct {
	File    sharefs.FileID
	Version *record.Record
}

// Conflicts lists up to some conflicts by path, those after a path. It costs as much as the tree is large.
func (r *Replica) Conflicts(after string, most int) (list []Conflict, err error) {
	if err := r.enter(); err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	r.tree.Nodes(func(n converge.Node) {
		if len(n.Conflicts) == 0 {
			return
		}
		if path, ok := r.path(&n); ok && path > after {
			list = append(list, r.conflict(path, &n))
		}
	})
	slices.SortFunc(list, func(a, b Conflict) int { return strings.Compare(a.Path, b.Path) })
	return list[:min(most, len(list))], nil
}

func (r *Replica) conflict(path string, n *converge.Node) Conflict {
	c := Conflict{Path: path, Live: r.tree.Record(n.Live)}
	for _, o := range n.Conflicts {
		c.Others = append(c.Others, Other{o.Key.File, r.tree.Record(o.Version)})
	}
	return c
}

// path returns where a name is in the tree that the records make.
func (r *Replica) path(n *converge.Node) (string, bool) {
	parts := []string{n.Name}
	for at := n.Parent; at != record.Root; {
		up, ok := r.tree.Node(converge.Key{File: at})
		if !ok {
			return "", false
		}
		parts, at = append(parts, up.Name), up.Parent
	}
	slices.Reverse(parts)
	return strings.Join(parts, "/"), true
}

// Resolve ends a conflict: one of its versions is to be live, and the others count as seen. It writes that down; [Replica.Apply] does it. Errors: KindNotExist: the name is in no
// conflict, or the version is none of it; KindInvalid: more versions than can be resolved at once, or one that has not come.
func (r *Replica) Resolve(path string, take record.ID) error {
	const op = "resolve"
	if err := r.enter(); err != nil {
		return err
	}
	defer r.mu.Unlock()
	n, ok := r.lookup(path)
	if !ok || len(n.Conflicts) == 0 {
		return &sharefs.Error{Op: op, Path: path, Kind: sharefs.KindNotExist, Detail: "it has no conflict"}
	}
	rec := r.tree.Record(take)
	if take != n.Live && !slices.ContainsFunc(n.Conflicts, func(c converge.Conflict) bool { return c.Version == take }) || rec == nil {
		return &sharefs.Error{Op: op, Path: path, Kind: sharefs.KindNotExist, Detail: "that version is no part of the conflict"}
	}
	chosen := rec.Body.(*record.Version)
	if n.Type == record.Directory || n.Type != chosen.Type() {
		return &sharefs.Error{Op: op, Path: path, Kind: sharefs.KindInvalid, Detail: "a directory and a file, or a file and a symlink, have the name: rename or remove one of them"}
	}
	if err := r.choose(path, &n, chosen); err != nil {
		return err
	}
	return r.sync()
}

// choose writes down that a content is that of a name, with all heads of its file as parents, and that the other files that have the name are removed from it.
func (r *Replica) choose(path string, n *converge.Node, chosen *record.Version) error {
	v := *chosen
	v.File, v.Parents = n.Key.File, slices.Clone(r.tree.Heads(n.Key.File))
	if len(v.Parents) > record.MaxParents {
		return &sharefs.Error{Op: "resolve", Path: path, Kind: sharefs.KindInvalid, Detail: fmt.Sprintf("%d versions, at most %d can be resolved at once: write to the file first", len(v.Parents), record.MaxParents)}
	}
	slices.SortFunc(v.Parents, record.ID.Compare)
	if err := r.say(&v, r.times(v.Parents)...); err != nil {
		return err
	}
	done := map[converge.Key]bool{n.Key: true}
	for _, c := range n.Conflicts {
		if done[c.Key] || c.Key.File == n.Key.File {
			continue
		}
		done[c.Key] = true
		seen := slices.Clone(r.tree.Heads(c.Key.File))
		seen = seen[:min(len(seen), record.MaxSeen)]
		slices.SortFunc(seen, record.ID.Compare)
		typ := record.Regular
		if last := r.last[c.Key]; last != nil {
			typ = last.Body.(*record.Place).Type
		}
		gone := &record.Place{File: c.Key.File, Link: c.Key.Link, Type: typ, Parent: record.Nowhere, Seen: seen}
		if err := r.say(gone, append(r.times(seen), r.lastAt(c.Key))...); err != nil {
			return err
		}
	}
	return nil
}

// times returns those of some records.
func (r *Replica) times(ids []record.ID) (all []sharefs.HLC) {
	for _, id := range ids {
		all = append(all, r.tree.Record(id).HLC)
	}
	return all
}

// lookup finds a path in the tree that the records make.
func (r *Replica) lookup(path string) (n converge.Node, ok bool) {
	dir := record.Root
	for name := range strings.SplitSeq(path, "/") {
		if n, ok = r.tree.Lookup(dir, name); !ok {
			return n, false
		}
		dir = n.Key.File
	}
	return n, ok
}
