package jobs

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"sharefs"
	"sharefs/internal/term"
)

// State is where a job is in its life.
type State string

// The states of a job, in their order; the last three are final.
const (
	Waiting State = "waiting" // another one is at work
	Running State = "running"
	Done    State = "done"
	Failed  State = "failed"
	Stopped State = "stopped" // by whoever asked for that, or because the mount ended
)

// AskedAs is the argument by which whoever asks for a job finds it again: any word of his own.
const AskedAs = "as"

// Ended reports whether nothing more will come of a job in this state.
func (s State) Ended() bool { return s == Done || s == Failed || s == Stopped }

// Job is one long task as .share/ctl/jobs.json tells of it.
type Job struct {
	ID      uint64            `json:"id"` // 1, 2, 3 … since the mount began
	Verb    string            `json:"verb"`
	Args    map[string]string `json:"args,omitempty"`
	State   State             `json:"state"`
	Asked   time.Time         `json:"asked"`
	Started time.Time         `json:"started,omitzero"`
	Ended   time.Time         `json:"ended,omitzero"`

	Progress sharefs.Progress `json:"progress"`
	Rate     float64          `json:"rate"`    // Progress.Unit a second, of the stage at work; 0: not known yet
	LeftMS   int64            `json:"left_ms"` // until the end of the stage; -1: not known

	Error  string          `json:"error,omitempty"`
	Text   string          `json:"text,omitempty"`   // the report for people
	Report json.RawMessage `json:"report,omitempty"` // the report for programs
}

// Line is the job in one line.
//
//	ID  VERB ARGS  STATE  PROGRESS
func (j *Job) Line() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d  %s", j.ID, j.Verb)
	for _, k := range sortedKeys(j.Args) {
		if k == AskedAs {
			continue
		}
		b.WriteString(" " + k + "=" + j.Args[k])
	}
	b.WriteString("  " + string(j.State))
	switch {
	case j.State == Running && j.Progress.Stage != "":
		b.WriteString("  " + j.Progress.Stage)
		if p := j.Progress; p.Total > 0 {
			fmt.Fprintf(&b, ": %s of %s", term.Amount(p.Done, p.Unit), term.Amount(p.Total, p.Unit))
		} else if p.Done > 0 {
			b.WriteString(": " + term.Amount(p.Done, p.Unit))
		}
		if j.Rate > 0 {
			b.WriteString(", " + term.Amount(uint64(j.Rate), j.Progress.Unit) + "/s")
		}
		if j.LeftMS >= 0 {
			b.WriteString(", " + term.Span(time.Duration(j.LeftMS)*time.Millisecond) + " left")
		}
	case j.State.Ended():
		b.WriteString("  in " + term.Span(j.Ended.Sub(j.Started)))
		if j.Error != "" {
			b.WriteString("  " + term.Clean(j.Error))
		}
	}
	return b.String()
}
