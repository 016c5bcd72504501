package report

import "testing"

func TestLeftOutText(t *testing.T) {
	const id = "cw2fv7a-24tbmnl"
	for _, c := range []struct {
		of   LeftOut
		want string
	}{
		{LeftOut{ID: id, Changes: 1, Via: "anna"}, "1 change by cw2fv7a, which came by anna, is left out: sharefs pair cw2fv7a, or, if gone, sharefs peers gone cw2fv7a"},
		{LeftOut{ID: id, Changes: 312, Via: "anna", Calls: "bert", MayBe: "bert-2", Addresses: []string{"192.0.2.1:1", "192.0.2.2:2"}},
			"312 changes by bert (cw2fv7a, known to anna) are left out: sharefs pair cw2fv7a, or, if gone, sharefs peers gone cw2fv7a"},
		{LeftOut{ID: id, Changes: 2, Via: "anna", Name: "bert", Level: "read"}, "2 changes by bert, which has the level read here, are left out: sharefs grant bert write has them come"},
		{LeftOut{ID: id, Changes: 2, Via: "anna", Name: "bert", Level: "blocked"}, "2 changes by bert, which is revoked here, came by anna and are left out; other hosts count what they took of it"},
	} {
		if got := c.of.Text(); got != c.want {
			t.Errorf("%s\nwant\n%s", got, c.want)
		}
	}
}

// What is said of each host has room in a line or two of a terminal.
func TestLeftOutIsShort(t *testing.T) {
	l := LeftOut{ID: "cw2fv7a-24tbmnl-aaaaaaa-bbbbbbb-ccccccc-ddddddd-eeeeeee-fffffff", Changes: 123456, Via: "anna", Calls: "bertolt", MayBe: "bertolt-2", Addresses: []string{"192.0.2.1:12345", "192.0.2.2:12345", "192.0.2.3:12345"}}
	if text := l.Text(); len(text) > 130 {
		t.Errorf("%d: %s", len(text), text)
	}
	if got, want := l.Who(), "known to anna as bertolt, and not paired with this host: sharefs pair cw2fv7a"; got != want {
		t.Errorf("%q", got)
	}
	l.Calls, l.Changes = "", 0
	if l.Who() != "not paired with this host: sharefs pair "+l.ID {
		t.Errorf("%q", l.Who())
	}
	if l.Changes = 1; l.Who() != "not paired with this host: sharefs pair cw2fv7a" {
		t.Errorf("%q", l.Who())
	}
}
