package kv

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"sharefs"
)

// spoil overwrites with zeros all pages of a meta.db but the first two, which say where the others are.
func spoil(t *testing.T, dir string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, "meta.db"), os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	st, err := f.Stat()
	must(t, err)
	page := os.Getpagesize()
	_, err = f.WriteAt(make([]byte, int(st.Size())-2*page), int64(2*page))
	must(t, err)
}

// A page that makes no sense is an error of whoever meets it, and not the end of the process; the store can be closed.
func TestDamagedPageIsAnError(t *testing.T) {
	const n = 3000
	fill := func(t *testing.T, db *DB) {
		for range 2 {
			var b Batch
			for k := range uint64(n) {
				b.Put(spaceA, key8(k), make([]byte, 100))
			}
			_, err := db.Commit(&b)
			must(t, err)
			must(t, db.Boundary(db.clock.Next()))
		}
		must(t, db.Checkpoint())
	}
	for name, act := range map[string]func(t *testing.T, db *DB, spoil func()) error{
		"pruning": func(t *testing.T, db *DB, spoil func()) error {
			p, err := db.Prune(Keep{Since: sharefs.MaxHLC}, false)
			must(t, err)
			spoil()
			return p.all(spaceA, nil)
		},
		"removing": func(_ *testing.T, db *DB, spoil func()) error {
			spoil()
			return db.remove(db.spaces[spaceA].past, [][]byte{[]byte("key")})
		},
		"listing epochs": func(t *testing.T, db *DB, spoil func()) error {
			p, err := db.Prune(Keep{Since: sharefs.MaxHLC}, false)
			must(t, err)
			spoil()
			return p.Epochs(func() error { return nil })
		},
		"marking epochs": func(t *testing.T, db *DB, spoil func()) error {
			p, err := db.Prune(Keep{Since: sharefs.MaxHLC}, false)
			must(t, err)
			spoil()
			return p.markEpochs(db.spaces[spaceA], true, nil, nil, func() error { return nil })
		},
		"beginning an export": func(_ *testing.T, db *DB, spoil func()) error {
			spoil()
			_, err := db.Export()
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			db := open(t, Config{Dir: dir})
			fill(t, db)
			db.readers.pause() // what a transaction has read of the buckets it keeps
			db.readers.resume()
			if err := act(t, db, func() { spoil(t, dir) }); !errors.Is(err, sharefs.KindCorrupt) {
				t.Errorf("%v", err)
			}
		})
	}
	t.Run("building", func(t *testing.T) {
		dir := t.TempDir()
		b, err := NewBuilder(Config{Dir: dir, Spaces: testSpaces})
		must(t, err)
		t.Cleanup(func() { b.Close() })
		b.Begin(Mark{Applied: 1})
		part := Part{Space: spaceB}
		for k := range uint64(n) {
			part.Rows = appendRow(part.Rows, key8(k), make([]byte, 100))
		}
		must(t, b.Part(part))
		must(t, b.end())
		spoil(t, dir)
		err = b.Part(part)
		if err == nil {
			err = b.end()
		}
		if !errors.Is(err, sharefs.KindCorrupt) {
			t.Errorf("%v", err)
		}
		if err := b.Finish(1); !errors.Is(err, sharefs.KindCorrupt) {
			t.Errorf("finish: %v", err)
		}
	})
}
