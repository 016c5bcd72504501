package daemon

import (
	"context"
	"encoding/json"
	"fmt"

	"sharefs/internal/jobs"
)

// longTask is a verb of ctl that takes long. Make reads the arguments, before anything is done; its errors are of KindInvalid.
type longTask struct {
	keys []string
	make func(d *Daemon, args map[string]string) (jobs.Task, error)
}

// longTasks are the jobs that can be asked for.
var longTasks = map[string]longTask{}

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
func (d *Daemon) readJobsJSON() []byte {
	text, err := json.Marshal(d.jobs.Jobs())
	if err != nil {
		d.log.Error("jobs", "error", err)
		return nil
	}
	return append(text, '\n')
}
