package espcmd

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"sharefs/esp"
)

func newListen(o *options) *cobra.Command {
	var keep bool
	cmd := &cobra.Command{
		Use:   "listen [HOST]:PORT",
		Short: "Wait for a stream and join it with stdin and stdout, as nc -l",
		Long: "listen prints its address to stderr, waits for one stream and then copies stdin to it and what comes from it to\n" +
			"stdout, until both directions have ended. With --keep it takes streams one after the other; then stdin is not read.",
		Args: exactly("[HOST]:PORT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			err := o.serve(cmd, args[0], func(c *esp.Conn) (last bool, err error) {
				o.note(cmd, "stream from %v", c.RemoteAddr())
				if !keep {
					return true, join(c, cmd.InOrStdin(), cmd.OutOrStdout())
				}
				if err := join(c, nil, cmd.OutOrStdout()); err != nil {
					o.note(cmd, "stream from %v: %v", c.RemoteAddr(), err)
				}
				return false, nil
			})
			if keep {
				return endless(err)
			}
			return err
		},
	}
	cmd.Flags().BoolVarP(&keep, "keep", "k", false, "Take streams one after the other")
	return cmd
}

func newDial(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "dial [KEY@]HOST:PORT",
		Short: "Open a stream and join it with stdin and stdout, as nc",
		Long: "dial copies stdin to a stream and what comes from it to stdout, until both directions have ended. Without a key it\n" +
			"talks to whoever answers, and says who that is.",
		Args: exactly("[KEY@]HOST:PORT"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			e, err := o.endpoint(cmd, ":0")
			if err != nil {
				return err
			}
			defer finish(e, &err)
			ctx := cmd.Context()
			c, err := e.Dial(ctx, args[0])
			if err != nil {
				return interrupted(ctx, err)
			}
			defer until(ctx, e)()
			o.note(cmd, "stream to %v", c.RemoteAddr())
			return interrupted(ctx, join(c, cmd.InOrStdin(), cmd.OutOrStdout()))
		},
	}
}

// join copies in to the stream and the stream to out, until both have ended, or the session has. A nil in ends at once.
func join(c *esp.Conn, in io.Reader, out io.Writer) error {
	defer c.Close()
	sent, read := make(chan error, 1), make(chan struct{})
	go func() {
		var err error
		if in != nil {
			_, err = io.Copy(c, in)
		}
		close(read)
		if err == nil {
			err = c.CloseWrite()
		}
		sent <- err
	}()
	if n, err := io.Copy(out, c); err != nil {
		return fmt.Errorf("after %d bytes: %w", n, err)
	}
	select {
	case err := <-sent:
		return err
	case <-c.Session().Done():
	}
	select {
	case <-read: // the peer may well have closed the session because it had all
		return <-sent
	default:
		return c.Session().Err() // nobody takes what may still be read
	}
}
