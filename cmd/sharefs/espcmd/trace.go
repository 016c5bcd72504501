package espcmd

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sharefs/esp"
)

func newTrace(o *options) *cobra.Command {
	var (
		interval time.Duration
		count    int
		load     bool
	)
	cmd := &cobra.Command{
		Use:   "trace [KEY@]HOST:PORT",
		Short: "Show the paths to a peer, what they measure, and why one was chosen",
		Long: "trace keeps a session with a peer and prints its table of paths: each pair of addresses that was tried, with its\n" +
			"round-trip time, loss, bandwidth and score (the time that 64 KiB would take), and why it is in use or not. Any ESP\n" +
			"listener will do. Bandwidth is known only of paths that carry data: --load sends some, to a \"bench --serve\".",
		Args: exactly("[KEY@]HOST:PORT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if interval <= 0 || count < 0 {
				return usage("--interval must be positive, and --count not negative")
			}
			o := *o
			o.verbose = true
			e, err := o.endpoint(cmd, ":0")
			if err != nil {
				return err
			}
			defer e.Close()
			ctx := cmd.Context()
			s, err := e.Connect(ctx, args[0])
			if err != nil {
				return interrupted(ctx, err)
			}
			if load {
				c, err := s.Open(ctx)
				if err != nil {
					return interrupted(ctx, err)
				}
				defer c.Close()
				if err := startLoad(c); err != nil {
					return err
				}
			}
			tick := time.NewTicker(interval)
			defer tick.Stop()
			for n := 1; ; n++ {
				select {
				case <-ctx.Done():
					return nil
				case <-s.Done():
					return s.Err()
				case <-tick.C:
				}
				if err := printPaths(cmd.OutOrStdout(), s); err != nil {
					return err
				}
				if n == count {
					return nil
				}
			}
		},
	}
	f := cmd.Flags()
	f.DurationVarP(&interval, "interval", "i", 2*time.Second, "`TIME` between two tables")
	f.IntVarP(&count, "count", "n", 0, "Stop after `N` tables; 0: when interrupted")
	f.BoolVar(&load, "load", false, "Send data meanwhile, to a \"bench --serve\", so that bandwidth is measured")
	return cmd
}

// printPaths writes the table of paths of a session. The active path has a star, the one that the peer sends on an arrow.
func printPaths(out io.Writer, s *esp.Session) error {
	st := s.Stats()
	fmt.Fprintf(out, "session with %v: %.1f s, %d paths, %d migrations, %s\n", s.PeerKey().Short(), st.Age.Seconds(), len(s.Paths()), st.Migrations, st.Suite)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\tPATH\tVIA\tLOCAL\tREMOTE\tSTATE\tRTT\tLOSS\tBANDWIDTH\tMTU\tSCORE\tHEARD\tWHY")
	for _, p := range s.Paths() {
		mark := ""
		if p.Active {
			mark += "*"
		}
		if p.PeerActive {
			mark += "<"
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%v\t%v\t%s\t%s\t%.1f %%\t%s\t%d\t%s\t%s ago\t%s\n", mark, p.ID, p.Kind, p.Local, p.Remote, p.State,
			rtt(p.RTT), p.Loss*100, rate(p.Bandwidth), p.MTU, score(p.Score), p.LastHeard.Round(time.Millisecond), p.Why)
	}
	return w.Flush()
}

// score writes the score of a path; what cannot be used has none.
func score(d time.Duration) string {
	if d <= 0 || d > time.Hour {
		return "-"
	}
	return rtt(d)
}
