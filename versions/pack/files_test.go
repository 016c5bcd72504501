package pack

import (
	"bytes"
	"errors"
	"sync"
	"syscall"
	"testing"

	"sharefs/versions/pack/memdisk"
)

// A store may be closed while readers are at work: they get what they ask for, or are told that it is closed.
func TestCloseUnderReaders(t *testing.T) {
	for range 20 {
		s := open(t, memdisk.New(), 1<<20)
		plain := bytes.Repeat([]byte("compresses well "), 4000)
		loc, err := s.Append(TypeChunk, idOf(1), plain)
		if err != nil {
			t.Fatal(err)
		}
		var readers sync.WaitGroup
		begun := make(chan bool, 4)
		for range cap(begun) {
			readers.Go(func() {
				for n := 0; ; n++ {
					got, err := s.Read(loc, idOf(1), nil)
					if n == 0 {
						begun <- true
					}
					if errors.Is(err, errClosed) {
						return
					}
					if err != nil || !bytes.Equal(got, plain) {
						t.Errorf("%d bytes, %v", len(got), err)
						return
					}
				}
			})
		}
		<-begun
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		readers.Wait()
	}
}

// The writer's handle takes the place of a reader's, which cannot write, however late that one came.
func TestWriterReplacesAReader(t *testing.T) {
	disk := memdisk.New()
	s := open(t, disk, 1<<20)
	loc, err := s.Append(TypeChunk, idOf(1), body(1))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, disk, 1<<20)
	mustRead(t, s, loc, 1)
	reader, err := s.pin(loc.Pack)
	if err != nil {
		t.Fatal(err)
	}
	f, err := disk.Open(loc.Pack.growing(), true)
	if err != nil {
		t.Fatal(err)
	}
	writer := s.replace(&handle{id: loc.Pack, file: f, aead: reader.aead})
	if writer == reader || s.files[loc.Pack] != writer || len(s.ring) != 1 {
		t.Errorf("%d handles", len(s.ring))
	}
	reader.unpin(s)
	writer.unpin(s)
	mustRead(t, s, loc, 1)
}

// A growing pack whose disk fails does not keep others from taking what is new.
func TestAFailingPackIsLeftAlone(t *testing.T) {
	first := memdisk.New()
	s := open(t, first, 1<<20)
	loc, err := s.Append(TypeChunk, idOf(1), body(1))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	torn := append(bytes.Clone(first.Data(loc.Pack.growing())), "torn"...)
	for op := range 2 { // cutting it, syncing it
		disk := memdisk.New()
		disk.Put(loc.Pack.growing(), torn)
		disk.Fail(1+op, syscall.EIO)
		s := open(t, disk, 1<<20)
		fresh, err := s.Append(TypeChunk, idOf(2), body(2))
		if err != nil || fresh.Pack == loc.Pack {
			t.Fatalf("operation %d fails: %v, %v", op, fresh, err)
		}
		if err := s.Sync(); err != nil {
			t.Fatal(err)
		}
		mustRead(t, s, loc, 1)
		mustRead(t, s, fresh, 2)
	}
}
