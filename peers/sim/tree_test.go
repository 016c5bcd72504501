package sim

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"hash/fnv"
	"maps"
	"slices"

	"sharefs"
	"sharefs/peers/record"
	"sharefs/peers/replica"
)

// inode is a file of the model. It is never changed: edit puts another one in its place, so that an image of the tree is a copy of one map.
type inode struct {
	ino     sharefs.Ino
	id      sharefs.FileID
	mode    uint32
	names   int         // 0: it is gone, unless somebody writes to it still; its versions stay
	parent  sharefs.Ino // of a directory
	target  string
	content string
	mtime   sharefs.Time
	btime   sharefs.Time // when it was made
	xattrs  map[string]string
	slots   map[uint64]sharefs.Dentry // of a directory, by cookie
	bore    map[string][]borne        // of a directory: what had a name, one after the other
	past    []version
	writers int  // open for writing
	hot     bool // written to since the last version
}

// borne says what had a name from some moment on; no inode: nothing.
type borne struct {
	sharefs.Dentry
	since sharefs.HLC
}

// version is one of an inode's own; the number of the first is 1.
type version struct {
	content string
	mtime   sharefs.Time
	kept    bool // it was captured: its content can be told
	author  sharefs.PeerID
}

func (n *inode) isDir() bool     { return n.mode&sharefs.ModeType == sharefs.ModeDir }
func (n *inode) isRegular() bool { return n.mode&sharefs.ModeType == sharefs.ModeRegular }
func (n *inode) own() uint64     { return uint64(len(n.past)) }

// image is all of a tree that is on disk.
type image struct {
	nodes  map[sharefs.Ino]*inode
	marks  map[replica.Mark]uint64 // the feed: Count is 0 in the key, and the value
	chunks map[sharefs.ChunkID]string
	follow bool
	last   sharefs.Ino // the last inode given
	count  uint64      // the last mark given
}

func (m *image) clone() image {
	c := *m
	c.nodes, c.marks, c.chunks = maps.Clone(m.nodes), maps.Clone(m.marks), maps.Clone(m.chunks)
	return c
}

// tree is the live tree of a host as package versions has it, in memory, slow and obvious. It implements [replica.Tree].
//
// A file that was written to is hot until settle makes a version of it, and the content of that can be told when capture has been there. Commits that were not synced are lost at a
// crash, from some moment on: images keeps what a crash may leave.
type tree struct {
	h *host
	image
	images []image // since the last sync, that first
}

func newTree(h *host) *tree {
	t := &tree{h: h, image: image{nodes: map[sharefs.Ino]*inode{}, marks: map[replica.Mark]uint64{}, chunks: map[sharefs.ChunkID]string{}, last: sharefs.RootIno}}
	t.nodes[sharefs.RootIno] = &inode{ino: sharefs.RootIno, mode: sharefs.ModeDir | 0o755, names: 1, parent: sharefs.RootIno, slots: map[uint64]sharefs.Dentry{}, bore: map[string][]borne{}}
	t.sync()
	return t
}

// sync makes what there is survive a crash.
func (t *tree) sync() { t.images = []image{t.clone()} }

// Sync implements [replica.Tree].
func (t *tree) Sync() error {
	t.h.tick()
	t.sync()
	return nil
}

// committed ends a change.
func (t *tree) committed() {
	if t.h.chance(4) {
		t.images = append(t.images, t.clone())
	}
	t.h.tick()
}

// crash loses what was not synced, or a part of it. Nobody has anything open any more.
func (t *tree) crash(rnd func(n int) int) {
	t.images = append(t.images, t.clone())
	t.image = t.images[rnd(len(t.images))].clone()
	t.closed()
	t.sync()
}

// closed has nobody have anything open any more.
func (t *tree) closed() {
	for ino, n := range t.nodes {
		if n.writers > 0 {
			c := *n
			c.writers = 0
			t.nodes[ino] = &c
		}
	}
}

func kindOf(op string, kind sharefs.Kind) error { return &sharefs.Error{Op: op, Kind: kind} }

func again(detail string) error {
	return &sharefs.Error{Op: "change", Kind: sharefs.KindAgain, Detail: detail}
}

// get returns an inode that is there.
func (t *tree) get(ino sharefs.Ino) (*inode, error) {
	n := t.nodes[ino]
	if n == nil || n.names == 0 && n.writers == 0 {
		return nil, kindOf("look up", sharefs.KindStale)
	}
	return n, nil
}

// edit returns a copy of an inode that may be changed, and marks it.
func (t *tree) edit(ino sharefs.Ino) *inode {
	c := *t.nodes[ino]
	c.xattrs, c.slots, c.bore, c.past = maps.Clone(c.xattrs), maps.Clone(c.slots), maps.Clone(c.bore), slices.Clone(c.past)
	t.nodes[ino] = &c
	t.mark(ino, 0)
	return &c
}

func (t *tree) mark(ino sharefs.Ino, cookie uint64) {
	if t.follow {
		t.count++
		t.marks[replica.Mark{Ino: ino, Cookie: cookie}] = t.count
	}
}

// lookup returns what has a name in a directory.
func (t *tree) lookup(dir sharefs.Ino, name string) (sharefs.Dentry, bool) {
	if n := t.nodes[dir]; n != nil {
		for _, d := range n.slots {
			if d.Name == name {
				return d, true
			}
		}
	}
	return sharefs.Dentry{}, false
}

// bind gives a name to an inode. A name lies in the first free slot from the one that its hash says, of which there are so few that names collide.
func (t *tree) bind(dir sharefs.Ino, name string, ino sharefs.Ino) {
	d := t.edit(dir)
	cookie := uint64(0)
	if had, ok := t.lookup(dir, name); ok {
		cookie = had.Cookie
	} else {
		h := fnv.New32()
		h.Write([]byte(name))
		for cookie = 1 + uint64(h.Sum32()%16); d.slots[cookie].Ino != 0; cookie++ {
		}
	}
	d.slots[cookie] = sharefs.Dentry{Name: name, Ino: ino, Type: t.nodes[ino].mode & sharefs.ModeType, Cookie: cookie}
	d.bears(t, d.slots[cookie])
	t.mark(dir, cookie)
}

// bears notes what has a name in a directory from now on.
func (n *inode) bears(t *tree, d sharefs.Dentry) {
	n.bore[d.Name] = append(slices.Clip(n.bore[d.Name]), borne{d, sharefs.HLCAt(t.h.now())})
}

// Bore implements [replica.Tree].
func (t *tree) Bore(dir sharefs.Ino, name string) (since sharefs.HLC, before sharefs.Dentry, err error) {
	n := t.nodes[dir]
	if n == nil || len(n.bore[name]) == 0 {
		return 0, before, nil
	}
	all := n.bore[name]
	now := all[len(all)-1]
	since = now.since
	for _, b := range slices.Backward(all[:len(all)-1]) {
		if b.Ino != 0 && b.Ino != now.Ino {
			return since, b.Dentry, nil
		}
	}
	return since, before, nil
}

func (t *tree) unbind(dir sharefs.Ino, name string) {
	d := t.edit(dir)
	had, _ := t.lookup(dir, name)
	delete(d.slots, had.Cookie)
	d.bears(t, sharefs.Dentry{Name: name})
	t.mark(dir, had.Cookie)
}

// unlinked takes a name from an inode. What it holds becomes a version if it was written to.
func (t *tree) unlinked(ino sharefs.Ino) {
	n := t.edit(ino)
	n.names--
}

// create makes an inode, with a number that it has already if its content was staged.
func (t *tree) create(dir sharefs.Ino, name string, n inode) sharefs.Ino {
	if n.ino == 0 {
		t.last++
		n.ino = t.last
	}
	n.names, n.btime = 1, sharefs.Time(t.h.now().UnixNano())
	if n.own() == 0 {
		n.mtime = n.btime
	}
	if n.isDir() {
		n.slots, n.bore, n.parent = map[uint64]sharefs.Dentry{}, map[string][]borne{}, dir
	}
	t.nodes[n.ino] = &n
	t.mark(n.ino, 0)
	t.bind(dir, name, n.ino)
	return n.ino
}

// settle makes a version of a file at which nobody writes any more.
func (t *tree) settle(ino sharefs.Ino) {
	if n := t.nodes[ino]; n.hot && n.writers == 0 {
		n = t.edit(ino)
		n.hot = false
		if len(n.past) == 0 || n.past[len(n.past)-1].content != n.content {
			n.past = append(n.past, version{content: n.content, mtime: n.mtime, author: t.h.self})
		}
	}
}

// capture makes the content of versions known.
func (t *tree) capture(ino sharefs.Ino) {
	if n := t.nodes[ino]; slices.ContainsFunc(n.past, func(v version) bool { return !v.kept }) {
		n = t.edit(ino)
		for i := range n.past {
			n.past[i].kept = true
			t.pack(n.past[i].content)
		}
	}
}

// pieces cuts a content into chunks.
func pieces(content string) (list []string) {
	for len(content) > 0 {
		n := min(len(content), 12)
		list, content = append(list, content[:n]), content[n:]
	}
	return list
}

// keyFor is the key by which the chunks of a content are named.
func keyFor(content string) sharefs.KeyID {
	if content == "" {
		return sharefs.KeyID{}
	}
	return sharefs.KeyID(share)
}

func chunkID(piece string) sharefs.ChunkID { return sha256.Sum256([]byte(piece)) }

func (t *tree) pack(content string) (spans []record.Span) {
	for _, p := range pieces(content) {
		id := chunkID(p)
		t.chunks[id] = p
		spans = append(spans, record.Span{Len: uint64(len(p)), ID: id})
	}
	return spans
}

// By implements [replica.Tree]; the model notes no operations.
func (t *tree) By(sharefs.PeerID, *replica.Decision) {}

// Follow implements [replica.Tree].
func (t *tree) Follow() (before bool, err error) {
	before, t.follow = t.follow, true
	t.committed()
	return before, nil
}

func compareMarks(a, b replica.Mark) int {
	return cmp.Or(cmp.Compare(min(a.Cookie, 1), min(b.Cookie, 1)), cmp.Compare(a.Ino, b.Ino), cmp.Compare(a.Cookie, b.Cookie))
}

func firstMarks(all []replica.Mark, after replica.Mark, most int) []replica.Mark {
	all = slices.DeleteFunc(all, func(m replica.Mark) bool { return after != (replica.Mark{}) && compareMarks(m, after) <= 0 })
	slices.SortFunc(all, compareMarks)
	return all[:min(most, len(all))]
}

// Changes implements [replica.Tree].
func (t *tree) Changes(after replica.Mark, most int) ([]replica.Mark, error) {
	var all []replica.Mark
	for m, count := range t.marks {
		m.Count = count
		all = append(all, m)
	}
	if t.h.w.few {
		most = min(most, 1+int(t.count%3))
		if after != (replica.Mark{}) {
			t.h.mayCrash(16)
		}
	}
	return firstMarks(all, after, most), nil
}

// Everything implements [replica.Tree].
func (t *tree) Everything(after replica.Mark, most int) ([]replica.Mark, error) {
	var all []replica.Mark
	for ino, n := range t.nodes {
		if n.names == 0 && n.writers == 0 {
			continue
		}
		all = append(all, replica.Mark{Ino: ino})
		for cookie := range n.slots {
			all = append(all, replica.Mark{Ino: ino, Cookie: cookie})
		}
	}
	return firstMarks(all, after, most), nil
}

// Dealt implements [replica.Tree].
func (t *tree) Dealt(list []replica.Mark) error {
	for _, m := range list {
		count := m.Count
		if m.Count = 0; t.marks[m] == count {
			delete(t.marks, m)
		}
	}
	t.committed()
	return nil
}

// Mark implements [replica.Tree].
func (t *tree) Mark(list []replica.Mark) error {
	for _, m := range list {
		t.mark(m.Ino, m.Cookie)
	}
	t.committed()
	return nil
}

// NameAt implements [replica.Tree].
func (t *tree) NameAt(dir sharefs.Ino, cookie uint64) (sharefs.Dentry, bool, error) {
	if n := t.nodes[dir]; n != nil {
		d, ok := n.slots[cookie]
		return d, ok, nil
	}
	return sharefs.Dentry{}, false, nil
}

// Slot implements [replica.Tree].
func (t *tree) Slot(dir sharefs.Ino, name string) (sharefs.Dentry, bool, error) {
	d, ok := t.lookup(dir, name)
	return d, ok, nil
}

// FileID implements [replica.Tree].
func (t *tree) FileID(ino sharefs.Ino) (sharefs.FileID, error) {
	n, err := t.get(ino)
	if gone := t.nodes[ino]; err != nil && gone != nil && len(gone.past) > 0 {
		return gone.id, nil
	}
	if err != nil {
		return sharefs.FileID{}, err
	}
	return n.id, nil
}

// Getattr implements [replica.Tree].
func (t *tree) Getattr(ino sharefs.Ino) (sharefs.Attr, error) {
	n, err := t.get(ino)
	if err != nil {
		return sharefs.Attr{}, err
	}
	return sharefs.Attr{Ino: ino, Mode: n.mode, Nlink: uint32(n.names), Size: uint64(len(n.content)), Mtime: n.mtime, Changing: n.hot || n.writers > 0}, nil
}

// Readlink implements [replica.Tree].
func (t *tree) Readlink(ino sharefs.Ino) (string, error) {
	n, err := t.get(ino)
	if err != nil {
		return "", err
	}
	return n.target, nil
}

// Xattrs implements [replica.Tree].
func (t *tree) Xattrs(ino sharefs.Ino) (all []record.Xattr, err error) {
	n, err := t.get(ino)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(n.xattrs)) {
		all = append(all, record.Xattr{Name: name, Value: n.xattrs[name]})
	}
	return all, nil
}

// Latest implements [replica.Tree].
func (t *tree) Latest(ino sharefs.Ino) (own uint64, v *record.Version, err error) {
	n := t.nodes[ino]
	if n == nil || len(n.past) == 0 {
		return 0, nil, nil
	}
	last := n.past[len(n.past)-1]
	if !last.kept {
		return n.own(), nil, nil
	}
	at := last.mtime
	if !n.hot && n.writers == 0 && n.names > 0 { // it may have been set since
		at = n.mtime
	}
	return n.own(), &record.Version{Size: uint64(len(last.content)), Mtime: at, Spans: t.pack(last.content), Key: keyFor(last.content)}, nil
}

// Mtime implements [replica.Tree].
func (t *tree) Mtime(ino sharefs.Ino) (at sharefs.Time, own uint64, made, ok bool, err error) {
	n, err := t.get(ino)
	if err != nil || !n.isRegular() {
		return 0, 0, false, false, err
	}
	return n.mtime, n.own(), n.content == "" && n.mtime == n.btime, !n.hot && n.writers == 0, nil
}

// newID makes an id of a file.
func (t *tree) newID() (id sharefs.FileID) {
	binary.BigEndian.PutUint64(id[:], t.h.rnd.Uint64())
	binary.BigEndian.PutUint64(id[8:], t.h.rnd.Uint64())
	return id
}

// Between implements [replica.Tree].
func (t *tree) Between(ino sharefs.Ino, after, before uint64, most int) (all []*record.Version, err error) {
	n := t.nodes[ino]
	if n == nil {
		return nil, nil
	}
	for own := after + 1; own < min(before, n.own()+1); own++ {
		if v := n.past[own-1]; v.kept {
			all = append(all, &record.Version{Size: uint64(len(v.content)), Mtime: v.mtime, Spans: t.pack(v.content), Key: keyFor(v.content)})
		}
	}
	return all[max(0, len(all)-most):], nil
}
