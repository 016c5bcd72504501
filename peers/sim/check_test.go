package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"sharefs"
	"sharefs/peers/converge"
	"sharefs/peers/record"
	"sharefs/peers/replica"
)

// shows describes the live tree.
func (t *tree) shows() string {
	var b strings.Builder
	first := map[sharefs.Ino]string{}
	for _, p := range t.walk() {
		n := t.nodes[p.ino]
		fmt.Fprintf(&b, "%s %o", p.text, n.mode)
		if n.target != "" {
			fmt.Fprintf(&b, " to %s", n.target)
		}
		if n.isRegular() {
			if first[p.ino] == "" {
				first[p.ino] = p.text
			}
			fmt.Fprintf(&b, " %q is %s", n.content, first[p.ino])
			if n.content != "" { // an empty one is made anew on each host, of another time as long as nobody has told one: right looks at that
				fmt.Fprintf(&b, " of %d", n.mtime)
			}
		}
		xattrs, _ := t.Xattrs(p.ino)
		fmt.Fprintf(&b, " %q\n", xattrs)
	}
	return b.String()
}

// quiesce has everybody stop, all hosts run and reach each other, clocks agree, and waits until nothing changes any more.
func (w *world) quiesce() {
	w.log("everything comes to rest")
	w.still = true
	defer func() { w.still = false }()
	rnd := w.rng(1 << 40)
	clear(w.apart)
	for _, h := range w.hosts {
		h.rnd = rnd
		if w.even {
			h.now()
		}
	}
	if w.latest.After(w.clock) { // what was written when a clock was ahead is taken when that time has come
		w.clock = w.latest
	}
	w.clock = w.clock.Add(10 * time.Minute)
	for _, h := range w.hosts {
		h.skew = 0
		if !h.up() {
			w.fail("%s does not come up", h)
		}
		h.restAll()
	}
	const rounds = 40
	for round := range rounds {
		moved, waiting := 0, 0
		for _, h := range w.hosts {
			moved += h.author()
			moved += w.exchange()
			waiting += h.apply()
			h.restAll()
			moved += h.author()
		}
		if round >= rounds-2 {
			w.log("%d are told, %d wait", moved, waiting)
		}
		if moved+waiting == 0 {
			return
		}
	}
	w.fail("they do not come to an end")
}

// check holds what must hold when nothing changes any more.
func (w *world) check() {
	all := w.hosts[0].records()
	w.replaced(all)
	for _, h := range w.hosts {
		h.right()
		if w.twofold() {
			continue
		}
		mine := h.records()
		lacks := func(a, b []*record.Record) string {
			var text strings.Builder
			for _, r := range a {
				if !slices.ContainsFunc(b, func(o *record.Record) bool { return o.ID() == r.ID() }) {
					fmt.Fprintf(&text, "%s %x %v; ", r.HLC, r.Author[:2], r.Body)
				}
			}
			return text.String()
		}
		if a, b := lacks(all, mine), lacks(mine, all); a+b != "" {
			w.fail("%s lacks %s, and has %s, unlike %s", h, a, b, w.hosts[0])
		}
		if a, b := w.hosts[0].tree.shows(), h.tree.shows(); a != b {
			w.fail("%s and %s have the same records, and other trees:\n%s\nagainst\n%s", w.hosts[0], h, a, b)
		}
	}
}

// wrote notes what somebody wrote who saw something else in the file.
func (w *world) wrote(saw, content string) {
	if _, twice := w.instead[content]; twice {
		saw = ""
	}
	w.instead[content] = saw
}

// replaced holds that what somebody wrote comes from what he saw, if his host had a record of that when it told of what he wrote. Otherwise it need not, as that happens to a host that was put back
// from an image: what it told in the time that was lost it may not have heard again, and what was in its tree, untold, is told later than what was made of it in that time.
func (w *world) replaced(all []*record.Record) {
	of, byID, over := map[string][]*record.Record{}, map[record.ID]*record.Record{}, map[record.ID][]record.ID{} // over: by what it replaces
	honest := func(author sharefs.PeerID) bool {
		return slices.ContainsFunc(w.hosts, func(h *host) bool { return h.self == author })
	}
	for _, r := range all {
		if v, ok := r.Says().Body.(*record.Version); ok && honest(r.Author) && honest(r.Says().Author) { // anybody may say that others told something
			of[v.Content()] = append(of[v.Content()], r.Says())
			byID[r.Says().ID()] = r.Says()
			for _, id := range v.Parents {
				over[id] = append(over[id], r.Says().ID())
			}
		}
	}
	content := func(text string) string {
		v := record.Version{Size: uint64(len(text)), Key: keyFor(text)}
		for _, p := range pieces(text) {
			v.Spans = append(v.Spans, record.Span{Len: uint64(len(p)), ID: chunkID(p)})
		}
		return v.Content()
	}
	for text, saw := range w.instead {
		if text == "" || saw == "" {
			continue
		}
		for _, r := range of[content(text)] {
			before := map[record.ID]bool{}
			for next := []*record.Record{r}; len(next) > 0; next = next[1:] {
				for _, id := range next[0].Body.(*record.Version).Parents {
					if p := byID[id]; p != nil && !before[id] {
						before[id] = true
						next = append(next, p)
					}
				}
			}
			same := slices.DeleteFunc(slices.Clone(of[content(saw)]), func(old *record.Record) bool { return old.Says().File() != r.File() })
			comes := slices.ContainsFunc(same, func(old *record.Record) bool { return before[old.ID()] })
			for _, old := range same {
				// Of several that say the same those do that nothing else had replaced.
				replaced := comes && slices.ContainsFunc(over[old.ID()], func(id record.ID) bool { return w.knew(r.ID(), id) })
				if !before[old.ID()] && !replaced && w.knew(r.ID(), old.ID()) {
					w.fail("%q was written by who saw %q, and does not come from that", text, saw)
				}
			}
		}
	}
}

// knew reports whether the author of a record had another one when he told it.
func (w *world) knew(of, id record.ID) bool {
	had, ok := w.had[of]
	return had[id] || !ok && (w.before == nil || w.before[id])
}

// twofold reports whether a writer has told two histories: each host counts the one that came to it first, which for one that is restored may be the other one.
func (w *world) twofold() bool { return w.intruder != nil && w.intruder.two }

// aftermath holds that nothing changes any more, whatever comes again and whatever a host loses.
func (w *world) aftermath(rnd *rand.Rand) {
	h := w.hosts[rnd.IntN(len(w.hosts))]
	before, same := h.tree.shows(), !w.twofold()
	switch verb := rnd.IntN(4); {
	case verb == 0 && h.saved != nil && h.calm:
		w.log("%s is restored", h)
		h.restore()
	case verb == 1:
		w.log("%s loses its records", h)
		h.lose() // and hears others before it writes anything down
		h.up()
		w.exchange()
		same = false // it does not know any more which files went on in other inodes
	case verb == 2:
		h.down(true)
	default:
		w.log("everything comes again")
		for range 3 {
			for _, o := range w.hosts {
				w.gossip(o, h, rnd)
			}
		}
		w.still = true
		if n := h.author() + h.apply(); n > 0 {
			w.fail("%s: what comes again changes %d", h, n)
		}
	}
	w.quiesce()
	w.check()
	if after := h.tree.shows(); same && after != before {
		w.fail("%s: what was is not what is:\n%s\nagainst\n%s", h, before, after)
	}
}

// right holds that a tree is what the specification makes of the records that its host has.
func (h *host) right() {
	w := h.w
	var in []converge.Input
	byID := map[record.ID]*record.Record{}
	for _, i := range h.counting() {
		r, counts := i.Record, i.Standing
		byID[r.ID()] = r
		if (counts == converge.Merged) != (w.standing(h, r.Author) == replica.Merged) && h.bulk.Files == 0 && w.parts == nil {
			w.fail("%s: a record by %x counts %v", h, r.Author[:2], counts)
		}
		in = append(in, converge.Input{Record: r, Standing: counts})
		if inner := r.Says(); inner != r {
			byID[inner.ID()] = inner
			in = append(in, converge.Input{Record: inner, Standing: counts})
		}
	}
	want, orphans := converge.Whole(in)
	if len(orphans) > 0 && w.parts == nil && (w.intruder == nil || w.intruder.level != writer) {
		var b strings.Builder
		for _, r := range h.records() {
			if p, ok := r.Body.(*record.Place); ok && (p.Type == record.Directory || slices.ContainsFunc(orphans, func(k converge.Key) bool { return k.File == p.File })) {
				fmt.Fprintf(&b, "\n%s %d is at %s/%s, %x by %x", p.File, p.Link, p.Parent, p.Name, uint64(r.HLC), r.Author[:2])
			}
		}
		w.fail("%s: names without a place: %v%s", h, orphans, b.String())
	}
	for path, n := range want {
		if n.Type == record.Symlink && n.Live.IsZero() { // nobody said where it leads
			delete(want, path)
		}
	}
	seen := 0
	for _, p := range h.tree.walk() {
		seen++
		n, ok := want[p.text]
		if !ok {
			w.fail("%s: %s is there, and by the records it is not", h, p.text)
		}
		a := h.tree.nodes[p.ino]
		typ := map[uint32]record.Type{sharefs.ModeDir: record.Directory, sharefs.ModeRegular: record.Regular, sharefs.ModeSymlink: record.Symlink}[a.mode&sharefs.ModeType]
		if typ != n.Type {
			w.fail("%s: %s is a %s, by the records a %s", h, p.text, typ, n.Type)
		}
		if rec := byID[n.Attr]; rec != nil && typ != record.Symlink {
			xattrs, _ := h.tree.Xattrs(p.ino)
			if b := rec.Body.(*record.Attr); uint16(a.mode&record.ModeBits) != b.Mode || fmt.Sprint(xattrs) != fmt.Sprint(b.Xattrs) {
				w.fail("%s: %s has mode %o %q, by the records %o %q", h, p.text, a.mode, xattrs, b.Mode, b.Xattrs)
			}
		}
		if at, ok := record.Mtime(byID[n.Live], byID[n.Attr]); ok && typ == record.Regular && at != a.mtime {
			w.fail("%s: %s was changed at %d, by the records at %d", h, p.text, a.mtime, at)
		}
		got, live := "", ""
		switch typ {
		case record.Directory:
			continue
		case record.Symlink:
			got = (&record.Version{Target: a.target}).Content()
		case record.Regular:
			got = (&record.Version{Size: uint64(len(a.content)), Spans: h.tree.pack(a.content), Key: keyFor(a.content)}).Content()
			live = (&record.Version{}).Content() // of what nobody wrote to
		}
		if rec := byID[n.Live]; rec != nil {
			live = rec.Body.(*record.Version).Content()
		}
		if got != live {
			w.fail("%s: %s holds %q, which is not what the records say", h, p.text, a.content+a.target)
		}
	}
	if seen != len(want)-1 {
		for path := range want {
			if path != "" && !h.tree.has(path) {
				w.fail("%s: %s is not there, and by the records it is", h, path)
			}
		}
	}
}

func (t *tree) has(text string) bool {
	for _, p := range t.walk() {
		if p.text == text {
			return true
		}
	}
	return false
}
