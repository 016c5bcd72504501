package espcmd

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"sharefs/esp"
)

// patience only ends a test that hangs.
const patience = 2 * time.Minute

// buffer is a bytes.Buffer for a writer and a reader at the same time.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// tool is a running command.
type tool struct {
	t        *testing.T
	out, err buffer
	done     chan error
	cancel   context.CancelFunc
}

// start runs "sharefs esp ARGS" in the background; it ends with the test.
func start(t *testing.T, in io.Reader, args ...string) *tool {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	r := &tool{t: t, done: make(chan error, 1), cancel: cancel}
	cmd := New()
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	cmd.SetArgs(args)
	cmd.SetIn(in)
	cmd.SetOut(&r.out)
	cmd.SetErr(&r.err)
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		r.done <- cmd.ExecuteContext(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-finished
	})
	return r
}

// wait returns the error of the command.
func (r *tool) wait() error {
	r.t.Helper()
	select {
	case err := <-r.done:
		return err
	case <-time.After(patience):
		r.t.Fatalf("it does not end; it has said %q and %q", r.out.String(), r.err.String())
		return nil
	}
}

// says waits until the command has written something on stderr and returns the groups of the match.
func (r *tool) says(re string) []string {
	r.t.Helper()
	x := regexp.MustCompile(re)
	for began := time.Now(); time.Since(began) < patience; time.Sleep(5 * time.Millisecond) {
		if m := x.FindStringSubmatch(r.err.String()); m != nil {
			return m
		}
		select {
		case err := <-r.done:
			r.t.Fatalf("it ended with %v and has said %q", err, r.err.String())
		default:
		}
	}
	r.t.Fatalf("it has said %q", r.err.String())
	return nil
}

func (r *tool) address() string { return r.says(`listening on (\S+)`)[1] }

func TestKey(t *testing.T) {
	file := filepath.Join(t.TempDir(), "id")
	first := start(t, nil, "key", file)
	if err := first.wait(); err != nil {
		t.Fatal(err)
	}
	key, err := esp.ParsePublicKey(first.out.String())
	if err != nil || key.IsZero() || !strings.Contains(first.err.String(), "new identity") {
		t.Fatalf("%v; it said %q and %q", err, first.out.String(), first.err.String())
	}
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	again := start(t, nil, "key", file)
	if err := again.wait(); err != nil || again.out.String() != first.out.String() || again.err.String() != "" {
		t.Errorf("%v; the second time it said %q and %q", err, again.out.String(), again.err.String())
	}
	os.WriteFile(file, []byte("nonsense"), 0o600)
	if err := start(t, nil, "key", file).wait(); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a file of nonsense: %v", err)
	}
}

func TestPipe(t *testing.T) {
	data := make([]byte, 3<<20)
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range data {
		data[i] = byte(rng.Uint32()) & 0x3f
	}
	for _, carriage := range []string{"auto", "udp", "tcp"} {
		t.Run(carriage, func(t *testing.T) {
			id := filepath.Join(t.TempDir(), "id")
			l := start(t, bytes.NewReader(data[:1000]), "listen", "127.0.0.1:0", "--carriage", carriage, "--key", id)
			d := start(t, bytes.NewReader(data), "dial", l.address(), "--carriage", carriage)
			if err := d.wait(); err != nil {
				t.Errorf("dial: %v", err)
			}
			if err := l.wait(); err != nil {
				t.Errorf("listen: %v", err)
			}
			if sha256.Sum256([]byte(l.out.String())) != sha256.Sum256(data) || d.out.String() != string(data[:1000]) {
				t.Errorf("%d and %d bytes went over", len(l.out.String()), len(d.out.String()))
			}
		})
	}
}

func TestStrangersAreRefused(t *testing.T) {
	dir := t.TempDir()
	friend := start(t, nil, "key", filepath.Join(dir, "friend"))
	if err := friend.wait(); err != nil {
		t.Fatal(err)
	}
	l := start(t, nil, "listen", "127.0.0.1:0", "--keep", "--peer", strings.TrimSpace(friend.out.String()))
	if err := start(t, nil, "dial", l.address()).wait(); err == nil || !strings.Contains(err.Error(), "not let in") {
		t.Errorf("a stranger: %v", err)
	}
	if err := start(t, strings.NewReader("hello"), "dial", l.address(), "--key", filepath.Join(dir, "friend")).wait(); err != nil {
		t.Errorf("the friend: %v", err)
	}
	for began := time.Now(); l.out.String() != "hello"; time.Sleep(5 * time.Millisecond) {
		if time.Since(began) > patience {
			t.Fatalf("it printed %q", l.out.String())
		}
	}
	l.cancel()
	if err := l.wait(); err != nil {
		t.Errorf("interrupted, which is how it is meant to end: %v", err)
	}
	once := start(t, nil, "listen", "127.0.0.1:0")
	once.address()
	once.cancel()
	if err := once.wait(); err != errInterrupted {
		t.Errorf("interrupted before a stream came: %v", err)
	}
}

func TestBench(t *testing.T) {
	srv := start(t, nil, "bench", "--serve", "127.0.0.1:0")
	at := srv.address()
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"-i", "100ms"}, `(?s)connected to \S+ in .*\d \wB/s  rtt .* (udp|tcp) .*total \S+ GB in .*CPU-s`},
		{[]string{"-R", "--content", "text", "-P", "3"}, `total \S+ GB in .* packets lost`},
		{[]string{"--content", "text", "--carriage", "tcp"}, `total \S+ GB in .*compressed`},
		{[]string{"--latency", "--size", "100"}, `\d+ round trips of 100 bytes: least .*median`},
	} {
		r := start(t, nil, append([]string{"bench", at, "-t", "400ms"}, c.args...)...)
		if err := r.wait(); err != nil {
			t.Errorf("%v: %v", c.args, err)
		} else if !regexp.MustCompile(c.want).MatchString(r.out.String()) {
			t.Errorf("%v printed %q", c.args, r.out.String())
		}
	}
	srv.cancel()
	if err := srv.wait(); err != nil {
		t.Errorf("the server, interrupted: %v", err)
	}
}

func TestTrace(t *testing.T) {
	srv := start(t, nil, "bench", "--serve", "127.0.0.1:0")
	r := start(t, nil, "trace", srv.address(), "-n", "2", "-i", "200ms", "--load")
	if err := r.wait(); err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`(?s)PATH .*SCORE.*WHY\n\*.*(udp|tcp) .*127\.0\.0\.1:.* ready .* ms .* %.*B/s`).MatchString(r.out.String()) {
		t.Errorf("it printed %q", r.out.String())
	}
	if !strings.Contains(r.err.String(), "session opened") {
		t.Errorf("it said %q", r.err.String())
	}
}

func TestBadCalls(t *testing.T) {
	for _, args := range [][]string{
		{"dial", "127.0.0.1:1", "--carriage", "pigeon"}, {"dial", "127.0.0.1:1", "--scheduler", "x"}, {"dial", "127.0.0.1:1", "--peer", "x"},
		{"dial"}, {"dial", "a:1", "b:1"}, {"listen"}, {"key"}, {"key", "a", "b"}, {"bench", "127.0.0.1:1", "--content", "x"}, {"dance"},
		{"bench", "127.0.0.1:1", "-P", "0"}, {"trace", "127.0.0.1:1", "-i", "0s"}, {"trace", "127.0.0.1:1", "-n", "-1"}, {"trace"}, {"bench"},
	} {
		if err := start(t, nil, args...).wait(); !errors.As(err, new(UsageError)) {
			t.Errorf("%v: %v, which is no error of usage", args, err)
		}
	}
	for _, args := range [][]string{
		{"dial", "127.0.0.1:1", "--congestion", "x"}, {"dial", "127.0.0.1:1", "--mtu", "7"}, {"dial", "nowhere"}, {"listen", "nowhere"},
		{"dial", "127.0.0.1:1", "--key", "/nonexistent/id"},
	} {
		if err := start(t, nil, args...).wait(); err == nil {
			t.Errorf("%v was taken", args)
		}
	}
}

func TestNotesCannotPlayTricksOnATerminal(t *testing.T) {
	cmd := New()
	var out buffer
	cmd.SetErr(&out)
	(&options{errMu: new(sync.Mutex)}).note(cmd, "%s: %v", "a", errors.New("b\x1b[31m\nc"))
	if got, want := out.String(), `a: b\x1b[31m\nc`+"\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestServerRefusesNonsense(t *testing.T) {
	srv := start(t, nil, "bench", "--serve", "127.0.0.1:0")
	for _, s := range []string{"GET / HTTP/1.1\n", "esp-bench/1 fly\n", "esp-bench/1 source random -1\n", "esp-bench/1 source x 1\n", strings.Repeat("x", 1000)} {
		d := start(t, strings.NewReader(s), "dial", srv.address())
		_ = d.wait() // the server hangs up, sooner or later than we do
		if strings.Contains(d.out.String(), "x") {
			t.Errorf("%q was answered by %q", s, d.out.String())
		}
	}
	srv.says("no benchmark of this version")
	srv.says("is not known")
}
