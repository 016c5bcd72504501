package client

import (
	"strings"
	"testing"

	"sharefs/internal/status"
)

// Why content cannot be read that is not here is said by who there is, with what would help.
func TestElsewhere(t *testing.T) {
	for want, s := range map[string]*status.Status{
		"no other is known that could have it: sharefs pair":            {},
		"no other is connected: it can be read as soon as one is":       {Peers: &status.Peers{Known: 2}},
		"none that is connected has it, or lets this host read it: it ": {Peers: &status.Peers{Known: 2, Connected: 1}},
	} {
		if got := elsewhere(s); !strings.HasPrefix(got, "its content is not on this host, and "+want) {
			t.Errorf("%q", got)
		}
	}
}
