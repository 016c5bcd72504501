package converge

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"

	"sharefs"
	"sharefs/peers/record"
)

// fataler is what the tests and rapid have in common.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// counter gives numbers that are the same in each run.
type counter struct{ last uint64 }

func (c *counter) next() uint64 { c.last++; return c.last }

func (c *counter) file() (id sharefs.FileID) {
	// The number in front is scrambled, so that ids do not rise as files are made.
	binary.BigEndian.PutUint64(id[:], c.next()*0x9e3779b97f4a7c15)
	id[15] = byte(c.last)
	return id
}

// host is one side: it has records, sees the tree that they make, and authors records as somebody who works in that tree does.
type host struct {
	t       fataler
	ids     *counter
	author  sharefs.PeerID
	clock   *uint64 // of the world, in milliseconds
	skew    int64   // of this host against it
	tree    *Tree
	records map[record.ID]Input
	disk    *disk
	spots   spots
}

func newHosts(t fataler, n int, skew ...int64) []*host {
	ids, clock := &counter{}, new(uint64)
	*clock = 1000
	all := make([]*host, n)
	for i := range all {
		all[i] = &host{t: t, ids: ids, author: sharefs.PeerID{byte(7 * (i + 1))}, clock: clock, tree: New(), records: map[record.ID]Input{}, disk: newDisk(), spots: spots{}}
		if i < len(skew) {
			all[i].skew = skew[i]
		}
	}
	return all
}

// take gives the host records, and holds that what changed was told.
func (h *host) take(in ...Input) {
	h.t.Helper()
	for _, i := range in {
		if had, ok := h.records[i.Record.ID()]; !ok || had.Standing < i.Standing {
			h.records[i.Record.ID()] = i
		}
	}
	if err := h.disk.run(h.tree.Add(in...)); err != nil {
		h.t.Fatalf("%v", err)
	}
	h.spots.follow(h.tree)
}

// check holds that the tree is what the specification says, and that the disk is the tree.
func (h *host) check() {
	h.t.Helper()
	want, orphans := Whole(h.all())
	if d := differ(h.tree.Result(), want); d != "" {
		h.t.Fatalf("the tree is not what the specification says:\n%s", d)
	}
	if d := differ(h.disk.result(), want); d != "" {
		h.t.Fatalf("the operations did not lead to the tree:\n%s", d)
	}
	if got := h.tree.Orphans(); !slices.Equal(got, orphans) {
		h.t.Fatalf("orphans %v, want %v", got, orphans)
	}
	if got, want := h.spots.text(), wholeSpots(h.all()).text(); got != want {
		h.t.Fatalf("names are at\n%s\nwant\n%s", got, want)
	}
}

// all returns the host's records in the order of their ids.
func (h *host) all() []Input {
	return slices.SortedFunc(maps.Values(h.records), func(a, b Input) int { return a.Record.ID().Compare(b.Record.ID()) })
}

// say authors a record that replaces others.
func (h *host) say(body record.Body, replaces ...record.ID) *record.Record {
	h.t.Helper()
	*h.clock++
	now := sharefs.HLC(int64(*h.clock)+h.skew) << 16
	var before []sharefs.HLC
	for _, id := range replaces {
		before = append(before, h.records[id].Record.HLC)
	}
	r, err := record.New(record.ShareID{}, h.author, record.After(now, before...), body)
	if err != nil {
		h.t.Fatalf("%v", err)
	}
	h.take(Input{r, Merged})
	return r
}

// placed returns the last placement of a name that the host knows.
func (h *host) placed(key Key) []record.ID {
	var last *record.Record
	for _, i := range h.records {
		if p, ok := i.Record.Body.(*record.Place); ok && p.File == key.File && p.Link == key.Link && (last == nil || last.Order().Compare(i.Record.Order()) < 0) {
			last = i.Record
		}
	}
	if last == nil {
		return nil
	}
	return []record.ID{last.ID()}
}

func (h *host) place(key Key, typ record.Type, parent sharefs.FileID, name string) *record.Record {
	h.t.Helper()
	return h.say(&record.Place{File: key.File, Link: key.Link, Type: typ, Parent: parent, Name: name}, h.placed(key)...)
}

// node returns the node of a path, which has to be there.
func (h *host) node(path string) Node {
	h.t.Helper()
	n, ok := h.tree.Result()[path]
	if !ok {
		h.t.Fatalf("%q is not there:\n%s", path, text(h.tree.Result()))
	}
	return n
}

// slot returns where a path is or would be.
func (h *host) slot(path string) Slot {
	h.t.Helper()
	dir, name := "", path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		dir, name = path[:i], path[i+1:]
	}
	return Slot{h.node(dir).Key.File, name}
}

func (h *host) mkdir(path string) sharefs.FileID {
	h.t.Helper()
	s, id := h.slot(path), h.ids.file()
	h.place(Key{File: id}, record.Directory, s.Parent, s.Name)
	return id
}

func (h *host) create(path, content string) Key {
	h.t.Helper()
	s, key := h.slot(path), Key{File: h.ids.file()}
	h.place(key, record.Regular, s.Parent, s.Name)
	h.version(key.File, content)
	return key
}

func (h *host) symlink(path, target string) Key {
	h.t.Helper()
	s, key := h.slot(path), Key{File: h.ids.file()}
	h.place(key, record.Symlink, s.Parent, s.Name)
	h.say(&record.Version{File: key.File, Target: target})
	return key
}

func (h *host) link(from, path string) Key {
	h.t.Helper()
	n, s := h.node(from), h.slot(path)
	key := Key{n.Key.File, h.ids.next()}
	h.place(key, n.Type, s.Parent, s.Name)
	return key
}

// version writes to a file: from the live version, or from all heads.
func (h *host) version(id sharefs.FileID, content string, resolve ...bool) *record.Record {
	h.t.Helper()
	heads := h.tree.Heads(id)
	if len(resolve) == 0 && len(heads) > 1 {
		heads = heads[:1]
	}
	return h.versionOf(id, content, heads)
}

func (h *host) versionOf(id sharefs.FileID, content string, parents []record.ID) *record.Record {
	h.t.Helper()
	parents = slices.SortedFunc(slices.Values(parents), record.ID.Compare)
	v := &record.Version{File: id, Parents: parents[:min(len(parents), record.MaxParents)]}
	for n := range h.tree.nodes.All() {
		if n.Key.File == id && n.Type == record.Symlink {
			v.Target = "to " + content
		}
	}
	if v.Target == "" && content != "" {
		v.Size, v.Spans = uint64(len(content)), []record.Span{{Len: uint64(len(content)), ID: chunk(content)}}
		v.Key = sharefs.KeyID{1}
	}
	return h.say(v, v.Parents...)
}

func chunk(content string) (id sharefs.ChunkID) { copy(id[:], content); return id }

func (h *host) write(path, content string) *record.Record {
	h.t.Helper()
	return h.version(h.node(path).Key.File, content)
}

// remove takes a name away, saying what was seen. Of directories it takes away all that are shown as one.
func (h *host) remove(path string) {
	h.t.Helper()
	n := h.node(path)
	if n.Type == record.Directory {
		for _, id := range append([]sharefs.FileID{n.Key.File}, n.Merged...) {
			h.say(&record.Place{File: id, Type: n.Type, Parent: record.Nowhere}, h.placed(Key{File: id})...)
		}
		return
	}
	h.removeKey(n.Key, n.Type)
}

func (h *host) removeKey(key Key, typ record.Type) *record.Record {
	h.t.Helper()
	saw := h.tree.Heads(key.File)
	// The last removals of other names that no other removal has seen.
	var removals []*record.Record
	for _, i := range h.records {
		if p, ok := i.Record.Body.(*record.Place); ok && p.File == key.File && p.Link != key.Link && p.Removed() {
			removals = append(removals, i.Record)
		}
	}
	for _, r := range removals {
		if !slices.ContainsFunc(removals, func(o *record.Record) bool { return o != r && slices.Contains(o.Body.(*record.Place).Seen, r.ID()) }) {
			saw = append(saw, r.ID())
		}
	}
	slices.SortFunc(saw, record.ID.Compare)
	saw = saw[:min(len(saw), record.MaxSeen)]
	return h.say(&record.Place{File: key.File, Link: key.Link, Type: typ, Parent: record.Nowhere, Seen: saw}, h.placed(key)...)
}

// rename moves a name; a file or symlink that has the new one is removed, as rename(2) does.
func (h *host) rename(from, to string) {
	h.t.Helper()
	n, s := h.node(from), h.slot(to)
	if old, ok := h.tree.Lookup(s.Parent, s.Name); ok && old.Type != record.Directory && old.Key.File != n.Key.File {
		h.removeKey(old.Key, old.Type)
	}
	h.place(n.Key, n.Type, s.Parent, s.Name)
	for _, id := range n.Merged {
		h.place(Key{File: id}, n.Type, s.Parent, s.Name)
	}
}

func (h *host) chmod(path string, mode uint16) {
	h.t.Helper()
	n := h.node(path)
	var before []record.ID
	if !n.Attr.IsZero() {
		before = append(before, n.Attr)
	}
	h.say(&record.Attr{File: n.Key.File, Mode: mode}, before...)
}

// meet gives all hosts all records of each other.
func meet(hosts ...*host) {
	for _, h := range hosts {
		for _, o := range hosts {
			if o != h {
				h.t.Helper()
				h.take(o.all()...)
			}
		}
	}
}

// removeAll takes a path and all below it away, the deepest first.
func (h *host) removeAll(path string) {
	h.t.Helper()
	var below []string
	for p := range h.tree.Result() {
		if p == path || strings.HasPrefix(p, path+"/") {
			below = append(below, p)
		}
	}
	slices.SortFunc(below, func(a, b string) int {
		return cmp.Or(cmp.Compare(strings.Count(b, "/"), strings.Count(a, "/")), cmp.Compare(a, b))
	})
	for _, p := range below {
		if _, ok := h.tree.Result()[p]; ok {
			h.remove(p)
		}
	}
}

// shows lists paths, with the content of files: "a/" for a directory, "a=x" for a file, "a>x" for a symlink, and "!n" where n conflicts wait.
func (h *host) shows() string {
	var all []string
	for path, n := range h.tree.Result() {
		if path == "" {
			continue
		}
		s := path + "/"
		if n.Type != record.Directory {
			s = path + "=?"
			if r := h.tree.Record(n.Live); r != nil {
				v := r.Body.(*record.Version)
				s = path + ">" + v.Target
				if n.Type == record.Regular {
					s = path + "="
					if len(v.Spans) > 0 {
						s += strings.TrimRight(string(v.Spans[0].ID[:]), "\x00")
					}
				}
			}
		}
		if len(n.Conflicts) > 0 {
			s += fmt.Sprintf("!%d", len(n.Conflicts))
		}
		all = append(all, s)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}
