package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"sharefs"
)

// wait fails the test rather than hang it.
const wait = time.Minute

type report struct {
	Freed int `json:"freed"`
}

func (r report) Text() string { return "freed\n" }

func ended(t *testing.T, r *Runner, id uint64) Job {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	j, ok, err := r.Wait(ctx, id)
	if !ok || err != nil {
		t.Fatalf("job %d: %v, %v", id, ok, err)
	}
	return j
}

func TestJobsRunInTurn(t *testing.T) {
	var r Runner
	defer r.Close()
	gate, order := make(chan struct{}), make(chan string, 3)
	task := func(name string) Task {
		return func(context.Context, func(sharefs.Progress)) (Report, error) {
			<-gate
			order <- name
			return report{1}, nil
		}
	}
	var ids []uint64
	for _, name := range []string{"a", "b", "c"} {
		id, err := r.Ask("gc", map[string]string{"as": name}, task(name))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	if jobs := r.Jobs(); len(jobs) != 3 || jobs[0].State != Running || jobs[1].State != Waiting || jobs[2].State != Waiting {
		t.Fatalf("jobs are %+v", jobs)
	}
	close(gate)
	for i, id := range ids {
		if j := ended(t, &r, id); j.State != Done || string(j.Report) != `{"freed":1}` || j.Text != "freed\n" {
			t.Fatalf("job %d: %+v", i, j)
		}
	}
	if got := <-order + <-order + <-order; got != "abc" {
		t.Fatalf("they ran as %s", got)
	}
}

func TestJobFails(t *testing.T) {
	var r Runner
	defer r.Close()
	id, _ := r.Ask("fsck", nil, func(context.Context, func(sharefs.Progress)) (Report, error) {
		return report{}, errors.New("the disk is gone")
	})
	if j := ended(t, &r, id); j.State != Failed || j.Error != "the disk is gone" || !strings.Contains(j.Line(), "the disk is gone") {
		t.Fatalf("%+v", j)
	}
}

func TestStop(t *testing.T) {
	var r Runner
	defer r.Close()
	until := func(ctx context.Context, progress func(sharefs.Progress)) (Report, error) {
		progress(sharefs.Progress{Stage: "mark", Done: 1, Total: 2, Unit: "rows"})
		<-ctx.Done()
		return report{7}, ctx.Err()
	}
	running, _ := r.Ask("gc", nil, until)
	waiting, _ := r.Ask("gc", nil, until)
	for _, id := range []uint64{waiting, running} {
		if err := r.Stop(id); err != nil {
			t.Fatal(err)
		}
		if j := ended(t, &r, id); j.State != Stopped {
			t.Fatalf("%+v", j)
		}
	}
	if j := ended(t, &r, running); string(j.Report) != `{"freed":7}` {
		t.Fatalf("what was done before the stop is not told: %+v", j)
	}
	if err := r.Stop(99); !errors.Is(err, sharefs.KindNotExist) {
		t.Fatalf("stop of no job: %v", err)
	}
}

func TestClose(t *testing.T) {
	var r Runner
	begun := make(chan struct{})
	_, err := r.Ask("gc", nil, func(ctx context.Context, _ func(sharefs.Progress)) (Report, error) {
		close(begun)
		<-ctx.Done()
		return nil, ctx.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	second, _ := r.Ask("gc", nil, func(context.Context, func(sharefs.Progress)) (Report, error) { panic("ran after Close") })
	<-begun
	r.Close()
	if j := ended(t, &r, second); j.State != Stopped {
		t.Fatalf("%+v", j)
	}
	if _, err := r.Ask("gc", nil, nil); !errors.Is(err, sharefs.KindStale) {
		t.Fatalf("asked after Close: %v", err)
	}
}

func TestBounds(t *testing.T) {
	var r Runner
	defer r.Close()
	for range 3 * maxEnded {
		id, err := r.Ask("gc", nil, func(context.Context, func(sharefs.Progress)) (Report, error) { return nil, nil })
		if err != nil {
			t.Fatal(err)
		}
		ended(t, &r, id)
	}
	if n := len(r.Jobs()); n > maxEnded+1 {
		t.Fatalf("%d ended jobs are remembered", n)
	}
	hold := func(ctx context.Context, _ func(sharefs.Progress)) (Report, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	for range maxWaiting + 1 {
		if _, err := r.Ask("gc", nil, hold); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Ask("gc", nil, hold); !errors.Is(err, sharefs.KindBusy) {
		t.Fatalf("one too many: %v", err)
	}
}

func TestLine(t *testing.T) {
	j := Job{
		ID: 3, Verb: "gc", Args: map[string]string{"dry-run": "yes"}, State: Running, Rate: 2048, LeftMS: 61000,
		Progress: sharefs.Progress{Stage: "rewrite", Done: 1 << 20, Total: 3 << 20, Unit: "bytes"},
	}
	const want = "3  gc dry-run=yes  running  rewrite: 1.0 MiB of 3.0 MiB, 2.0 KiB/s, 1 min 1 s left"
	if got := j.Line(); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	b, err := json.Marshal(j)
	var back Job
	if err != nil || json.Unmarshal(b, &back) != nil || back.Line() != want {
		t.Errorf("%s, %v", b, err)
	}
}
