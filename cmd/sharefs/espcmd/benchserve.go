package espcmd

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sharefs/esp"
)

// The benchmark speaks a line and then bytes, on one stream for each direction that is measured:
//
//	"esp-bench/1 sink\n"               the server reads all, and answers at the end with the count, 8 bytes big-endian
//	"esp-bench/1 source KIND SECS\n"   the server sends for so many seconds; KIND is random or text
//	"esp-bench/1 echo\n"               the server sends back what it reads
const benchHello = "esp-bench/1 "

const (
	benchBlock   = 256 << 10
	maxBenchSecs = 24 * 3600
)

// content returns a block to be sent over and over: random bytes, which do not compress, or text, which does about as
// source code does.
func content(kind string) ([]byte, error) {
	rng := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, 0, benchBlock+64)
	switch kind {
	case "random":
		for len(b) < benchBlock {
			b = binary.LittleEndian.AppendUint64(b, rng.Uint64())
		}
	case "text":
		words := strings.Fields("func return if err != nil range for the of stream offset record encoder byte path := ( ) { } // int string")
		for len(b) < benchBlock {
			b = fmt.Appendf(b, "%s %d ", words[rng.IntN(len(words))], rng.IntN(1000))
		}
	default:
		return nil, usage("--content %s: it must be random or text", kind)
	}
	return b[:benchBlock], nil
}

// serveBench answers benchmarks until the context ends.
func (o *options) serveBench(cmd *cobra.Command, addr string) error {
	return endless(o.serve(cmd, addr, func(c *esp.Conn) (bool, error) {
		go func() {
			defer c.Close()
			what, err := answerBench(c)
			if err != nil {
				o.note(cmd, "%v: %s: %v", c.RemoteAddr(), what, err)
				return
			}
			o.note(cmd, "%v: %s", c.RemoteAddr(), what)
		}()
		return false, nil
	}))
}

// answerBench serves one stream and says what it was.
func answerBench(c *esp.Conn) (what string, err error) {
	r := bufio.NewReaderSize(c, 128)
	hello, err := r.ReadSlice('\n')
	if err != nil {
		return "hello", err
	}
	request, ok := strings.CutPrefix(string(hello[:len(hello)-1]), benchHello)
	if !ok {
		return "hello", errors.New("the peer is no benchmark of this version")
	}
	var kind string
	var secs float64
	switch {
	case request == "sink":
		n, err := discard(c, r)
		if err == nil {
			err = binary.Write(c, binary.BigEndian, n)
		}
		return fmt.Sprintf("received %d bytes", n), err
	case request == "echo":
		n, err := io.Copy(c, r)
		return fmt.Sprintf("echoed %d bytes", n), err
	case sscan(request, "source %s %g", &kind, &secs) && secs > 0 && secs <= maxBenchSecs:
		block, err := content(kind)
		if err != nil {
			return "source", err
		}
		n, err := send(c, block, time.Now().Add(time.Duration(secs*float64(time.Second))), nil)
		return fmt.Sprintf("sent %d bytes", n), err
	}
	return "hello", fmt.Errorf("request %q is not known", request)
}

func sscan(s, format string, args ...any) bool {
	n, err := fmt.Sscanf(s, format, args...)
	return err == nil && n == len(args)
}

// discard reads all of the stream: first what r has read ahead, then from the stream itself, which is faster.
func discard(c *esp.Conn, r *bufio.Reader) (n uint64, err error) {
	k, err := io.CopyN(io.Discard, r, int64(r.Buffered()))
	n = uint64(k)
	buf := make([]byte, benchBlock)
	for err == nil {
		var k int
		k, err = c.Read(buf)
		n += uint64(k)
	}
	if err == io.EOF {
		err = nil
	}
	return n, err
}

// send writes the block over and over until the deadline, and ends the stream. It counts into progress, where that is set.
func send(c *esp.Conn, block []byte, deadline time.Time, progress func(int)) (n uint64, err error) {
	for time.Now().Before(deadline) {
		k, err := c.Write(block)
		n += uint64(k)
		if progress != nil {
			progress(k)
		}
		if err != nil {
			return n, err
		}
	}
	return n, c.CloseWrite()
}

// startLoad keeps a benchmark's sink busy in the background, until the stream is closed.
func startLoad(c *esp.Conn) error {
	if _, err := io.WriteString(c, benchHello+"sink\n"); err != nil {
		return err
	}
	block, err := content("random")
	if err != nil {
		return err
	}
	go send(c, block, time.Now().Add(maxBenchSecs*time.Second), nil)
	return nil
}
