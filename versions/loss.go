package versions

import (
	"strings"
	"time"

	"sharefs"
)

// changedEarly is why most versions are lost that are.
const changedEarly = "its file is changed before it was captured"

// reportLoss counts and logs the loss of a version. To find the name of its file every directory is looked through, so that is done behind.
func (h *history) reportLoss(v *version, why string, cause error) {
	t := h.t
	if cause == errNoRoom {
		h.counts.tooLarge.Add(1)
	} else {
		h.counts.lost.Add(1)
	}
	at := time.Now()
	report := func() {
		file, number := t.NameOf(v.ino), h.baseOf(v.ino)+v.own
		h.mu.Lock()
		h.lastLost = file
		h.mu.Unlock()
		t.log.Error("a version is lost: "+why, "file", file, "version", number, "size", v.size, "cause", cause, "at", at)
	}
	if t.closed.Load() {
		report()
		return
	}
	if !h.naming.CompareAndSwap(false, true) { // one search at a time: a full disk loses many
		t.log.Error("a version is lost: "+why, "inode", uint64(v.ino), "version", h.baseOf(v.ino)+v.own, "size", v.size, "cause", cause, "at", at)
		return
	}
	t.ended.Go(func() {
		defer h.naming.Store(false)
		report()
	})
}

// baseOf returns what is added to an inode's own numbers, 0 where that cannot be read.
func (h *history) baseOf(ino sharefs.Ino) uint64 {
	l, _, err := loadLineage(h.t.db, ino)
	if err != nil {
		return 0
	}
	return l.base
}

// NameOf returns a path from the root to an inode, or what is known of it. It reads every directory entry that there is.
func (t *Tree) NameOf(ino sharefs.Ino) string {
	var parts []string
	for at, depth := ino, 0; at != sharefs.RootIno && depth < 4096; depth++ {
		from, to := []byte(nil), []byte(nil)
		if r, err := t.row(at); err == nil && r.isDir() {
			from, to = inoRange(r.parent) // a directory knows where it lies
		}
		var up sharefs.Ino
		var name string
		err := t.db.Scan(spaceDentry, from, to, func(key, value []byte) bool {
			if d, err := decodeDent(key, value); err == nil && d.ino == at {
				up, name = keyIno(key), d.name
			}
			return up == 0
		})
		if err != nil || up == 0 {
			parts = append(parts, "(without a name)")
			break
		}
		parts = append(parts, name)
		at = up
	}
	var b strings.Builder
	for i := len(parts) - 1; i >= 0; i-- {
		b.WriteString("/" + parts[i])
	}
	return b.String()
}
