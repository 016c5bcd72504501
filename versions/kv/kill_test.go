package kv

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"sharefs"
)

// childDir names the store of a child process that commits until it is killed.
const childDir = "SHAREFS_TEST_KV_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		fmt.Fprintln(os.Stderr, child(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// child commits numbered batches and says the number of each when it is acknowledged. It returns why it cannot go on.
func child(dir string) error {
	db, err := Open(Config{Dir: dir, Spaces: testSpaces, MemtableSize: 64 << 10})
	if err != nil {
		return err
	}
	n := db.Stats().Seq
	for {
		n++
		var b Batch
		fillNumbered(&b, n)
		seq, err := db.Commit(&b)
		if err != nil {
			return err
		}
		if n%50 == 0 { // boundaries have numbers too
			n++
			if err := db.Boundary(db.clock.Next()); err != nil {
				return err
			}
			seq++
		}
		if seq != n {
			return fmt.Errorf("commit %d has number %d", n, seq)
		}
		fmt.Println(n)
	}
}

func fillNumbered(b *Batch, n uint64) {
	number := key8(n)
	b.Put(spaceA, number, []byte(strconv.FormatUint(n, 10)))
	b.Put(spaceA, []byte("last"), number)
	b.Put(spaceB, []byte("last"), number)
	b.Put(spaceB, number, make([]byte, n%300))
	b.Delete(spaceB, key8(n/2))
	b.Put(spaceC, key8(n%7), number)
}

// A process is killed in the midst of its commits, again and again: all that it said are there.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	for round := range 4 {
		acked := killedChild(t, dir, 300+200*round)
		db := open(t, Config{Dir: dir, MemtableSize: 64 << 10})
		last := db.Stats().Seq
		if last < acked {
			t.Fatalf("commits up to %d are there, %d were acknowledged", last, acked)
		}
		for _, space := range []uint8{spaceA, spaceB} {
			v, ok, err := db.Get(space, []byte("last"))
			must(t, err)
			if n := number(v); !ok || n != last && n+1 != last { // the last one may be a boundary
				t.Fatalf("space %d is at commit %d, the database at %d", space, n, last)
			}
		}
		rows := uint64(0)
		must(t, db.Scan(spaceA, nil, nil, func(k, v []byte) bool {
			if len(k) == 8 {
				rows++
				if strconv.FormatUint(binary.BigEndian.Uint64(k), 10) != string(v) {
					t.Errorf("row %x is %q", k, v)
				}
			}
			return true
		}))
		boundaries := uint64(0)
		must(t, db.Boundaries(0, sharefs.MaxHLC, func(Epoch) bool { boundaries++; return true }))
		if rows+boundaries != last {
			t.Fatalf("%d rows and %d boundaries of %d commits", rows, boundaries, last)
		}
		must(t, db.Close())
	}
}

// killedChild runs a child on a store, kills it when it has said so many commits, and returns the last one it said.
func killedChild(t *testing.T, dir string, commits int) (acked uint64) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	watchdog := time.AfterFunc(2*time.Minute, func() { cmd.Process.Kill() })
	defer watchdog.Stop()
	lines := bufio.NewScanner(out)
	for n := 0; lines.Scan(); n++ {
		seq, err := strconv.ParseUint(lines.Text(), 10, 64)
		if err != nil {
			t.Errorf("the child said %q", lines.Text())
		}
		acked = seq
		if n == commits {
			cmd.Process.Kill() // what it said until it died counts as well
		}
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the child ended by itself")
	}
	if acked < uint64(commits) {
		t.Errorf("the child got to %d of %d commits", acked, commits)
	}
	return acked
}
