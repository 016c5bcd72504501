package treediff

import (
	"bytes"
	"crypto/sha256"
	"hash/maphash"
	"sync"

	"golang.org/x/sys/unix"
)

// What is alike is found as git finds it (diffcore-delta.c): content is cut into lines, or pieces of 64 bytes where they are longer, and the
// bytes of those that both files have are counted.
const (
	likeMax   = 1 << 20 // bytes of a file, so that all can be held in memory
	likePairs = 250_000 // comparisons
	likeLeast = 50      // percent
	pieceMax  = 64
)

// print is how many bytes of a file lie in pieces of each hash.
type print map[uint64]int64

var seed = maphash.MakeSeed()

func printOf(text []byte) print {
	p := print{}
	for len(text) > 0 {
		n := min(len(text), pieceMax)
		if i := bytes.IndexByte(text[:n], '\n'); i >= 0 {
			n = i + 1
		}
		p[maphash.Bytes(seed, text[:n])] += int64(n)
		text = text[n:]
	}
	return p
}

// likeness is how much of the larger file is in both, in percent.
func likeness(a, b print, sizeA, sizeB int64) int {
	if len(a) > len(b) {
		a, b = b, a
	}
	var same int64
	for k, n := range a {
		same += min(n, b[k])
	}
	return int(same * 100 / max(sizeA, sizeB, 1))
}

// each reads wanted files of what stands in one tree alone, several at once, and calls fn for each with its content as reader; fn is called
// under a lock with what take made of it.
func each[T any](c *comparison, want func(*Entry) bool, take func(*tree, *Entry) (T, bool)) map[*Entry]T {
	out := map[*Entry]T{}
	var mu sync.Mutex
	c.parallel(func() {
		for _, side := range []struct {
			t   *tree
			all []*Entry
		}{{c.old, c.onlyOld}, {c.new, c.onlyNew}} {
			for _, e := range side.all {
				if !want(e) {
					continue
				}
				c.pool.add(func() {
					if v, ok := take(side.t, e); ok {
						mu.Lock()
						out[e] = v
						mu.Unlock()
					}
				})
			}
		}
	})
	return out
}

// sums hashes the content of wanted files.
func (c *comparison) sums(want func(*Entry) bool) map[*Entry]string {
	return each(c, want, func(t *tree, e *Entry) (string, bool) {
		h := sha256.New()
		ok := c.readAll(t, e, func(b []byte) { h.Write(b) })
		return string(h.Sum(nil)), ok
	})
}

// prints makes the prints of wanted files.
func (c *comparison) prints(want func(*Entry) bool) map[*Entry]print {
	return each(c, want, func(t *tree, e *Entry) (print, bool) { return c.print(t, e), true })
}

func (c *comparison) print(t *tree, e *Entry) print {
	var text []byte
	c.readAll(t, e, func(b []byte) {
		if len(text) <= likeMax {
			text = append(text, b...)
		}
	})
	return printOf(text)
}

// readAll hands over the content of a file piece by piece.
func (c *comparison) readAll(t *tree, e *Entry, fn func([]byte)) bool {
	fd, err := Open(t.fd, e.Path, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		c.problem(t, e.Path, err)
		return false
	}
	defer unix.Close(fd)
	buf := make([]byte, min(block, e.Size+1))
	for off := int64(0); c.ctx.Err() == nil; {
		n, err := readAt(fd, buf, off)
		if err != nil {
			c.problem(t, e.Path, err)
			return false
		}
		c.read.Add(uint64(n))
		fn(buf[:n])
		off += int64(n)
		if n < len(buf) {
			return true
		}
	}
	return false
}
