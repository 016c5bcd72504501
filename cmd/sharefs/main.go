// Command sharefs shows the history of files in a ShareFS mount and brings earlier versions back. It talks to the mount through the
// mount's own files (package client), so it can do what its user may do there.
//
// Exit status: 0 done, 1 failed, 2 wrongly called; diff: 0 equal, 1 different, 2 trouble.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"sharefs/cmd/sharefs/espcmd"
	"sharefs/internal/client"
	"sharefs/internal/doctor"
	"sharefs/internal/mountpoint"
	"sharefs/internal/term"
)

func main() {
	mountpoint.ServeProbe()
	doctor.Serve()
	os.Exit(run(os.Args[1:]))
}

// Exit statuses.
const (
	exitDone = iota
	exitFailed
	exitUsage
	exitPart // a part could not be looked at
)

// app is what the commands share.
type app struct {
	out      io.Writer
	terminal bool // out is one
	paint    term.Painter
	json     bool
	dir      string // -C
	exit     int    // of a command that did its work and has something to tell by it (diff, doctor)
}

// usageError is a command that was wrongly called.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usage(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

func run(args []string) int {
	a := &app{out: os.Stdout, terminal: term.IsTerminal(os.Stdout), paint: term.NewPainter(os.Stdout)}
	root := a.command(args)
	root.SetArgs(args)
	cmd, err := root.ExecuteC()
	switch {
	case err == nil:
		return a.exit
	case errors.Is(err, unix.EPIPE):
		return exitDone // the reader has seen enough
	}
	fmt.Fprintln(os.Stderr, "sharefs: "+message(err))
	if errors.As(err, new(usageError)) || errors.As(err, new(espcmd.UsageError)) {
		fmt.Fprintf(os.Stderr, "Try '%s --help'.\n", cmd.CommandPath())
		return exitUsage
	}
	if cmd.Name() == "diff" {
		return exitUsage // 1 says that there are differences
	}
	return exitFailed
}

// message is one clean line.
func message(err error) string { return term.Clean(strings.TrimSpace(err.Error())) }

func (a *app) command(args []string) *cobra.Command {
	root := &cobra.Command{
		Use:   "sharefs",
		Short: "Show the history of files in a ShareFS mount and bring earlier versions back",
		Long: `Show the history of files in a ShareFS mount and bring earlier versions back.

FILE@@N is version N of FILE, FILE@@TIME what it held at that time (-2h,
yesterday, 2026-11-20, 2026-11-20T10:00). They are files: every program can
read them, and ls FILE@@/ lists them.`,
		Example: `  sharefs log report.txt            Versions of report.txt, newest first
  sharefs diff report.txt@@3        What changed from version 3 until now
  sharefs restore report.txt@@3     Bring version 3 back
  sharefs -C ~/Share status         How the mount at ~/Share is`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          commands,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(cmd *cobra.Command, args []string) error {
			if cmd.HasParent() && cmd.Parent().Name() == "esp" {
				if a.json {
					return usage("--json: the commands of esp write text only")
				}
				if err := checkAddress(cmd, args); err != nil {
					return err
				}
			}
			if a.dir == "" {
				return nil
			}
			if err := os.Chdir(a.dir); err != nil {
				return client.PathError("-C", a.dir, err)
			}
			return nil
		},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		var invalid *pflag.InvalidValueError
		if errors.As(err, &invalid) {
			why := errors.Unwrap(err).Error()
			switch invalid.GetFlag().Value.Type() { // those of the library speak of the language that it is written in
			case "duration":
				why = "takes a length of time such as 500ms, 2s or 1m30s, not " + term.Quote(invalid.GetValue())
			case "int", "uint64":
				why = "takes a number, not " + term.Quote(invalid.GetValue())
			}
			return usage("--%s %s", invalid.GetFlag().Name, why)
		}
		if name := a.dashed(args); name != "" {
			return usage("%w; the file of that name is meant by ./%s", err, name)
		}
		return usageError{err}
	})
	root.SetUsageTemplate(strings.NewReplacer(
		"  {{.CommandPath}} [command]", "  {{.CommandPath}} COMMAND",
		"{{if .Runnable}}\n  {{.UseLine}}{{end}}", "{{if and .Runnable .HasParent}}\n  {{.UseLine}}{{end}}",
		`"{{.CommandPath}} [command] --help"`, `"{{.CommandPath}} COMMAND --help"`,
		"Available Commands:", "Commands:",
	).Replace(root.UsageTemplate()))
	root.PersistentFlags().StringVarP(&a.dir, "directory", "C", "", "Work as if started in `DIR`")
	root.PersistentFlags().BoolVar(&a.json, "json", false, "Write JSON")
	root.AddCommand(a.status(), a.log(), a.cat(), a.diff(), a.restore(), a.commit(), a.describe(), a.snapshot(), a.tag(), a.untag(), a.tags(), a.branch(), a.switchTo(), a.findDeleted(), a.undo(), a.redo(), a.op(), a.jobs(), a.gc(), a.retain(), a.fsck(), a.doctor(), a.rebuild(), a.recovery(), a.recover(), a.pair(), a.peers(), a.whereIs(), a.pin(), a.unpin(), a.free(), a.conflicts(), a.resolve(), a.held(), a.proposed(), a.accept(), a.reject(), a.grant(), a.revoke(), a.trust(), a.version(), withoutJSON(espcmd.New(), root))
	root.SetHelpCommand(&cobra.Command{Use: "help [COMMAND]", Short: "Show help for a command", RunE: func(cmd *cobra.Command, args []string) error {
		target, rest, err := root.Find(args)
		if err != nil || len(rest) > 0 {
			return usage("%s is not a command", term.Quote(strings.Join(args, " ")))
		}
		return target.Help()
	}})
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() == "completion" {
			finishCompletion(c)
		}
	}
	helpFlags(root)
	return root
}

// withoutJSON leaves --json out of the help of commands that do not know it.
func withoutJSON(cmd, root *cobra.Command) *cobra.Command {
	cmd.SetHelpFunc(func(c *cobra.Command, args []string) {
		if f := root.PersistentFlags().Lookup("json"); f != nil {
			f.Hidden = true
			defer func() { f.Hidden = false }()
		}
		root.HelpFunc()(c, args)
	})
	return cmd
}

// checkAddress refuses a [KEY@]HOST:PORT that is none, before a library says so in its own words.
func checkAddress(cmd *cobra.Command, args []string) error {
	if cmd.Name() == "key" || len(args) != 1 {
		return nil
	}
	address := args[0]
	if cmd.Name() != "listen" {
		address = address[strings.LastIndexByte(address, '@')+1:]
	} else if strings.ContainsRune(address, '@') {
		return usage("%s is no address to listen at: [HOST]:PORT is wanted, without a KEY; --peer KEY says who is let in", term.Quote(address))
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return usage("%s is no address: HOST:PORT is wanted, [HOST]:PORT where HOST has colons in it", term.Quote(address))
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return usage("%s is no port: it takes a number up to 65535", term.Quote(port))
	}
	return nil
}

// helpFlags says of --help what it does in the words of the others.
func helpFlags(cmd *cobra.Command) {
	cmd.Flags().BoolP("help", "h", false, "Show this help")
	for _, c := range cmd.Commands() {
		helpFlags(c)
	}
}

// dashed returns the first argument that was taken for flags but is the name of a file.
func (a *app) dashed(args []string) string {
	for _, arg := range args {
		if arg == "--" {
			break
		}
		path := arg
		if a.dir != "" {
			path = filepath.Join(a.dir, arg)
		}
		if _, err := os.Lstat(path); err == nil && strings.HasPrefix(arg, "-") {
			return arg
		}
	}
	return ""
}

// finishCompletion makes cobra's own command refuse what it does not know.
func finishCompletion(c *cobra.Command) {
	c.Short = "Write a completion script for a shell"
	var shells []string
	for _, shell := range c.Commands() {
		shell.Args = exactly()
		if f := shell.Flags().Lookup("no-descriptions"); f != nil {
			f.Usage = "Complete without descriptions"
		}
		shells = append(shells, shell.Name())
	}
	c.Args = func(_ *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usage("%s is no shell that is known here: %s", term.Quote(args[0]), strings.Join(shells, ", "))
		}
		return nil
	}
	c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
}

// commands refuses what is none of the commands of cmd, which takes nothing else, and names the one that was perhaps meant.
func commands(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	of, hint := "", ""
	if cmd.HasParent() {
		of = " of " + cmd.CommandPath()
	}
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 && args[0] != "" {
		best := near[0]
		if i := slices.IndexFunc(near, func(name string) bool { return name[0] == args[0][0] }); i >= 0 {
			best = near[i] // few mistype the first letter
		}
		hint = "; did you mean " + best + "?"
	}
	return usage("%s is not a command%s%s", term.Quote(args[0]), of, hint)
}

// exactly demands one argument for each of names, which are those of the usage line.
func exactly(names ...string) cobra.PositionalArgs { return between(len(names), names...) }

// between demands at least one argument for each of names, and says which is missing; and at most that many.
func between(most int, names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return usage("%s is missing", strings.Join(names[len(args):], " "))
		}
		if len(args) > most {
			return usage("too many arguments: %s", term.Quote(args[most]))
		}
		return noneEmpty(args, names...)
	}
}

// noneEmpty refuses arguments without a letter, as of a variable of a script that nobody has set: a path that is empty would be the working directory, or the whole share.
func noneEmpty(args []string, names ...string) error {
	i := slices.Index(args, "")
	if i < 0 {
		return nil
	}
	name := fmt.Sprintf("argument %d", i+1)
	if i < len(names) {
		name = names[i]
	}
	return usage("%s is empty", name)
}

// writeJSON writes one value, indented.
func (a *app) writeJSON(v any) error {
	enc := json.NewEncoder(a.out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// printf writes text for people.
func (a *app) printf(format string, args ...any) error {
	_, err := fmt.Fprintf(a.out, format, args...)
	return err
}
