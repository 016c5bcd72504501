package report

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// What others have revoked is told with what can be done here, where something can.
func TestRevocations(t *testing.T) {
	at := time.Date(2026, 11, 23, 18, 40, 0, 0, time.Local)
	p := Peer{Name: "bert", Level: "write", Cuts: []Cut{{"anna", at}, {"cleo", at.Add(time.Hour)}}}
	if got := p.Revocations(); !slices.Equal(got, []string{"anna revoked bert on 2026-11-23 18:40: sharefs revoke bert does it here", "cleo revoked bert on 2026-11-23 19:40: sharefs revoke bert does it here"}) {
		t.Error(got)
	}
	if !strings.Contains(p.Text(), "anna revoked bert on 2026-11-23 18:40: sharefs revoke bert does it here\n") {
		t.Error(p.Text())
	}
	p.Level = "blocked"
	if got := p.Revocations(); len(got) != 2 || got[0] != "anna revoked bert on 2026-11-23 18:40" {
		t.Error(got)
	}
	p.Level = Former
	if got := p.Revocations(); len(got) != 2 || got[0] != "anna revoked bert on 2026-11-23 18:40" {
		t.Error(got)
	}
	p.Cuts = nil
	if got := p.Revocations(); got != nil {
		t.Error(got)
	}
	o := Overrun{Peer: "bert", By: "anna", Changes: 214}
	if got := o.Text(); got != "214 changes by bert are past where anna revoked it, and stay here, for they are many: sharefs revoke bert --cut takes them back, with --dry-run it shows them" {
		t.Error(got)
	}
}
