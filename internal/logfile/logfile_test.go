package logfile

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestTheLogHasABoundAndLosesNoRecentLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	const limit, lines = 4096, 1000
	l, err := Open(path, limit, false)
	if err != nil {
		t.Fatal(err)
	}
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := range lines {
				if _, err := fmt.Fprintf(l, "writer %d line %04d\n", w, i); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	var all string
	for _, name := range []string{path + ".1", path} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if len(text) > limit || len(text) == 0 {
			t.Errorf("%s has %d bytes", name, len(text))
		}
		all += string(text)
	}
	for line := range strings.Lines(all) {
		if len(line) != len("writer 0 line 0000\n") {
			t.Errorf("a torn line: %q", line)
		}
	}
	if !strings.Contains(all, "line 0999") {
		t.Error("the last lines are lost")
	}
}

func TestAnOldLogIsContinued(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	for i := range 2 {
		l, err := Open(path, DefaultLimit, false)
		if err != nil {
			t.Fatal(err)
		}
		l.Logger(slog.LevelInfo).Info("start", "run", i)
		l.Logger(slog.LevelInfo).Debug("not shown")
		l.Close()
	}
	text, err := os.ReadFile(path)
	if err != nil || strings.Count(string(text), "msg=start") != 2 || strings.Contains(string(text), "not shown") {
		t.Fatalf("%q, %v", text, err)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Error("others may read the log")
	}
}

func TestALogThatCannotBeMadeIsAnError(t *testing.T) {
	if _, err := Open(filepath.Join(t.TempDir(), "no", "log"), 1, false); err == nil || !strings.Contains(err.Error(), "open log ") {
		t.Fatal(err)
	}
}
