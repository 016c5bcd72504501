// Package espcmd is the command tree "esp" of the user's tool: it shows the Encoded Stream Protocol at work by hand.
//
//	sharefs esp key FILE                 make an identity, or show whose it is
//	sharefs esp listen [HOST]:PORT       a pipe over ESP, as nc -l
//	sharefs esp dial KEY@HOST:PORT       the other end of the pipe
//	sharefs esp bench --serve :PORT      throughput and latency between two hosts, as iperf3
//	sharefs esp bench KEY@HOST:PORT
//	sharefs esp trace KEY@HOST:PORT      the paths to a peer, what they measure, and why one was chosen
package espcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"sharefs/esp"
	"sharefs/internal/term"
)

// New returns the command "esp" with all its subcommands. It reads and writes the streams of the command it is added to.
func New() *cobra.Command {
	o := &options{errMu: new(sync.Mutex)}
	cmd := &cobra.Command{
		Use:   "esp",
		Short: "Talk over the Encoded Stream Protocol: a pipe, a benchmark, a look at the paths",
		Long: "ESP is the transport between hosts: authenticated by keys, encrypted, compressed, over UDP or TCP and over\n" +
			"several paths. These commands use it by hand. A peer is named KEY@HOST:PORT, as \"listen\" prints it.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage("esp %s is not a command", term.Quote(args[0]))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	f := cmd.PersistentFlags()
	f.StringVar(&o.keyFile, "key", "", "`FILE` with the identity of this end (made if missing); none: a new one for this run")
	f.StringSliceVar(&o.peers, "peer", nil, "`KEY` of a peer that is let in (may be repeated); none: all are")
	f.StringVar(&o.carriage, "carriage", "auto", "`HOW` packets travel: udp, tcp, or auto (UDP where it gets through, else TCP)")
	f.StringVar(&o.congestion, "congestion", "bbr", "Congestion control by `NAME`: bbr or cubic")
	f.StringVar(&o.scheduler, "scheduler", "single", "`HOW` several paths are used: single, aggregate or redundant")
	f.IntVar(&o.mtu, "mtu", 0, "Send UDP payloads of `N` bytes; 0: as many as get through")
	f.BoolVar(&o.noCompress, "no-compress", false, "Send all bytes as they are")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "Tell on stderr what happens to sessions and paths")
	for _, c := range []*cobra.Command{newKey(), newListen(o), newDial(o), newBench(o), newTrace(o)} {
		c.RunE = interruptible(c.RunE)
		cmd.AddCommand(c)
	}
	return cmd
}

// interruptible lets an interrupt end the context of a command, so that it can take leave of its peer.
func interruptible(run func(*cobra.Command, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		cmd.SetContext(ctx)
		return run(cmd, args)
	}
}

// UsageError is a command that was wrongly called.
type UsageError struct{ error }

// Unwrap returns the cause.
func (e UsageError) Unwrap() error { return e.error }

func usage(format string, args ...any) error { return UsageError{fmt.Errorf(format, args...)} }

// exactly demands one argument, which messages call by its name in the usage line.
func exactly(name string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
			return usage("%s is missing", name)
		case len(args) > 1:
			return usage("too many arguments: %s", term.Quote(args[1]))
		}
		return nil
	}
}

// options are the flags that all subcommands share.
type options struct {
	keyFile    string
	peers      []string
	carriage   string
	congestion string
	scheduler  string
	mtu        int
	noCompress bool
	verbose    bool

	errMu *sync.Mutex // of what is written to stderr by several goroutines
}

// config makes the configuration of an endpoint that listens on addr.
func (o *options) config(cmd *cobra.Command, addr string) (esp.Config, error) {
	cfg := esp.Config{Addrs: []string{addr}, Congestion: o.congestion, MTU: o.mtu, Pairing: true}
	if o.keyFile != "" {
		k, _, err := loadKey(o.keyFile)
		if err != nil {
			return cfg, err
		}
		cfg.Key = k
	}
	allowed := map[esp.PublicKey]bool{}
	for _, s := range o.peers {
		k, err := esp.ParsePublicKey(s)
		if err != nil {
			return cfg, usage("--peer %s: %w", s, err)
		}
		allowed[k] = true
	}
	cfg.Authorize = func(peer esp.PublicKey) error {
		if len(allowed) > 0 && !allowed[peer] {
			return fmt.Errorf("%v is not let in here", peer)
		}
		return nil
	}
	switch o.carriage {
	case "auto":
	case "udp":
		cfg.DisableTCP = true
	case "tcp":
		cfg.DisableUDP = true
	default:
		return cfg, usage("--carriage %s: it must be udp, tcp or auto", o.carriage)
	}
	switch o.scheduler {
	case "single":
	case "aggregate":
		cfg.Scheduler = esp.Aggregate
	case "redundant":
		cfg.Scheduler = esp.Redundant
	default:
		return cfg, usage("--scheduler %s: it must be single, aggregate or redundant", o.scheduler)
	}
	if o.noCompress {
		cfg.Compression = esp.CompressOff
	}
	if o.verbose {
		cfg.Trace = func(ev esp.Event) { o.note(cmd, "%s", formatEvent(ev)) }
	}
	return cfg, nil
}

// note writes a line to stderr. Parts of it may be a peer's words.
func (o *options) note(cmd *cobra.Command, format string, args ...any) {
	line := term.Clean(fmt.Sprintf(format, args...))
	o.errMu.Lock()
	defer o.errMu.Unlock()
	fmt.Fprintln(cmd.ErrOrStderr(), line)
}

// endpoint makes an endpoint that ends with the context.
func (o *options) endpoint(cmd *cobra.Command, addr string) (*esp.Endpoint, error) {
	cfg, err := o.config(cmd, addr)
	if err != nil {
		return nil, err
	}
	return esp.New(cfg)
}

// serve listens on addr, says so, and hands each stream that comes to take, until that reports that it was the last or the context ends.
func (o *options) serve(cmd *cobra.Command, addr string, take func(*esp.Conn) (last bool, err error)) (err error) {
	e, err := o.endpoint(cmd, addr)
	if err != nil {
		return err
	}
	defer finish(e, &err)
	ln, err := e.Listen()
	if err != nil {
		return err
	}
	o.note(cmd, "listening on %v", ln.Addr())
	ctx := cmd.Context()
	defer until(ctx, e)()
	for {
		c, err := ln.AcceptStream()
		if err != nil {
			return interrupted(ctx, err)
		}
		if last, err := take(c); last {
			return interrupted(ctx, err)
		}
	}
}

// finish closes an endpoint at the end of a command, which fails if what it sent did not arrive.
func finish(e *esp.Endpoint, err *error) {
	if cerr := e.Close(); *err == nil && !errors.Is(cerr, net.ErrClosed) {
		*err = cerr
	}
}

// until closes c when the context ends; stop ends the watch, and must be called.
func until(ctx context.Context, c io.Closer) (stop func() bool) {
	return context.AfterFunc(ctx, func() { c.Close() })
}

// errInterrupted is how a command ends that was interrupted before its work was done.
var errInterrupted = errors.New("interrupted")

// interrupted says that the context, not a failure, was the end of err.
func interrupted(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return errInterrupted
	}
	return err
}

// endless is interrupted for what only an interrupt can end.
func endless(err error) error {
	if errors.Is(err, errInterrupted) {
		return nil
	}
	return err
}

// loadKey reads an identity from a file, or makes the file with a new one; made tells which.
func loadKey(file string) (k esp.PrivateKey, made bool, err error) {
	b, err := os.ReadFile(file)
	if err == nil {
		if k, err = esp.ParsePrivateKey(string(b)); err != nil {
			err = fmt.Errorf("%s: %w", file, err)
		}
		return k, false, err
	}
	if !errors.Is(err, os.ErrNotExist) {
		return k, false, err
	}
	if k, err = esp.GenerateKey(); err != nil {
		return k, false, err
	}
	text, err := k.MarshalText()
	if err != nil {
		return k, false, err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return k, false, err
	}
	_, err = f.Write(append(text, '\n'))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		os.Remove(file)
	}
	return k, true, err
}

func newKey() *cobra.Command {
	return &cobra.Command{
		Use:   "key FILE",
		Short: "Make an identity, or show whose it is",
		Long: "key prints the public key of the identity in FILE, by which peers know this host. If there is no such file, it\n" +
			"makes one that only its owner can read. Existing files are never changed.",
		Args: exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			k, made, err := loadKey(args[0])
			if err != nil {
				return err
			}
			if made {
				fmt.Fprintf(cmd.ErrOrStderr(), "made a new identity in %s\n", term.Quote(args[0]))
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), k.Public())
			return err
		},
	}
}
