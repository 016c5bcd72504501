// Package jobs runs the long tasks of a mount (garbage collection, checks, retention) in the daemon, one after the other, and tells how
// far they have come. Whoever asks for one need not stay: a job goes on without him, and its report stays to be read.
package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"sharefs"
)

// Report is what came of a job: fields with JSON tags, and a text for people that ends in a line break.
type Report interface{ Text() string }

// Task does the work of a job until it is done or the context ends. What it had done when it fails or is stopped it may report beside the error.
type Task func(ctx context.Context, progress func(sharefs.Progress)) (Report, error)

// Bounds of what is remembered.
const (
	maxWaiting = 8
	maxEnded   = 16
)

// Runner runs jobs. The zero value is ready; it may be used by several goroutines.
type Runner struct {
	mu     sync.Mutex // guards what follows
	jobs   []*entry   // in the order in which they were asked for
	last   uint64
	busy   bool
	closed bool
	tasks  sync.WaitGroup
}

// entry is a job with what runs it.
type entry struct {
	Job
	task   Task
	ctx    context.Context
	cancel context.CancelFunc
	ended  chan struct{}

	stageBegan time.Time
	stageDone  uint64 // at the begin of the stage
}

// Ask has a task done after those that wait already, and returns its number. Errors: KindBusy where too many wait, KindStale after Close.
func (r *Runner) Ask(verb string, args map[string]string, task Task) (uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	waiting := 0
	for _, e := range r.jobs {
		if e.State == Waiting {
			waiting++
		}
	}
	switch {
	case r.closed:
		return 0, &sharefs.Error{Op: "ctl", Path: verb, Kind: sharefs.KindStale, Detail: "the mount is ending"}
	case waiting >= maxWaiting:
		return 0, &sharefs.Error{Op: "ctl", Path: verb, Kind: sharefs.KindBusy, Detail: "too many jobs wait already; .share/ctl/jobs lists them"}
	}
	r.last++
	e := &entry{
		Job:  Job{ID: r.last, Verb: verb, Args: maps.Clone(args), State: Waiting, Asked: time.Now(), LeftMS: -1},
		task: task, ended: make(chan struct{}),
	}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	r.jobs = append(r.jobs, e)
	r.next()
	return e.ID, nil
}

// next starts the first job that waits, if none is at work. r.mu is held.
func (r *Runner) next() {
	if r.busy || r.closed {
		return
	}
	for _, e := range r.jobs {
		if e.State == Waiting {
			r.busy = true
			e.State, e.Started = Running, time.Now()
			e.stageBegan = e.Started
			r.tasks.Go(func() { r.run(e) })
			return
		}
	}
}

func (r *Runner) run(e *entry) {
	report, err := e.task(e.ctx, func(p sharefs.Progress) { r.progress(e, p) })
	stopped := e.ctx.Err() != nil
	e.cancel()
	var text string
	var data json.RawMessage
	if report != nil {
		text = report.Text()
		if b, jsonErr := json.Marshal(report); jsonErr == nil {
			data = b
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e.Text, e.Report = text, data
	switch {
	case err == nil:
		e.State = Done
	case stopped && (errors.Is(err, context.Canceled) || sharefs.KindOf(err) == sharefs.KindStale):
		e.State = Stopped
	default:
		e.State, e.Error = Failed, err.Error()
	}
	r.finish(e)
	r.busy = false
	r.next()
}

// finish notes that a job has come to its end. r.mu is held.
func (r *Runner) finish(e *entry) {
	e.Ended = time.Now()
	if e.Started.IsZero() {
		e.Started = e.Ended
	}
	e.LeftMS = -1
	e.task = nil
	close(e.ended)
	over := -maxEnded
	for _, e := range r.jobs {
		if e.State.Ended() {
			over++
		}
	}
	r.jobs = slices.DeleteFunc(r.jobs, func(e *entry) bool {
		if over > 0 && e.State.Ended() {
			over--
			return true
		}
		return false
	})
}

// progress is told by a task how far it has come.
func (r *Runner) progress(e *entry, p sharefs.Progress) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.Stage != e.Progress.Stage || p.Done < e.Progress.Done {
		e.stageBegan, e.stageDone = now, p.Done
	}
	e.Progress = p
	e.Rate, e.LeftMS = 0, -1
	took := now.Sub(e.stageBegan).Seconds()
	if took < 0.2 || p.Done <= e.stageDone {
		return
	}
	e.Rate = float64(p.Done-e.stageDone) / took
	if p.Total >= p.Done && p.Total > 0 {
		e.LeftMS = int64(1000 * float64(p.Total-p.Done) / e.Rate)
	}
}

// Stop has a job end as soon as it can; one that has ended stays as it is. KindNotExist: there is no job of that number.
func (r *Runner) Stop(id uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.jobs {
		if e.ID != id {
			continue
		}
		e.cancel()
		if e.State == Waiting {
			e.State = Stopped
			r.finish(e)
		}
		return nil
	}
	return &sharefs.Error{Op: "ctl", Path: "stop", Kind: sharefs.KindNotExist, Detail: "there is no job of that number; .share/ctl/jobs lists them"}
}

// Jobs returns what is known of the jobs, the oldest first: all that wait or run, and the last ones that ended.
func (r *Runner) Jobs() []Job {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Job, 0, len(r.jobs))
	for _, e := range r.jobs {
		out = append(out, e.Job)
	}
	return out
}

// Wait returns a job when it has ended; ok is false where there is none of that number.
func (r *Runner) Wait(ctx context.Context, id uint64) (j Job, ok bool, err error) {
	r.mu.Lock()
	i := slices.IndexFunc(r.jobs, func(e *entry) bool { return e.ID == id })
	if i < 0 {
		r.mu.Unlock()
		return j, false, nil
	}
	e := r.jobs[i]
	r.mu.Unlock()
	select {
	case <-e.ended:
	case <-ctx.Done():
		return j, true, ctx.Err()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return e.Job, true, nil
}

// Close stops all jobs and returns when they have ended; none begins afterwards.
func (r *Runner) Close() {
	r.mu.Lock()
	r.closed = true
	for _, e := range r.jobs {
		e.cancel()
		if e.State == Waiting {
			e.State = Stopped
			e.Ended, e.Started = time.Now(), time.Now()
			close(e.ended)
		}
	}
	r.mu.Unlock()
	r.tasks.Wait()
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
