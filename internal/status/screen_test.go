package status

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"sharefs/peers/report"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func mounted() *Status {
	return &Status{Version: "1.2.3", PID: 42, Started: noon.Add(-3 * time.Minute), Mount: Mount{Point: "/home/anna/Work", Source: "work", Store: "/srv/work"},
		Capture: Capture{Captured: 1234}, Space: Space{TotalBytes: 1 << 40, AvailableBytes: 1 << 39}}
}

func TestTheScreenOfAStoreAlone(t *testing.T) {
	const want = `ShareFS      1.2.3, process 42, mounted for 3 min
Mount        /home/anna/Work; its store is /srv/work
Disk         512 GiB of 1.0 TiB available
Versions     1,234 captured since mount; every moment is kept
Problems     none
`
	if got := mounted().Screen(nil, noon, 80); got != want {
		t.Errorf("%s", got)
	}
}

func TestTheScreenWithOnePeer(t *testing.T) {
	s := mounted()
	s.Peers = &Peers{Known: 1, Connected: 1, Sync: &report.Sync{On: true, Changes: 5021}}
	s.Capture.QueueNow, s.Capture.QueueBytes = 2, 2048
	s.Tier = &Tier{URL: "s3://h/b", BacklogFiles: 1, BacklogBytes: 1024, BehindSince: noon.Add(-time.Minute)}
	peers := []report.Peer{{Name: "bert", Level: "write", Connected: true, Since: noon.Add(-72 * time.Minute), Files: &report.Files{Sends: true, Takes: true, Receives: true}}}
	const want = `Versions     1,234 captured since mount, 2 waiting now (2.0 KiB)
             every moment is kept
Bucket       lacks 1 file, 1.0 KiB, for 1 min; s3://h/b
Peers        1 of 1 connected
Changes      5,021 changes of here and of peers, all of it in the tree
  PEER  LEVEL  CONNECTED  IT LACKS  WE LACK  WHY
  bert  write  1 h        nothing   nothing
Problems     none
`
	if got := s.Screen(peers, noon, 80); !strings.HasSuffix(got, want) {
		t.Errorf("%s", got)
	}
	// Not everybody may see peers.
	if got := s.Screen(nil, noon, 80); strings.Contains(got, "PEER") || !strings.Contains(got, "1 of 1 connected") {
		t.Errorf("%s", got)
	}
}

func TestTheScreenWithTenPeers(t *testing.T) {
	s := mounted()
	s.Peers = &Peers{Known: 10, Connected: 7, Sync: &report.Sync{On: true, Changes: 120_000, Contents: 12, Bytes: 5 << 30, Names: 12, Conflicts: 2, Held: 140}}
	up := noon.Add(-26 * time.Hour)
	sharing := func(f report.Files) *report.Files {
		f.Sends, f.Takes, f.Receives = true, true, true
		return &f
	}
	peers := []report.Peer{
		{Name: "all-is-well", Level: "write", Connected: true, Since: up, Files: sharing(report.Files{})},
		{Name: "away", Level: "write", Seen: noon.Add(-49 * time.Hour), Error: "no answer from 192.0.2.7:41300", Files: &report.Files{}},
		{Name: "behind", Level: "read", Connected: true, Since: up, Files: &report.Files{Sends: true, Takes: true, Lacks: 4711, Rate: 3 << 20}},
		{Name: "comes", Level: "manage", Connected: true, Since: up, Files: sharing(report.Files{Waiting: true})},
		{Name: "disk-is-full-there", Level: "write", Connected: true, Since: up, Files: sharing(report.Files{Lacks: report.MostLacks, Error: "nothing is taken of it until 2026-11-22 12:01:00: it sent another chunk than it was asked for"})},
		{Name: "eager", Level: "write", Connected: true, Since: up, Files: sharing(report.Files{Held: 140})},
		{Name: "friend", Level: "paired", Connected: true, Since: up},
		{Name: "gone", Level: "blocked", Lost: true},
		{Name: "hostile", Level: "blocked"},
		{Name: "idle", Level: "store", Connected: true, Since: up},
	}
	const table = `Changes      120,000 changes of here and of peers
             12 contents to be fetched, 5.0 GiB; 12 names not yet as peers say
             2 conflicts (sharefs conflicts)
             140 removals and renames of peers held for you (sharefs held)
  PEER            LEVEL    CONNECTED  IT LACKS  WE LACK  WHY
  disk-is-full-…  write    1 d        100,000+  nothing
      nothing is taken of it until 2026-11-22 12:01:00: it sent another chunk t…
  eager           write    1 d        nothing   nothing  140 held: sharefs held
  behind          read     1 d        4,711     -
      none are taken of it: its level is below write; on its way, 3.0 MiB/s
  comes           manage   1 d        nothing   some     on its way
  away            write    no, 2 d    ?         ?
      no answer from 192.0.2.7:41300
  all-is-well     write    1 d        nothing   nothing
  friend          paired   1 d        -         -        it may not read
  idle            store    1 d        -         -        it may not read
  gone            blocked  no         -         -        its key is lost
  hostile         blocked  no         -         -        revoked
Problems     none
`
	got := s.Screen(peers, noon, 80)
	if !strings.Contains(got, table) {
		t.Errorf("%s", got)
	}
	if n := strings.Count(got, "\n"); n > 24 {
		t.Errorf("%d lines:\n%s", n, got)
	}
	for line := range strings.Lines(got) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	// Where it goes into a file nothing is cut.
	if all := s.Screen(peers, noon, 0); !strings.Contains(all, "it sent another chunk than it was asked for\n") {
		t.Errorf("%s", all)
	}
	for i := range 10 {
		peers = append(peers, report.Peer{Name: fmt.Sprint("more-", i), Level: "paired"})
	}
	if got := s.Screen(peers, noon, 80); !strings.Contains(got, "\n  and 8 more peers: sharefs peers\n") {
		t.Errorf("%s", got)
	}
	if peers[0].Name != "all-is-well" {
		t.Error("the list of the caller was changed")
	}
}

// What a peer calls itself, or says, cannot write on the screen what it likes.
func TestTheScreenIsClean(t *testing.T) {
	s := mounted()
	s.Peers = &Peers{Known: 1}
	s.Problems = []string{"a\x1b[0m"}
	peers := []report.Peer{{Name: "b\nc", Error: "no\x1b[2Janswer"}}
	if got := s.Screen(peers, noon, 80); strings.ContainsRune(got, '\x1b') || strings.Contains(got, "b\nc") {
		t.Errorf("%q", got)
	}
}

// A peer that others have revoked comes first, with what can be done here.
func TestTheScreenTellsOfRevocations(t *testing.T) {
	peers := []report.Peer{{Name: "anna", Level: "write", Connected: true, Since: noon, Files: &report.Files{Sends: true, Takes: true, Receives: true}},
		{Name: "bert", Level: "write", Connected: true, Since: noon, Files: &report.Files{Sends: true, Takes: true, Receives: true}, Cuts: []report.Cut{{By: "anna", At: noon}}}}
	lines := peerTable(peers, noon, 0)
	if len(lines) != 3 || !strings.Contains(lines[1], "bert") || !strings.HasSuffix(lines[1], "anna revoked it: sharefs revoke bert does it here") {
		t.Errorf("%q", lines)
	}
	peers[1].Level = "blocked"
	if lines = peerTable(peers, noon, 0); !strings.HasSuffix(lines[2], "revoked") {
		t.Errorf("%q", lines)
	}
}

// Of a peer that takes nothing of here it is not said what it lacks, which it may have by others, nor that anything is on its way.
func TestTheScreenOfWhoTakesNothing(t *testing.T) {
	for _, c := range []struct {
		files report.Files
		row   string
		text  string
	}{
		{report.Files{Sends: true, Trusted: true, Lacks: 104}, "bert write 1 min ? - it has not granted this host read",
			"it takes no files from here, and none come from it: it has not granted this host read"},
		{report.Files{Sends: true, Lacks: 104}, "bert write 1 min ? - none are taken of it: its level is below write",
			"it takes no files from here, and none are taken of it: its level here is below write"},
		{report.Files{Sends: true, Receives: true, Trusted: true, Lacks: 104}, "bert write 1 min 104 nothing it takes no files from here at present",
			"it takes no files from here at present; it lacks 104 changes of here"},
		{report.Files{Sends: true, Takes: true, Trusted: true, Lacks: 104}, "bert write 1 min 104 - it has not granted this host read; on its way",
			"it is sent files, and none come from it: it has not granted this host read; it lacks 104 changes of here"},
	} {
		s := mounted()
		s.Peers = &Peers{Known: 1, Connected: 1}
		got := s.Screen([]report.Peer{{Name: "bert", Level: "write", Connected: true, Since: noon.Add(-time.Minute), Files: &c.files}}, noon, 0)
		if !strings.Contains(strings.Join(strings.Fields(got), " "), "WHY "+c.row+" Problems") {
			t.Errorf("%+v:\n%s", c.files, got)
		}
		if text := c.files.Text(); text != c.text {
			t.Errorf("%+v: %s", c.files, text)
		}
	}
}
