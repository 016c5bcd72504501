package doctor

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"sharefs/internal/mountpoint"
	"sharefs/internal/term"
)

// By these in the environment this program looks at the mount that a path lies in; see [Serve].
const (
	pathVariable = "SHAREFS_DOCTOR_PATH"
	deepVariable = "SHAREFS_DOCTOR_DEEP"
)

// How long a mount may take to answer all that is asked of it, more than it may to answer at all; and with a check of its whole tree.
const (
	patience     = 2 * mountpoint.DefaultPatience
	deepPatience = 10 * time.Minute
)

// atOnce is how many mounts are looked at at a time.
const atOnce = 8

// examined is what a child says.
type examined struct {
	Mount    string    `json:"mount"`
	Findings []Finding `json:"findings"`
	Error    string    `json:"error,omitempty"`
}

// Serve makes the process look at one mount, and does not return, when [Examine] started it for that.
func Serve() {
	path, ok := os.LookupEnv(pathVariable)
	if !ok {
		return
	}
	if err := json.NewEncoder(os.Stdout).Encode(one(path, os.Getenv(deepVariable) != "")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// examineAll looks at mounts, each by a child of its own: what is asked of a mount may hang, and is not to hold up this process.
func examineAll(deep bool, paths []string) []examined {
	limit, env := patience, []string(nil)
	if deep {
		limit, env = deepPatience, []string{deepVariable + "=1"}
	}
	out := make([]examined, len(paths))
	slots := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for i, path := range paths {
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			text, err := mountpoint.Child(limit, append([]string{pathVariable + "=" + path}, env...)...)
			if err == nil {
				err = json.Unmarshal(text, &out[i])
			}
			if err != nil {
				out[i] = examined{Mount: path, Findings: []Finding{unanswered(path, limit, err)}}
			}
		})
	}
	all.Wait()
	return out
}

// unanswered is what is found of a mount of which a child did not tell.
func unanswered(path string, limit time.Duration, err error) Finding {
	f := wrong("mount", "", "%s could not be looked at: %v", term.Quote(path), err)
	if errors.Is(err, mountpoint.ErrHung) {
		f = wrong("mount", "If that stays so, end its daemon (its process is named in the store's lock file), then run umount -l on it.", "%s did not answer all that was asked within %s", term.Quote(path), term.Span(limit))
	}
	f.Mount = path
	return f
}
