package daemon

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"

	"sharefs"
	"sharefs/internal/config"
	"sharefs/internal/jobs"
	"sharefs/internal/retain"
	"sharefs/internal/store"
	"sharefs/versions"
)

// longTask is a verb of ctl that takes long. Make reads the arguments, before anything is done; its errors are of KindInvalid.
type longTask struct {
	keys []string
	make func(d *Daemon, args map[string]string) (jobs.Task, error)
}

// longTasks are the jobs that can be asked for.
var longTasks = map[string]longTask{
	"gc": {keys: []string{"dry-run"}, make: func(d *Daemon, args map[string]string) (jobs.Task, error) {
		dry, err := yesNo("gc", "dry-run", args)
		return func(ctx context.Context, progress func(sharefs.Progress)) (jobs.Report, error) {
			r, err := d.tree.GC(ctx, versions.GCOptions{DryRun: dry}, progress)
			return &r, err
		}, err
	}},
	"retain": {keys: []string{"dry-run", "quota"}, make: func(d *Daemon, args map[string]string) (jobs.Task, error) {
		dry, err := yesNo("retain", "dry-run", args)
		policy, err2 := d.quota(args)
		if err == nil {
			err = err2
		}
		return func(ctx context.Context, progress func(sharefs.Progress)) (jobs.Report, error) {
			r, err := d.tree.Retain(ctx, versions.RetainOptions{DryRun: dry, Policy: policy}, progress)
			return &r, err
		}, err
	}},
	"fsck": {keys: []string{"mode", "repair", "bucket"}, make: func(d *Daemon, args map[string]string) (jobs.Task, error) {
		repair, err := yesNo("fsck", "repair", args)
		remote, err2 := yesNo("fsck", "bucket", args)
		err = cmp.Or(err, err2)
		mode := versions.FsckMode(cmp.Or(args["mode"], string(versions.FsckFast)))
		if mode != versions.FsckFast && mode != versions.FsckScrub {
			err = ctlError("fsck", "mode is fast or scrub, not "+string(mode))
		}
		return func(ctx context.Context, progress func(sharefs.Progress)) (jobs.Report, error) {
			r, err := d.tree.Fsck(ctx, versions.FsckOptions{Mode: mode, Repair: repair, Remote: remote, Files: store.Names()}, progress)
			return &r, err
		}, err
	}},
}

// quota returns the rules of the configuration with another quota; nil where none is named.
func (d *Daemon) quota(args map[string]string) (*retain.Policy, error) {
	text, ok := args["quota"]
	if !ok {
		return nil, nil
	}
	var size config.Size
	if err := size.UnmarshalText([]byte(text)); err != nil {
		return nil, ctlError("retain", "quota: "+err.Error())
	}
	policy := d.store.Config.Retention.Policy()
	policy.Quota = max(retain.NoHistory, uint64(size)) // 0 is none at all
	return &policy, nil
}

// yesNo reads an argument that is yes or no; no where it is not there.
func yesNo(verb, key string, args map[string]string) (bool, error) {
	switch args[key] {
	case "yes":
		return true, nil
	case "", "no":
		return false, nil
	}
	return false, ctlError(verb, key+" is yes or no, not "+args[key])
}

// ask has a long task done in the background.
func (d *Daemon) ask(c command) error {
	task, err := longTasks[c.verb].make(d, c.args)
	if err != nil {
		return err
	}
	id, err := d.jobs.Ask(c.verb, c.args, task)
	if err != nil {
		return err
	}
	d.log.Info("a job was asked for", "verb", c.verb, "job", id)
	go func() {
		if j, ok, err := d.jobs.Wait(context.Background(), id); ok && err == nil {
			d.log.Info("a job has ended", "verb", j.Verb, "job", id, "state", j.State, "error", j.Error)
		}
	}()
	return nil
}

// readJobs lists the jobs, a line each, the oldest first.
func (d *Daemon) readJobs() (out []byte) {
	for _, j := range d.jobs.Jobs() {
		out = fmt.Appendln(out, j.Line())
	}
	return out
}

// readJobsJSON lists the jobs for programs.
func (d *Daemon) readJobsJSON() []byte { return d.json(d.jobs.Jobs()) }

// json is what a file for programs holds.
func (d *Daemon) json(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil { // there is nothing in any of them that cannot be encoded
		d.log.Error("json", "error", err)
		return nil
	}
	return append(text, '\n')
}
