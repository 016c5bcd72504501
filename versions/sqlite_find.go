package versions

import (
	"bytes"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
)

// First bytes of files.
const (
	sqliteMagic  = "SQLite format 3\x00"
	walMagic     = "\x37\x7f\x06" // and 0x82 or 0x83
	journalMagic = "\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"
)

// What makes the name of a write-ahead log and of a rollback journal out of that of their database.
const (
	walSuffix     = "-wal"
	journalSuffix = "-journal"
)

// database is an SQLite database that is to be taken.
type database struct {
	file, log sharefs.Ino
	path      string // below the root; empty where the file has none, or several
}

// beginning returns the first bytes of a live file, as many as tell what it is.
func (h *history) beginning(ino sharefs.Ino) []byte {
	fd, err := h.t.live.openProbe(ino)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	b := make([]byte, len(sqliteMagic))
	n, err := ignoringEINTR(func() (int, error) { return unix.Pread(fd, b, 0) })
	if err != nil {
		return nil
	}
	return b[:n]
}

// databaseOf returns the database that a file, or the log that it is, belongs to; nil: it is none.
func (h *history) databaseOf(ino sharefs.Ino) *database {
	b := h.beginning(ino)
	switch {
	case string(b) == sqliteMagic:
		d := &database{file: ino}
		if parent, name, ok := h.nameNow(ino); ok {
			d.log = h.logOf(parent, name)
			d.path = h.pathNow(parent, name)
		}
		return d
	case bytes.HasPrefix(b, []byte(walMagic)):
		parent, name, ok := h.nameNow(ino)
		base, isLog := strings.CutSuffix(name, walSuffix)
		if !ok || !isLog {
			return nil
		}
		file := h.sibling(parent, base)
		if file == 0 || string(h.beginning(file)) != sqliteMagic {
			return nil
		}
		d := &database{file: file, log: ino}
		if _, _, ok := h.nameNow(file); ok {
			d.path = h.pathNow(parent, base)
		}
		return d
	}
	return nil
}

// isJournal reports whether a file is the rollback journal of a transaction that is under way.
func (h *history) isJournal(ino sharefs.Ino) bool {
	return bytes.HasPrefix(h.beginning(ino), []byte(journalMagic))
}

// openDatabases lists databases that somebody can write to, up to maxOpen of them, and finds where they are.
func (h *history) openDatabases() (inos []sharefs.Ino) {
	var open []sharefs.Ino
	h.t.files.each(func(f *file) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.hot && f.writers > 0 {
			open = append(open, f.ino)
		}
	})
	for _, ino := range open {
		if len(inos) < maxOpen && string(h.beginning(ino)) == sqliteMagic {
			inos = append(inos, ino)
		}
	}
	h.findHomes(inos)
	return inos
}

// inTransaction reports whether a file is the journal or the log of a database that somebody has open, closed to be removed in a moment: what it holds does not
// fit any state of the database that has been taken, and with SQLite it would be applied to one.
func (h *history) inTransaction(ino sharefs.Ino) bool {
	suffix := walSuffix
	switch b := h.beginning(ino); {
	case bytes.HasPrefix(b, []byte(journalMagic)):
		suffix = journalSuffix
	case !bytes.HasPrefix(b, []byte(walMagic)):
		return false
	}
	for _, db := range h.openDatabases() {
		if at, ok := h.homeOf(db); ok && h.sibling(at.parent, at.name+suffix) == ino {
			return true
		}
	}
	return false
}

// logOf returns the write-ahead log of a database, 0 for none. A file with several names is somebody else's, maybe.
func (h *history) logOf(parent sharefs.Ino, name string) sharefs.Ino {
	ino := h.sibling(parent, name+walSuffix)
	if r, err := h.t.row(ino); err != nil || r.nlink != 1 || !bytes.HasPrefix(h.beginning(ino), []byte(walMagic)) {
		return 0
	}
	return ino
}

// sibling returns the regular file of a name in a directory, 0 for none.
func (h *history) sibling(parent sharefs.Ino, name string) sharefs.Ino {
	p, err := h.t.findDent(h.t.db, parent, name)
	if err != nil || !p.found() {
		return 0
	}
	if r, err := h.t.row(p.ino); err != nil || !r.isRegular() {
		return 0
	}
	return p.ino
}

// pathNow returns the path of a name below the root, empty where it cannot be told.
func (h *history) pathNow(parent sharefs.Ino, name string) string {
	f := &pathFinder{t: h.t, rows: h.t.db, known: map[sharefs.Ino]string{sharefs.RootIno: ""}}
	dir, err := f.dir(parent)
	if err != nil {
		return ""
	}
	return join(dir, name)
}

// maxHomes bounds how many databases and logs are remembered, and maxOpen how many open ones are looked for at once.
const (
	maxHomes = 1024
	maxOpen  = maxHomes / 2
)

// home is what is remembered of a database or of a log.
type home struct {
	parent sharefs.Ino // where it was found last
	name   string
	held   time.Time // of a database: when it began to be held for its newest version; zero: it was not
	rests  time.Time // until when snapshots let it alone
}

// nameNow returns the name of a file and the directory that it is in. It reports false where it has none, or several.
func (h *history) nameNow(ino sharefs.Ino) (parent sharefs.Ino, name string, ok bool) {
	h.findHomes([]sharefs.Ino{ino})
	at, ok := h.homeOf(ino)
	return at.parent, at.name, ok
}

// homeOf returns what is remembered of a file, if that is true still.
func (h *history) homeOf(ino sharefs.Ino) (home, bool) {
	h.mu.Lock()
	at, ok := h.homes[ino]
	h.mu.Unlock()
	if !ok {
		return home{}, false
	}
	r, err := h.t.row(ino)
	if err != nil || r.nlink != 1 {
		return home{}, false
	}
	p, err := h.t.findDent(h.t.db, at.parent, at.name)
	return at, err == nil && p.ino == ino
}

// remember changes what is remembered of a file that has a home.
func (h *history) remember(ino sharefs.Ino, change func(*home)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if at, ok := h.homes[ino]; ok {
		change(&at)
		h.homes[ino] = at
	}
}

// findHomes finds the names of up to maxHomes files. For those that are not where they were last it reads every directory entry that there is, once.
func (h *history) findHomes(inos []sharefs.Ino) {
	want := map[sharefs.Ino]bool{}
	for _, ino := range inos {
		if _, ok := h.homeOf(ino); ok {
			continue
		}
		if r, err := h.t.row(ino); err == nil && r.nlink == 1 {
			want[ino] = true
		}
	}
	if len(want) == 0 {
		return
	}
	found := map[sharefs.Ino]home{}
	err := h.t.db.Scan(spaceDentry, nil, nil, func(key, value []byte) bool {
		if d, err := decodeDent(key, value); err == nil && want[d.ino] {
			found[d.ino] = home{parent: keyIno(key), name: d.name}
		}
		return len(found) < len(want) && !h.t.closed.Load()
	})
	if err != nil {
		h.t.log.Warn("the names of databases cannot be looked for", "err", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.homes == nil || len(h.homes)+len(found) > maxHomes {
		h.homes = map[sharefs.Ino]home{}
	}
	for ino, at := range found {
		was := h.homes[ino]
		at.held, at.rests = was.held, was.rests
		h.homes[ino] = at
	}
}
