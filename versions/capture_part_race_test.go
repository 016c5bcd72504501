package versions

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
)

// Of a table each block is filled with a number, and the first block lists the numbers of all.
const (
	tableBlocks = 96
	tableBlock  = 4096
)

// fillBlock makes the block for a number; each number has another one, so that none is found elsewhere.
func fillBlock(n uint64) []byte {
	b := make([]byte, tableBlock)
	rand.NewChaCha8([32]byte(binary.LittleEndian.AppendUint64(make([]byte, 24), n))).Read(b)
	return b
}

// checkTable reports what is wrong with a table.
func checkTable(b []byte) error {
	if len(b) != tableBlocks*tableBlock {
		return fmt.Errorf("%d bytes", len(b))
	}
	for i := 1; i < tableBlocks; i++ {
		n := binary.LittleEndian.Uint64(b[8*i:])
		if string(b[i*tableBlock:(i+1)*tableBlock]) != string(fillBlock(n)) {
			return fmt.Errorf("block %d is not that of %d", i, n)
		}
	}
	return nil
}

// TestManyHandsOnLargeFiles: files are changed in few places again and again while they settle, are captured in part and collected behind; whatever a version
// holds is something that was closed.
func TestManyHandsOnLargeFiles(t *testing.T) {
	for _, way := range []string{"names", "ranges", "extents"} {
		t.Run(way, func(t *testing.T) {
			store := t.TempDir()
			if way == "extents" {
				store = filepath.Join(reflinkDisk(t, "xfs"), "store")
				check(t, os.Mkdir(store, 0o700))
			}
			tree := testTree(t, store, inParts, func(c *Config) { c.Settle = time.Millisecond })
			if way == "ranges" {
				tree.SetServed()
			}
			const hands, saves = 3, 40
			var wg sync.WaitGroup
			for hand := range hands {
				wg.Go(func() {
					if err := saveTables(tree, fmt.Sprint("table ", hand), saves, rand.New(rand.NewPCG(uint64(hand), 71))); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Go(func() {
				for range 5 {
					if _, err := tree.GC(t.Context(), GCOptions{Hurry: true}, nil); err != nil {
						t.Error(err)
					}
				}
			})
			wg.Wait()
			eventually(t, "all is captured", func() bool {
				s := tree.track.Stats()
				return tree.HistoryStats().Queue == 0 && s.Settling == 0
			})
			for hand := range hands {
				ino := lookup(t, tree, sharefs.RootIno, fmt.Sprint("table ", hand)).Ino
				for _, v := range must[[]sharefs.Version](t)(tree.Versions(ino)) {
					if err := checkTable([]byte(readVersion(t, tree, ino, v.Number))); err != nil {
						t.Errorf("version %d of table %d: %v", v.Number, hand, err)
					}
				}
			}
			s := tree.HistoryStats()
			if s.Lost+s.TooLarge > 0 || s.ReusedBytes == 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// saveTables makes a table and changes a few of its blocks, again and again.
func saveTables(tree *Tree, name string, saves int, r *rand.Rand) error {
	a, h, err := tree.Create(sharefs.RootIno, name, unix.O_RDWR, 0o644, root)
	if err != nil {
		return err
	}
	defer tree.Forget(a.Ino, 1)
	list := make([]byte, tableBlock)
	for i := range saves {
		if i > 0 {
			if h, err = tree.Open(a.Ino, unix.O_RDWR, root); err != nil {
				return err
			}
		}
		for b := 1; b < tableBlocks; b++ {
			if i > 0 && r.IntN(30) > 0 {
				continue
			}
			n := r.Uint64()
			binary.LittleEndian.PutUint64(list[8*b:], n)
			if _, err := h.WriteAt(fillBlock(n), int64(b)*tableBlock); err != nil {
				return err
			}
		}
		if _, err := h.WriteAt(list, 0); err != nil {
			return err
		}
		if err := h.Close(); err != nil {
			return err
		}
		if _, _, err := tree.Commit(a.Ino, ""); err != nil {
			return err
		}
	}
	return nil
}
