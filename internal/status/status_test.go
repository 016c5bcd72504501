package status

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

func sample() *Status {
	at := time.Date(2026, 11, 20, 10, 0, 0, 5e6, time.Local)
	return &Status{
		Version: "1.2.3", PID: 42, Started: at,
		Mount:    Mount{Point: "/home/a b", Source: "work", Store: "/s", SettleMS: 1000},
		Content:  Content{Passthrough: true, SelfTest: Test{State: "passed", Detail: "16 writes of 4 KiB stayed out of the daemon"}},
		Now:      Now{OpenFiles: 3, ResidentBytes: 1 << 20},
		Journal:  Journal{Commits: 1234},
		Capture:  Capture{Captured: 7, QueueNow: 2, QueueBytes: 2048, PlainBytes: 100, StoredBytes: 50},
		Space:    Space{TotalBytes: 1 << 40, AvailableBytes: 1 << 39},
		Requests: map[string]uint64{"LOOKUP": 10, "WRITE": 0, "OPEN": 20, "A": 10},
	}
}

func TestTheTextSaysWhatIsNowAndWhatSinceTheMount(t *testing.T) {
	s := sample()
	text := s.Text(s.Started.Add(3 * time.Minute))
	for _, want := range []string{
		"ShareFS      1.2.3, process 42, mounted since 2026-11-20 10:00:00.005 (3 min)\n",
		"Mount        '/home/a b'\n", "Store        work in /s\n", "Disk         512 GiB of 1.0 TiB available\n",
		"Content      passthrough: ", "Self-test    passed: 16 writes", "7 captured since mount, 2 waiting now (2.0 KiB); a file settles after 1 s\n",
		"Requests     40 since mount: OPEN 20, A 10, LOOKUP 10\n", "Problems     none\n", "1,234 changes since mount; now 0 not synced",
		"Checkpoint   none yet\n",
		"History      every moment is kept\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if strings.Contains(text, "Share keys") {
		t.Errorf("one key is worth no line:\n%s", text)
	}
	s.Keys = Keys{Known: 4, Shares: 2, Share: "0123456789abcdef0123456789abcdef", Epoch: 3}
	s.Problems = []string{"the disk is full", "b\x1b[0m"}
	s.Checkpoint = Checkpoint{Generation: 2, Rows: 5000, Bytes: 2048, UncopiedNow: 1}
	s.Mount.ReadOnly, s.Content.Passthrough, s.Content.Reason = true, false, "passthrough=off"
	s.Tier = &Tier{URL: "s3://h/b", Files: 2, Bytes: 2048, BacklogFiles: 1, BacklogBytes: 1024, BehindSince: s.Started}
	text = s.Text(s.Started)
	for _, want := range []string{
		"Problems     the disk is full\n", `b\x1b[0m` + "\n", "read-only\n",
		"Content      served: reads and writes go through the daemon (passthrough=off)\n",
		"Share keys   4 keys, of 2 shares; in use is epoch 3 of share 01234567\n",
		"Bucket       s3://h/b: 2 files, 2.0 KiB\n", "             it lacks 1 file, 1.0 KiB, since 2026-11-20 10:00:00\n",
		"Checkpoint   5,000 rows and the changes since, 2.0 KiB; now 1 change not in it\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
}

func TestJSONIsReadBackTheSame(t *testing.T) {
	s := sample()
	s.Started = s.Started.UTC()
	back := new(Status)
	if err := json.Unmarshal(s.JSON(), back); err != nil || !reflect.DeepEqual(s, back) {
		t.Fatalf("%v\n%+v\n%+v", err, s, back)
	}
}

func TestLowSpace(t *testing.T) {
	for _, c := range [...]struct{ total, want uint64 }{{0, 0}, {100 << 20, 100 << 17}, {2 << 30, 256 << 20}, {1 << 40, 256 << 20}} {
		if got := LowSpace(c.total, 256<<20); got != c.want {
			t.Errorf("of %d bytes: %d", c.total, got)
		}
	}
}
