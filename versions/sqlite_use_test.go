package versions

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
)

// What belongs to an SQLite database that somebody has open for writing is not rewritten, and no version is made of it in vain.
func TestADatabaseInUseIsNotRestored(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{"app.db": sqliteMagic + "pages", "app.db-wal": walMagic + "\x82frames",
		"app.db-journal": journalMagic + "pages before", "app.db-shm": shmMagic + "index", "app.txt": "text"} {
		t.Run(name, func(t *testing.T) {
			tree := testTree(t, t.TempDir(), byHand, func(c *Config) { c.closesWithin = time.Millisecond })
			ino := save(t, tree, name, text)
			capture(t, tree)
			save(t, tree, name, text+" more")
			capture(t, tree)
			h := must[*Handle](t)(tree.Open(ino, unix.O_RDWR, root))
			if used := must[bool](t)(tree.InUse(ino)); used != (name != "app.txt") {
				t.Errorf("in use: %t", used)
			}
			if name == "app.txt" {
				check(t, tree.Restore(Op{}, ino, 1, root))
				check(t, h.Close())
				return
			}
			wantKind(t, tree.Restore(Op{}, ino, 1, root), sharefs.KindBusy)
			wantHistory(t, tree, ino, text, text+" more")
			// Nor where only the version is one.
			must[sharefs.Attr](t)(tree.Setattr(ino, &SetAttr{Size: ptr(uint64(0))}, root))
			wantKind(t, tree.Restore(Op{}, ino, 1, root), sharefs.KindBusy)

			// Who reads it alone is not in the way.
			reader := must[*Handle](t)(tree.Open(ino, unix.O_RDONLY, root))
			check(t, h.Close())
			check(t, tree.Restore(Op{}, ino, 1, root))
			check(t, reader.Close())
			if got := content(t, tree, ino); got != text || must[bool](t)(tree.InUse(ino)) {
				t.Errorf("%q, or in use by nobody", got)
			}
		})
	}
	tree := testTree(t, t.TempDir(), byHand)
	_, err := tree.InUse(4711)
	wantKind(t, err, sharefs.KindStale)
}

// Who is about to close a database is waited for.
func TestARestoreWaitsForWhoClosesADatabase(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand, func(c *Config) { c.closesWithin = time.Hour })
	ino := save(t, tree, "app.db", sqliteMagic+"pages")
	capture(t, tree)
	save(t, tree, "app.db", sqliteMagic+"more pages")
	h := must[*Handle](t)(tree.Open(ino, unix.O_RDWR, root))
	restored := make(chan error)
	go func() { restored <- tree.Restore(Op{}, ino, 1, root) }()
	select {
	case err := <-restored:
		t.Fatalf("restored under a writer: %v", err)
	case <-time.After(50 * time.Millisecond): // the longer, the more is seen
	}
	check(t, h.Close())
	check(t, <-restored)
	if got := content(t, tree, ino); got != sqliteMagic+"pages" {
		t.Errorf("%q", got)
	}
}
