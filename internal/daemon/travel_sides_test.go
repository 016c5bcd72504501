package daemon

import (
	"strings"
	"testing"
	"time"

	"sharefs"
	"sharefs/peers/record"
	"sharefs/peers/replica"
)

// Two hosts that are called the same wrote the sides of a conflict: each side has a name of its own, by which it alone is found, and the name of both alone finds none.
func TestSidesOfTwoOfOneName(t *testing.T) {
	side := func(author byte) *record.Record {
		r, err := record.New(record.ShareID{1}, sharefs.PeerID{author}, sharefs.HLCAt(time.Unix(1_700_000_000, 0)), &record.Version{File: sharefs.FileID{1}})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	live, second, third, own := side(1), side(2), side(1), side(3)
	c := replica.Conflict{Live: live}
	for _, rec := range []*record.Record{second, third, own} {
		c.Others = append(c.Others, replica.Other{Version: rec})
	}
	all := sidesOf(&c, func(id sharefs.PeerID) string { return map[byte]string{1: "anna", 2: "Anna", 3: "here"}[id[0]] })
	names := map[string]bool{}
	for i, rec := range []*record.Record{live, second, third, own} {
		if all[i].Record != rec || all[i].live != (rec == live) {
			t.Fatalf("side %d is another one", i)
		}
		names[strings.ToLower(all[i].name)] = true
		if called(all, all[i].name) != rec || called(all, strings.ToUpper(all[i].name)) != rec {
			t.Errorf("%s finds another one", all[i].name)
		}
	}
	if len(names) != 4 {
		t.Errorf("names are given twice: %v", names)
	}
	if called(all, "anna") != nil || called(all, "here") != own {
		t.Error("a name alone finds what it does not tell")
	}
}
