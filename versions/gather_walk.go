package versions

import (
	"cmp"
	"time"

	"sharefs"
	"sharefs/versions/pack"
)

// Bounds of what a source is told of before it is asked for it. What it may hold ready meanwhile is what goes on coming while a pack is synced. Chunks that are here are passed without
// regard to their bytes, or those that are missing at the end of a large file would be asked for a round trip after those at its beginning.
const (
	gatherChunks = 4096
	gatherBytes  = 32 << 20
	gatherNodes  = 16              // of a list of nodes: each leads to some megabytes
	gatherTops   = 64              // contents whose first nodes the source is told of
	gatherFlush  = 64 << 20        // bytes after which what came survives power loss, so that it need not come again
	gatherTime   = 2 * time.Second // after which it does too: of a slow line much fewer bytes are a long wait
)

// gathering fetches what is missing of some contents, in one walk over all of them in their order: it goes ahead to the chunks of which the source is to be told, and
// takes those that are due behind it. It stops only for nodes, of which the source was told long before; so the source has something to send at any moment.
type gathering struct {
	*batch
	src     Source
	watcher Watcher // nil: nobody wants to know
	checked bool    // what the source returns is what it is said to be
	under   keptUnder
	names   *namers
	tops    []manifest  // of each content
	errs    []error     // of each content
	keys    []*shareKey // of each content
	files   []*filling  // of each content: that is filled with it; nil: none
	shell   []bool      // of each content: its chunks stay where they are
	told    idSet       // chunks of which the source was told
	been    map[visit]struct{}

	next     int      // the content that the walk comes to next
	topsTold int      // contents of whose first nodes the source was told
	at       []inside // where the walk is: lists, each below one of the nodes of that before it
	due      []needed // chunks that the walk has passed, in order
	dueBytes int64    // of those that are missing
	unsynced int64    // bytes that came since the last sync
	synced   time.Time
}

// visit is a branch of one of the contents that was gone through.
type visit struct {
	of int
	branch
}

// needed is a chunk, or a node, of one of the contents.
type needed struct {
	of int
	span
	off  int64 // in the content
	told bool  // it is missing, and the source was told
}

// inside is a place in a list of spans.
type inside struct {
	of    int
	level uint8
	spans []span
	next  int
	told  int   // nodes of which the source was told
	off   int64 // of the next one, in the content
}

// run fetches all.
func (g *gathering) run() error {
	g.synced = time.Now()
	for {
		for more := true; more && g.dueBytes < gatherBytes && len(g.due) < gatherChunks; {
			var err error
			if more, err = g.advance(); err != nil {
				return err
			}
		}
		if len(g.due) == 0 {
			return nil
		}
		n := g.due[0]
		g.due = g.due[1:]
		if n.told {
			g.dueBytes -= n.len
		}
		if err := g.chunk(&n); err != nil {
			return err
		}
		if g.watcher != nil && g.errs[n.of] == nil {
			g.watcher.Reached(n.of, uint64(n.off+n.len))
		}
	}
}

// advance takes the walk on by a step, and reports whether it is not at its end.
func (g *gathering) advance() (more bool, err error) {
	if len(g.at) == 0 {
		return g.begin()
	}
	w := &g.at[len(g.at)-1]
	if w.next == len(w.spans) || g.errs[w.of] != nil {
		g.at = g.at[:len(g.at)-1]
		return true, nil
	}
	n := needed{of: w.of, span: w.spans[w.next], off: w.off}
	w.next++
	w.off += n.len
	if n.hole {
		return true, nil
	}
	g.lease.add(&n.id)
	if w.level > 0 {
		if err := g.tell(w.of, w.spans, &w.told, w.next+gatherNodes); err != nil {
			return true, err
		}
		return true, g.node(w.level, &n)
	}
	ok, err := g.has(&n)
	if err != nil {
		return true, err
	}
	if !ok {
		g.want(&n)
		n.told = true
		g.dueBytes += n.len
	}
	if !ok || g.files[n.of].takes() {
		g.due = append(g.due, n)
	}
	return true, nil
}

// begin comes to the next content.
func (g *gathering) begin() (more bool, err error) {
	for ; g.topsTold < min(len(g.tops), g.next+gatherTops); g.topsTold++ {
		if top := &g.tops[g.topsTold]; top.level > 0 && g.errs[g.topsTold] == nil {
			if err := g.tell(g.topsTold, top.spans, new(int), gatherNodes); err != nil {
				return true, err
			}
		}
	}
	if g.next == len(g.tops) {
		return false, nil
	}
	if top := &g.tops[g.next]; g.errs[g.next] == nil && (top.level > 0 || !g.shell[g.next]) {
		g.at = append(g.at, inside{of: g.next, level: top.level, spans: top.spans})
	}
	g.next++
	return true, nil
}

// tell tells the source of the nodes of a list up to some place.
func (g *gathering) tell(of int, spans []span, told *int, upTo int) error {
	for ; *told < min(upTo, len(spans)); *told++ {
		n := needed{of: of, span: spans[*told]}
		if n.hole {
			continue
		}
		if ok, err := g.has(&n); err != nil {
			return err
		} else if !ok {
			g.want(&n)
		}
	}
	return nil
}

func (g *gathering) want(n *needed) {
	if g.told.add(fingerprint(&n.id)) {
		g.src.Want(n.of, n.id)
	}
}

// has reports whether a chunk is here.
func (g *gathering) has(n *needed) (bool, error) {
	key := g.keys[n.of]
	if loc, ok := g.chunks[n.id]; ok {
		e, err := g.h.packs.EpochOf(loc.Pack)
		return err == nil && e.Key == key.id, err
	}
	return g.under.has(&n.id, key)
}

// chunk fetches a chunk, unless it came for another content meanwhile.
func (g *gathering) chunk(n *needed) error {
	if g.errs[n.of] != nil {
		return nil
	}
	file := g.files[n.of]
	ok, err := g.has(n)
	if err != nil {
		return err
	}
	if ok {
		if file.takes() {
			data, err := g.read(n)
			file.had(n.off, data, err)
		}
		return nil
	}
	data := g.get(0, n)
	if data == nil {
		return nil
	}
	file.put(n.off, data)
	if err := g.keepUnder(g.keys[n.of], pack.TypeChunk, n.id, data, file.takes()); err != nil {
		return err
	}
	if g.unsynced += n.len; g.unsynced < cmp.Or(g.h.gatherFlush, gatherFlush) && time.Since(g.synced) < cmp.Or(g.h.gatherTime, gatherTime) {
		return nil
	}
	g.unsynced = 0
	err = g.flush()
	g.synced = time.Now() // behind it: a disk that takes long is not kept busy with this alone
	return err
}

// get has the source send a chunk, or a node, and makes sure that it is that; nil: the content cannot be had.
func (g *gathering) get(level uint8, n *needed) []byte {
	fits := func(data []byte) bool { return level > 0 || int64(len(data)) == n.len }
	good := func(data []byte) bool { return fits(data) && g.names.of(g.keys[n.of]).ID(data) == n.id }
	data, err := g.src.Get(n.of, n.id, good)
	if err == nil && !(g.checked && fits(data) || good(data)) {
		err = &sharefs.Error{Op: "fetch", Kind: sharefs.KindCorrupt, Detail: "what was sent as chunk " + n.id.String() + " is another one"}
	}
	if err != nil {
		g.errs[n.of] = err
		return nil
	}
	return data
}

// read reads what is in packs.
func (g *gathering) read(n *needed) ([]byte, error) {
	if loc, unwritten := g.chunks[n.id]; unwritten {
		return g.h.packs.Read(loc, n.id, nil)
	}
	return g.h.readChunk(n.id, nil)
}

// node fetches a node, unless it is here, and has the walk go on below it.
func (g *gathering) node(level uint8, n *needed) error {
	ok, err := g.has(n)
	if err != nil {
		return err
	}
	var data []byte
	if ok {
		if data, err = g.read(n); err != nil {
			g.errs[n.of] = err
			return nil
		}
	} else if data = g.get(level, n); data == nil {
		return nil
	} else if err := g.keepUnder(g.keys[n.of], pack.TypeMap, n.id, data, false); err != nil {
		return err
	}
	at := visit{n.of, branch{n.span, level}}
	if _, again := g.been[at]; again {
		g.files[n.of].giveUp() // it would lack what the node leads to here
		return nil
	}
	if g.been == nil {
		g.been = map[visit]struct{}{}
	}
	g.been[at] = struct{}{}
	spans, ok := decodeSpans(data, n.len)
	if !ok {
		g.errs[n.of] = &sharefs.Error{Op: "fetch", Kind: sharefs.KindCorrupt, Detail: "a node of a manifest is damaged"}
		return nil
	}
	if level > 1 || !g.shell[n.of] {
		g.at = append(g.at, inside{of: n.of, level: level - 1, spans: spans, off: n.off})
	}
	return nil
}
