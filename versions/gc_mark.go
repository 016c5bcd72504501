package versions

import (
	"fmt"

	"sharefs"
)

// mark finds the chunks of the present range that versions need.
func (c *collector) mark() error {
	c.nodes.release()
	c.marks.release()
	c.marks.common = c.common
	c.report.Passes++
	c.report.Versions = 0
	if err := c.adopting(); err != nil {
		return err
	}
	var bad error
	rows := uint64(0)
	err := c.h.t.db.Scan(spaceVersion, nil, nil, func(key, value []byte) bool {
		rows++
		if rows%64 == 1 {
			if bad = c.step("mark what versions need", rows-1, 0, "versions", 64*rowWork); bad != nil {
				return false
			}
		}
		v, err := decodeVersion(key, value)
		if err != nil {
			c.hide(keyIno(key), 0, err)
			return true
		}
		c.report.Versions++
		if v.place == placeKept {
			bad = c.manifest(v.top, versionID{v.ino, v.own}, v.away)
		}
		return bad == nil
	})
	if err == nil {
		err = bad
	}
	if err != nil {
		return failed("read versions", err)
	}
	if err := c.place("versions marked"); err != nil {
		return err
	}
	for _, top := range c.h.leases.beingRead() {
		if err := c.manifest(top, versionID{}, false); err != nil {
			return err
		}
	}
	return c.place("marked")
}

// adopting marks what files are to hold that are being given it in place. It comes before the versions: what is no such file any more then has the row of its version.
func (c *collector) adopting() error {
	var bad error
	err := c.h.t.db.Scan(spaceAdopting, nil, nil, func(key, value []byte) bool {
		a, err := decodeAdopting(keyIno(key), value)
		if err != nil {
			c.hide(keyIno(key), 0, err)
			return true
		}
		bad = c.manifest(a.top, versionID{}, false)
		return bad == nil
	})
	if err == nil {
		err = bad
	}
	return failed("read what is being adopted", err)
}

// nextRange goes on to the names behind those that are done; false: there are none.
func (c *collector) nextRange() bool {
	if c.common == 0 || c.hidden {
		return false
	}
	c.lo += 1 << (64 - c.common)
	return c.lo != 0
}

// manifest marks what a manifest leads to; of a shell the nodes alone, and no chunk: others keep these.
func (c *collector) manifest(m manifest, of versionID, shell bool) error {
	if shell && m.level == 0 {
		return nil
	}
	for i := range m.spans {
		s := &m.spans[i]
		if s.hole {
			continue
		}
		c.need(&s.id)
		if m.level == 0 || shell && m.level == 1 {
			continue
		}
		if err := c.node(s, m.level, of, shell); err != nil {
			return err
		}
	}
	return nil
}

// need marks a chunk, or a node. When the table is as large as it may be, half of the range is left for another pass.
func (c *collector) need(id *sharefs.ChunkID) {
	v := fingerprint(id)
	for c.inRange(v) {
		if c.marks.full() && len(c.marks.slots) >= c.opts.slots && !c.marks.has(v) && c.common < 40 {
			c.common++
			c.marks.narrow(c.lo, c.common)
			continue
		}
		c.marks.add(v)
		c.report.MarkBytes = max(c.report.MarkBytes, c.marks.bytes()+c.nodes.bytes())
		return
	}
}

// inRange reports whether a name belongs to what is marked and swept at present.
func (c *collector) inRange(v uint64) bool { return (v^c.lo)>>(64-c.common) == 0 }

// node marks what a node of a manifest leads to, unless it was read already. (A chunk that has the bytes of a node, or a node of another level, has
// the same name: what was read is told apart by level, and by whether the chunks were marked, too.)
func (c *collector) node(s *span, level uint8, of versionID, shell bool) error {
	if c.nodes.n >= nodesMax {
		c.nodes.release() // nodes are met with again soon or not at all: the versions of a file follow each other
	}
	kind := uint64(level)
	if shell {
		kind |= 1 << 8
	}
	if !c.nodes.add(max(1, fingerprint(&s.id)^kind*0x9e3779b97f4a7c15)) {
		return nil
	}
	if err := c.going(); err != nil {
		return err
	}
	data, err := c.h.readChunk(s.id, nil)
	if err != nil {
		if err := c.going(); err != nil {
			return err
		}
		if c.h.gaveUp(&s.id, of) {
			return nil
		}
		c.hide(of.ino, of.own, err)
		return nil
	}
	c.report.Nodes++
	c.pace.step(int64(len(data)))
	spans, ok := decodeSpans(data, s.len)
	if !ok {
		c.hide(of.ino, of.own, &sharefs.Error{Op: "read a version", Kind: sharefs.KindCorrupt, Detail: "a node of its manifest is damaged"})
		return nil
	}
	return c.manifest(manifest{level - 1, spans}, of, shell)
}

// hide notes that it cannot be told what a version needs.
func (c *collector) hide(ino sharefs.Ino, own uint64, cause error) {
	c.hidden = true
	l := GCLeft{Ino: ino, Why: fmt.Sprintf("it cannot be told which chunks it needs, so none was given up: %v", cause)}
	if own > 0 {
		l.Version = c.h.baseOf(ino) + own
	}
	c.left(l)
}
