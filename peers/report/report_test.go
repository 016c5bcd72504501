package report

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestText(t *testing.T) {
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.Local)
	p := Peer{Name: "studio", ID: "cw2fv7a-x", Level: "read", Addresses: []string{"192.0.2.1:1", "192.0.2.2:2"}, How: "link", Paired: at, Calls: "bert", Seen: at, Error: "no answer", NextTry: at}
	const want = `Name       studio
           it calls itself bert
Id         cw2fv7a-x
Level      read
Paired     2026-11-22 12:00:00, by link
Connected  no
           last seen 2026-11-22 12:00:00
           no answer
           it is dialed again at 12:00:00, or when it is heard of
Files      none: it may not read all of the share
Addresses  192.0.2.1:1
           192.0.2.2:2
`
	if got := p.Text(); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	p.Connected, p.Since, p.Path, p.RTTMS, p.Error = true, at, "udp 192.0.2.1:1", 0.42, ""
	if got := p.Text(); !strings.Contains(got, "Connected  since 2026-11-22 12:00:00, udp 192.0.2.1:1, round trip 0.4 ms\n") {
		t.Errorf("%s", got)
	}
}

// What does not apply is left out, what every peer has is there.
func TestJSON(t *testing.T) {
	text, err := json.Marshal(Peer{Addresses: []string{}})
	if want := `{"name":"","id":"","level":"","connected":false,"addresses":[],"paired_by":"","paired":"0001-01-01T00:00:00Z"}`; err != nil || string(text) != want {
		t.Errorf("%s, %v", text, err)
	}
}
