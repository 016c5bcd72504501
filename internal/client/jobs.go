package client

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"

	"sharefs"
	"sharefs/internal/jobs"
)

// jobPoll is how often the mount is asked how far a job is.
const jobPoll = 100 * time.Millisecond

// Jobs lists the long tasks of the mount, the oldest first.
func (m *Mount) Jobs() ([]jobs.Job, error) {
	text, err := m.CtlText("jobs.json")
	if err != nil {
		return nil, err
	}
	var all []jobs.Job
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, &sharefs.Error{Op: "read the jobs of", Path: m.Point, Kind: sharefs.KindCorrupt, Err: err}
	}
	return all, nil
}

// Do has the mount do a long task and returns the job when it has ended, however that was. Show, which may be nil, is told how far it has come. When the
// context ends the job is asked to stop, and what it had done until then is in its report.
func (m *Mount) Do(ctx context.Context, verb string, args map[string]string, show func(*jobs.Job)) (*jobs.Job, error) {
	token := rand.Text()
	line := verb + " " + jobs.AskedAs + "=" + token
	for _, key := range slices.Sorted(maps.Keys(args)) {
		line += " " + key + "=" + args[key]
	}
	if err := m.Tell(line); err != nil {
		return nil, err
	}
	stopped := false
	for {
		all, err := m.Jobs()
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(all, func(j jobs.Job) bool { return j.Args[jobs.AskedAs] == token })
		if i < 0 {
			return nil, &sharefs.Error{Op: verb, Kind: sharefs.KindStale, Detail: "the mount knows nothing of it any more; its log says how it ended"}
		}
		j := &all[i]
		if j.State.Ended() {
			return j, nil
		}
		if show != nil {
			show(j)
		}
		if ctx.Err() != nil && !stopped {
			stopped = true
			if err := m.Stop(j.ID); err != nil {
				return nil, err
			}
		}
		wait := ctx.Done()
		if stopped {
			wait = nil
		}
		select {
		case <-time.After(jobPoll):
		case <-wait:
		}
	}
}

// Stop asks a job to end.
func (m *Mount) Stop(id uint64) error { return m.Tell("stop job=" + strconv.FormatUint(id, 10)) }
