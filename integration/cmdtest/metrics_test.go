package cmdtest

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// A mount tells programs how it is: in a file always, and over HTTP where share.toml says so.
func TestMetrics(t *testing.T) {
	point, dir := place(t)
	listen := func(at string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "share.toml"), []byte("[metrics]\nlisten = \""+at+"\"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	listen("127.0.0.1:0")
	mustMount(t, "--store", dir, point)
	writeFile(t, filepath.Join(point, "a"), "text")
	text, err := os.ReadFile(filepath.Join(point, ".share/ctl/metrics"))
	if err != nil {
		t.Fatal(err)
	}
	found, err := promlint.New(bytes.NewReader(text)).Lint()
	if err != nil || len(found) > 0 || !regexp.MustCompile(`(?m)^sharefs_journal_commits_total [1-9]`).Match(text) || !bytes.Contains(text, []byte("\nsharefs_fuse_requests_total{op=")) {
		t.Errorf("%v, %v\n%s", found, err, text)
	}
	log, err := os.ReadFile(filepath.Join(dir, "daemon.log"))
	if err != nil {
		t.Fatal(err)
	}
	url := regexp.MustCompile(`http://127\.0\.0\.1:[0-9]+/metrics`).FindString(string(log))
	if url == "" {
		t.Fatalf("the log does not say where metrics are:\n%s", log)
	}
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	text, err = io.ReadAll(r.Body)
	r.Body.Close()
	if err != nil || r.StatusCode != http.StatusOK || !bytes.Contains(text, []byte("\nsharefs_journal_commits_total ")) {
		t.Errorf("%s, %v\n%s", r.Status, err, text)
	}
	unmount(t, point)
	// An address that somebody has: the mount works, and says so.
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	listen(taken.Addr().String())
	a := mount(t, "--store", dir, point)
	if a.exit != 0 || !strings.Contains(a.err, "no metrics over HTTP") {
		t.Errorf("%+v", a)
	}
	if out := must(t, point, "status"); !strings.Contains(out, "no metrics over HTTP: serve metrics "+taken.Addr().String()) {
		t.Errorf("%s", out)
	}
	unmount(t, point)
}
