// Package s3server gives a test a server that speaks S3: versitygw, on a directory of its own, which listens on a socket in the file system, so that no port
// can be taken by somebody else. In front of it stands a door on loopback, by which connections can be refused, cut or kept waiting.
//
// The program is built from the nested module integration/versitygw, which pins it and keeps what it needs out of the
// project's own dependencies, or taken from SHAREFS_TEST_VERSITYGW.
package s3server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// Patience bounds every wait; it only exists to end a hang.
const Patience = 2 * time.Minute

// Who may ask the server, and where it says to be.
const (
	User   = "sharefs-test"
	Secret = "not-a-secret"
	Region = "us-east-1"
)

// build has the program built, which then lies in Go's cache, and returns its path.
var build = sync.OnceValues(func() (string, error) {
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(string(bytes.TrimSpace(root)), "integration", "versitygw")
	path, err := exec.Command("go", "-C", dir, "tool", "-n", "github.com/versity/versitygw/cmd/versitygw").Output()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		err = fmt.Errorf("%w: %s", err, failed.Stderr)
	}
	return string(bytes.TrimSpace(path)), err
})

// program returns the path of the server's program.
func program(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("SHAREFS_TEST_VERSITYGW"); path != "" {
		return path
	}
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Server is a server at work.
type Server struct {
	Door // where it is reached

	t      *testing.T
	path   string
	dir    string // of all that follows; data/ holds the buckets
	cmd    *exec.Cmd
	ended  chan error
	output bytes.Buffer
}

// Start starts a server with some empty buckets; it ends with the test.
func Start(t *testing.T, buckets ...string) *Server {
	t.Helper()
	// A path of a socket may have 107 bytes, and those that t.TempDir makes of long names of tests are longer.
	dir, err := os.MkdirTemp("", "s3-")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, path: program(t), dir: dir}
	t.Cleanup(func() {
		s.Stop()
		s.Door.close()
		os.RemoveAll(dir)
	})
	for _, b := range buckets {
		if err := os.MkdirAll(filepath.Join(dir, "data", b), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "sidecar"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.Door.open(t, s.socket())
	s.Run()
	return s
}

// Credentials returns the path of a file of credentials that may use the server.
func (s *Server) Credentials() string {
	s.t.Helper()
	path := filepath.Join(s.dir, "credentials")
	text := "[default]\naws_access_key_id = " + User + "\naws_secret_access_key = " + Secret + "\n"
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil { // which is no secret: daemons of other users read it too
		s.t.Fatal(err)
	}
	return path
}

// URL returns that of a bucket and prefix.
func (s *Server) URL(place string) string { return "s3://" + s.Host + "/" + place }

// Section returns the keys of [tier] that keep a store below a prefix of a bucket.
func (s *Server) Section(place string) string {
	s.t.Helper()
	return fmt.Sprintf("url = %q\nregion = %q\ncredentials = %q", s.URL(place), Region, s.Credentials())
}

func (s *Server) socket() string { return filepath.Join(s.dir, "socket") }

// Run starts the server again that was stopped, with what it holds.
func (s *Server) Run() {
	s.t.Helper()
	os.Remove(s.socket())
	// Attributes of objects go to a directory of their own: not every file system that /tmp may be on keeps extended ones.
	s.cmd = exec.Command(s.path, "--port", s.socket(), "--access", User, "--secret", Secret, "--region", Region, "--quiet",
		"posix", "--sidecar", filepath.Join(s.dir, "sidecar"), filepath.Join(s.dir, "data"))
	s.cmd.Stdout, s.cmd.Stderr = &s.output, &s.output
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.ended = make(chan error, 1)
	go func(cmd *exec.Cmd, ended chan error) { ended <- cmd.Wait() }(s.cmd, s.ended)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", s.socket())
	}}}
	for deadline := time.Now().Add(Patience); ; time.Sleep(10 * time.Millisecond) {
		if answer, err := client.Get("http://localhost/"); err == nil {
			answer.Body.Close()
			return
		} else if time.Now().After(deadline) {
			s.Stop()
			s.t.Fatalf("the server does not answer: %v\n%s", err, s.output.Bytes())
		}
		select {
		case err := <-s.ended:
			s.cmd = nil
			s.t.Fatalf("the server ended: %v\n%s", err, s.output.Bytes())
		default:
		}
	}
}

// Stop kills the server.
func (s *Server) Stop() {
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Kill()
	<-s.ended
	s.cmd = nil
}

// Files returns the directory that holds a bucket's objects as files.
func (s *Server) Files(bucket string) string { return filepath.Join(s.dir, "data", bucket) }
