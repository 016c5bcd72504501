package daemon

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"sharefs"
	"sharefs/fs"
	"sharefs/internal/jobs"
	"sharefs/internal/mountopt"
)

// ctlFiles are the files of .share/ctl.
func (d *Daemon) ctlFiles() []fs.CtlFile {
	return append([]fs.CtlFile{
		{Name: "status", Mode: 0o444, Read: func() []byte { return []byte(d.status().Text(time.Now())) }},
		{Name: "status.json", Mode: 0o444, Read: func() []byte { return d.status().JSON() }, Own: func() []byte { return d.wholeStatus().JSON() }},
		d.metricsFile(),
		{Name: "check", Mode: 0o400, Read: d.check},
		{Name: "jobs", Mode: 0o400, Read: d.readJobs},
		{Name: "jobs.json", Mode: 0o400, Read: d.readJobsJSON},
		{Name: "ctl", Mode: 0o600, Read: d.readCtl, Write: d.writeCtl},
	}, d.peersFiles()...)
}

// check walks the whole tree and tells what does not fit together, a line each; nothing when all is well.
func (d *Daemon) check() []byte {
	problems, err := d.tree.Check()
	if err != nil {
		d.log.Error("check", "error", err)
		return fmt.Appendf(nil, "the check could not be carried out: %v\n", err)
	}
	var out []byte
	for _, p := range problems {
		d.log.Error("check", "problem", p.String())
		out = fmt.Appendln(out, p.String())
	}
	return out
}

// readCtl prints lines that writing accepts and that change nothing.
func (d *Daemon) readCtl() []byte {
	return fmt.Appendf(nil, "set atime=%s\nsync\n", d.atime.Load())
}

// writeCtl obeys what was written: one command a line.
func (d *Daemon) writeCtl(text string) error {
	commands, err := parseCtl(text)
	if err != nil {
		d.log.Warn("ctl", "error", err)
		return err
	}
	for _, c := range commands {
		if err := d.obey(c); err != nil {
			d.log.Warn("ctl", "verb", c.verb, "error", err)
			return err
		}
		if _, ok := peerVerbs[c.verb]; ok {
			d.log.Info("ctl", "verb", c.verb) // a link is a secret
			continue
		}
		d.log.Info("ctl", "verb", c.verb, "args", c.args)
	}
	return nil
}

// obey does one command.
func (d *Daemon) obey(c command) error {
	switch c.verb {
	case "sync": // syncfs(2) does not reach a FUSE filesystem that is not on a block device
		return d.tree.Sync()
	case "set":
		if a, ok := c.args["atime"]; ok {
			atime, err := mountopt.ParseAtime(a)
			if err != nil {
				return err
			}
			d.tree.SetAtime(treeAtime(atime))
			d.atime.Store(atime)
		}
	case "stop":
		id, err := strconv.ParseUint(c.args["job"], 10, 64)
		if err != nil {
			return ctlError(c.verb, "takes the number of a job, not "+c.args["job"])
		}
		return d.jobs.Stop(id)
	default:
		if _, ok := peerVerbs[c.verb]; ok {
			return d.askPeers(c)
		}
		return d.ask(c)
	}
	return nil
}

// command is "verb key=value key=value".
type command struct {
	verb string
	args map[string]string
}

// verb says what a command takes.
type verb struct {
	keys []string
	need bool // at least one of them
}

// verbs are all commands: what is done at once, and the jobs.
var verbs = func() map[string]verb {
	all := map[string]verb{
		"sync": {},
		"set":  {keys: []string{"atime"}, need: true},
		"stop": {keys: []string{"job"}, need: true},
	}
	maps.Copy(all, peerVerbs)
	for name, task := range longTasks {
		all[name] = verb{keys: append([]string{jobs.AskedAs}, task.keys...)}
	}
	return all
}()

// parseCtl reads commands, one a line; empty lines are skipped. Its errors are of KindInvalid.
func parseCtl(text string) ([]command, error) {
	var out []command
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		v, ok := verbs[words[0]]
		if !ok {
			return nil, ctlError(words[0], "is no command; these are: "+strings.Join(slices.Sorted(maps.Keys(verbs)), ", "))
		}
		c := command{verb: words[0], args: map[string]string{}}
		for _, w := range words[1:] {
			key, value, found := strings.Cut(w, "=")
			if !found || value == "" {
				return nil, ctlError(c.verb, "takes key=value, not "+w)
			}
			if !slices.Contains(v.keys, key) {
				return nil, ctlError(c.verb, "does not know "+key)
			}
			c.args[key] = value
		}
		if v.need && len(c.args) == 0 {
			return nil, ctlError(c.verb, "says nothing to "+c.verb+": "+strings.Join(v.keys, ", ")+" is missing")
		}
		out = append(out, c)
	}
	return out, nil
}

func ctlError(verb, detail string) error {
	return &sharefs.Error{Op: "ctl", Path: verb, Kind: sharefs.KindInvalid, Detail: detail}
}
