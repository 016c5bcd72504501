package espcmd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"sharefs/esp"
)

// bench is one run of the client.
type bench struct {
	o        *options
	cmd      *cobra.Command
	secs     time.Duration
	interval time.Duration
	streams  int
	reverse  bool
	latency  bool
	size     int
	kind     string

	bytes *atomic.Int64
}

func newBench(o *options) *cobra.Command {
	b := &bench{o: o}
	var serve bool
	cmd := &cobra.Command{
		Use:   "bench [KEY@]HOST:PORT | bench --serve [HOST]:PORT",
		Short: "Measure throughput and latency between two hosts, as iperf3",
		Long: "bench sends as fast as it can to a \"bench --serve\" on the other host, and prints each second what went through and\n" +
			"over which path. --reverse lets the other host send; --latency measures round trips of small messages instead.",
		Args: exactly("[KEY@]HOST:PORT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if serve {
				return o.serveBench(cmd, args[0])
			}
			run := *b // a command may be run twice
			run.cmd, run.bytes = cmd, new(atomic.Int64)
			return run.run(cmd.Context(), args[0])
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&serve, "serve", "s", false, "Answer benchmarks, until interrupted")
	f.DurationVarP(&b.secs, "time", "t", 10*time.Second, "Measure for `TIME`")
	f.DurationVarP(&b.interval, "interval", "i", time.Second, "`TIME` between two lines")
	f.IntVarP(&b.streams, "parallel", "P", 1, "Open `N` streams")
	f.BoolVarP(&b.reverse, "reverse", "R", false, "The other host sends")
	f.BoolVar(&b.latency, "latency", false, "Measure round trips instead of throughput")
	f.IntVar(&b.size, "size", 64, "Messages of `N` bytes for --latency")
	f.StringVar(&b.kind, "content", "random", "`WHAT` is sent: random (does not compress) or text")
	return cmd
}

func (b *bench) run(ctx context.Context, address string) error {
	if b.secs <= 0 || b.interval <= 0 || b.streams < 1 || b.size < 1 {
		return usage("--time, --interval, --parallel and --size must be positive")
	}
	if _, err := content(b.kind); err != nil {
		return err
	}
	e, err := b.o.endpoint(b.cmd, ":0")
	if err != nil {
		return err
	}
	defer e.Close()
	began := time.Now()
	s, err := e.Connect(ctx, address)
	if err != nil {
		return interrupted(ctx, err)
	}
	defer until(ctx, e)()
	fmt.Fprintf(b.cmd.OutOrStdout(), "connected to %v in %s\n", s.RemoteAddr(), rtt(time.Since(began)))
	if b.latency {
		err = b.roundTrips(ctx, s)
	} else {
		err = b.throughput(ctx, s)
	}
	return interrupted(ctx, err)
}

// cpuTime returns what this process has used of the processors.
func cpuTime() time.Duration {
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		return 0
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

// throughput measures bytes per second over all streams.
func (b *bench) throughput(ctx context.Context, s *esp.Session) error {
	conns := make([]*esp.Conn, b.streams)
	for i := range conns {
		c, err := s.Open(ctx)
		if err != nil {
			return err
		}
		defer c.Close()
		conns[i] = c
	}
	cpu, began := cpuTime(), time.Now()
	live := b.live(s, began)
	errs := make([]error, len(conns))
	var wg sync.WaitGroup
	for i, c := range conns {
		wg.Go(func() { errs[i] = b.stream(c, began) })
	}
	wg.Wait()
	live()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	took, total := time.Since(began), b.bytes.Load()
	var wire, raw uint64
	for _, c := range conns {
		st := c.Stats()
		wire, raw = wire+st.Sent, raw+st.Written
	}
	out := b.cmd.OutOrStdout()
	fmt.Fprintf(out, "total %s in %.2f s: %s, %.2f CPU-s for each GB here", sizeOf(total), took.Seconds(), rate(float64(total)/took.Seconds()),
		(cpuTime()-cpu).Seconds()/(float64(max(total, 1))/1e9))
	if !b.reverse && wire > 0 {
		fmt.Fprintf(out, ", %.2f : 1 compressed", float64(raw)/float64(wire))
	}
	st := s.Stats()
	fmt.Fprintf(out, ", %d of %d packets lost, %d migrations\n", st.PacketsLost, st.PacketsSent, st.Migrations)
	return nil
}

// stream runs one stream to its end. What it sends counts when the peer has it.
func (b *bench) stream(c *esp.Conn, began time.Time) error {
	progress := func(n int) { b.bytes.Add(int64(n)) }
	if b.reverse {
		if _, err := fmt.Fprintf(c, benchHello+"source %s %g\n", b.kind, b.secs.Seconds()); err != nil {
			return err
		}
		buf := make([]byte, benchBlock)
		for {
			n, err := c.Read(buf)
			progress(n)
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
		}
	}
	if _, err := io.WriteString(c, benchHello+"sink\n"); err != nil {
		return err
	}
	block, err := content(b.kind)
	if err != nil {
		return err
	}
	n, err := send(c, block, began.Add(b.secs), progress)
	if err != nil {
		return err
	}
	var got uint64
	if err := binary.Read(c, binary.BigEndian, &got); err != nil {
		return err
	}
	if got != n {
		return fmt.Errorf("%d bytes were sent, and %d arrived", n, got)
	}
	return nil
}

// live prints a line for each interval until the function that it returns is called.
func (b *bench) live(s *esp.Session, began time.Time) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(b.interval)
		defer tick.Stop()
		last, at := int64(0), began
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			n, now := b.bytes.Load(), time.Now()
			fmt.Fprintf(b.cmd.OutOrStdout(), "%6.1f s  %12s  %s\n", now.Sub(began).Seconds(), rate(float64(n-last)/now.Sub(at).Seconds()), pathLine(s))
			last, at = n, now
		}
	})
	return func() {
		close(done)
		wg.Wait()
	}
}

// roundTrips measures how long a small message and its echo take.
func (b *bench) roundTrips(ctx context.Context, s *esp.Session) error {
	c, err := s.Open(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := io.WriteString(c, benchHello+"echo\n"); err != nil {
		return err
	}
	msg, back := make([]byte, b.size), make([]byte, b.size)
	var took []time.Duration
	for began := time.Now(); len(took) == 0 || time.Since(began) < b.secs; {
		start := time.Now()
		if _, err := c.Write(msg); err != nil {
			return err
		}
		if _, err := io.ReadFull(c, back); err != nil {
			return err
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	at := func(q float64) string { return rtt(took[int(q*float64(len(took)-1))]) }
	_, err = fmt.Fprintf(b.cmd.OutOrStdout(), "%d round trips of %d bytes: least %s, median %s, 99 %% %s, most %s\n%s\n",
		len(took), b.size, at(0), at(0.5), at(0.99), at(1), pathLine(s))
	return err
}

func sizeOf(n int64) string {
	return fmt.Sprintf("%.2f GB", float64(n)/1e9)
}
