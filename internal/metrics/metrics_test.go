package metrics

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"sharefs/internal/status"
	"sharefs/peers/report"
)

func sample() Source {
	at := time.Unix(1_700_000_000, 500_000_000)
	peers := []report.Peer{
		{Name: "anna", Level: "write", Connected: true, RTTMS: 1.5, Files: &report.Files{Sends: true, Lacks: 9, Sent: 1 << 20, LeftOut: at}},
		{Name: "bert", Level: "paired"},
		{Name: "carl", Level: "store", Backup: &report.Backup{Quota: 1000, Used: 900, BacklogBytes: 200, Full: &report.Full{Since: at}}, Keeps: &report.Keeps{Bytes: 5, Quota: 10}},
	}
	return Source{
		Status: func() *status.Status {
			return &status.Status{Version: "1.2.3", Started: at, Journal: status.Journal{Commits: 12, UnsyncedMS: 1500}, Tier: &status.Tier{Files: 3},
				Peers: &status.Peers{Known: 2, Connected: 1, Sync: &report.Sync{Conflicts: 4}, All: peers}, Requests: map[string]uint64{"LOOKUP": 7}, Problems: []string{"a"}}
		},
	}
}

func TestNames(t *testing.T) {
	text, err := New(sample()).Text()
	if err != nil {
		t.Fatal(err)
	}
	found, err := promlint.New(strings.NewReader(string(text))).Lint()
	for _, p := range found {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	if err != nil {
		t.Error(err)
	}
	for _, want := range []string{
		"\nsharefs_build_info{version=\"1.2.3\"} 1\n", "\nsharefs_start_time_seconds 1.7000000005e+09\n", "\nsharefs_journal_commits_total 12\n", "\nsharefs_journal_unsynced_seconds 1.5\n",
		"\n# TYPE sharefs_journal_commits_total counter\n", "\nsharefs_fuse_requests_total{op=\"LOOKUP\"} 7\n", "\nsharefs_problems 1\n", "\nsharefs_bucket_files 3\n", "\nsharefs_peers_connected 1\n",
		"\nsharefs_sync_conflicts 4\n", "\nsharefs_peer_info{level=\"write\",peer=\"anna\"} 1\n", "\nsharefs_peer_lacks_changes{peer=\"anna\"} 9\n", "\nsharefs_peer_rtt_seconds{peer=\"anna\"} 0.0015\n",
		"\nsharefs_peer_sent_bytes_total{peer=\"anna\"} 1.048576e+06\n", "\nsharefs_peer_connected{peer=\"bert\"} 0\n", "\nsharefs_peer_backup_backlog_bytes{peer=\"carl\"} 200\n", "\nsharefs_peer_backup_full{peer=\"carl\"} 1\n",
		"\nsharefs_peer_keeps_bytes{peer=\"carl\"} 5\n", "\nsharefs_peer_keeps_full{peer=\"carl\"} 0\n", "\ngo_goroutines ", "\nprocess_open_fds ",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	for _, not := range []string{"sharefs_peer_sends{peer=\"bert\"}", "sharefs_peer_backup_full{peer=\"bert\"}", "sharefs_peer_keeps_bytes{peer=\"bert\"}"} {
		if strings.Contains(string(text), not) {
			t.Errorf("%s, of one that has nothing of the kind", not)
		}
	}
	// A store alone tells of itself alone.
	alone := sample()
	alone.Status = func() *status.Status { return &status.Status{} }
	if text, err := New(alone).Text(); err != nil || strings.Contains(string(text), "sharefs_peer") || strings.Contains(string(text), "sharefs_bucket") {
		t.Errorf("%v\n%s", err, text)
	}
}

func TestListen(t *testing.T) {
	s, err := New(sample()).Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	get := func(path string) (int, string) {
		t.Helper()
		r, err := http.Get("http://" + s.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		text, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return r.StatusCode, string(text)
	}
	if code, text := get("/metrics"); code != http.StatusOK || !strings.Contains(text, "\nsharefs_journal_commits_total 12\n") {
		t.Errorf("%d %s", code, text)
	}
	if code, _ := get("/"); code != http.StatusNotFound {
		t.Error(code)
	}
	if _, err := New(sample()).Listen(s.Addr().String()); err == nil || !strings.Contains(err.Error(), "serve metrics") {
		t.Error(err)
	}
	s.Close()
	var none *Server
	none.Close()
	if _, err := http.Get("http://" + s.Addr().String() + "/metrics"); err == nil {
		t.Error("it goes on after its end")
	}
}
