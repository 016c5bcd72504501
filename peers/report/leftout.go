package report

import (
	"fmt"
	"strings"
)

// LeftOut tells of a host whose changes came with those of others, and of whom nothing counts here.
type LeftOut struct {
	ID      string `json:"id"`
	Changes uint64 `json:"changes"`         // at the least
	Name    string `json:"name,omitempty"`  // here; none: it was never paired with this host
	Level   string `json:"level,omitempty"` // the highest that it has here
	Via     string `json:"via"`             // who brought the last one, as it is called here
	// What Via says of a host that this one is not paired with; none: nothing, as long as it is not connected, or does not know the other by itself.
	Calls     string   `json:"via_calls_it,omitempty"`
	Addresses []string `json:"addresses,omitempty"`
	// MayBe is a name that it can have here.
	MayBe string `json:"may_be_called,omitempty"`
}

// Stranger reports whether nobody here has ever decided about the host.
func (l *LeftOut) Stranger() bool { return l.Name == "" }

// Text tells of it, and what can be done, in one line for people.
func (l *LeftOut) Text() string {
	id := ShortID(l.ID)
	was := "s"
	if l.Changes == 1 {
		was = ""
	}
	switch {
	case l.Level == "blocked":
		return fmt.Sprintf("%d change%s by %s, which is revoked here, came by %s and %s left out; other hosts count what they took of it", l.Changes, was, l.Name, l.Via, are(l.Changes))
	case !l.Stranger():
		return fmt.Sprintf("%d change%s by %s, which has the level %s here, %s left out: sharefs grant %s write has them come", l.Changes, was, l.Name, l.Level, are(l.Changes), l.Name)
	}
	who := id + ", which came by " + l.Via + ","
	if l.Calls != "" {
		who = l.Calls + " (" + id + ", known to " + l.Via + ")"
	}
	return fmt.Sprintf("%d change%s by %s %s left out: sharefs pair %s, or, if gone, sharefs peers gone %s", l.Changes, was, who, are(l.Changes), id, id)
}

// Who says who a stranger is, in a few words, with the way to know it: by a part of its id where changes of it are left out, for then sharefs pair finds the rest.
func (l *LeftOut) Who() string {
	id := l.ID
	if l.Changes > 0 {
		id = ShortID(id)
	}
	text := "not paired with this host: sharefs pair " + id
	if l.Calls != "" {
		text = "known to " + l.Via + " as " + l.Calls + ", and " + text
	}
	return text
}

func are(n uint64) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

// ShortID is the first part of a host's id, by which sharefs pair finds the rest where the host is known.
func ShortID(id string) string {
	short, _, _ := strings.Cut(id, "-")
	return short
}
