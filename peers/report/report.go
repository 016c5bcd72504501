// Package report is what a mount tells of its peers, as JSON: the daemon writes it, the tool reads it, and neither needs the other. Lists are never null.
package report

import (
	"fmt"
	"strings"
	"time"

	"sharefs"
)

// Peer is one entry of .share/ctl/peers.json.
type Peer struct {
	Name      string    `json:"name"`
	ID        string    `json:"id"`
	Level     string    `json:"level"` // the highest that it has anywhere
	Connected bool      `json:"connected"`
	Addresses []string  `json:"addresses"`            // where it is looked for
	Path      string    `json:"path,omitempty"`       // the one in use: "udp 192.0.2.1:7274"
	RTTMS     float64   `json:"rtt_ms,omitempty"`     // round trip of that path, milliseconds
	Since     time.Time `json:"since,omitzero"`       // connected
	Heard     time.Time `json:"last_heard,omitzero"`  // when something of it came last, as long as it is connected
	Silent    bool      `json:"silent,omitempty"`     // it is connected, and did not answer when it was asked for a sign of life after that
	Seen      time.Time `json:"last_seen,omitzero"`   // connected the last time
	Error     string    `json:"last_error,omitempty"` // why it is not connected, or what is wrong although it is
	NextTry   time.Time `json:"next_try,omitzero"`    // dialed again then, or when it is heard of
	How       string    `json:"paired_by"`            // link, lan, hand
	Paired    time.Time `json:"paired"`
	Calls     string    `json:"calls_itself,omitempty"` // where that is not its name here
	Lost      bool      `json:"lost,omitempty"`         // revoked in favour of another key
	LeftOut   uint64    `json:"left_out,omitempty"`     // changes by it that came and do not count here
	Why       string    `json:"why,omitempty"`          // something is lacking, or not sent or taken; empty: nothing is
	Cuts      []Cut     `json:"revoked_by,omitempty"`   // other hosts that have revoked it, as far as they count here
	Files     *Files    `json:"files,omitempty"`        // how files travel; none: they do not
	Limits    *Limits   `json:"limits,omitempty"`       // none: there are none
	Backup    *Backup   `json:"backup,omitempty"`       // what it keeps for this host; none: it is not to
	Keeps     *Keeps    `json:"keeps,omitempty"`        // what this host keeps for it; none: nothing
}

// Limits bound what a peer may cost this host. 0: there is no bound of its own.
type Limits struct {
	Up      uint64 `json:"up"`   // bytes of content a second that it is sent
	Down    uint64 `json:"down"` // and that are taken of it
	Quota   uint64 `json:"quota"`
	Records uint64 `json:"records"`
	Domain  string `json:"domain,omitempty"` // what fails together with it
	Text    string `json:"text"`             // as words of sharefs peers limit
}

// Former is what stands for a level where a key is one that this host had before it came back from a backup ([ByRecovery]), or that of a host that is gone.
const Former = "former"

// ByRecovery is how a key was paired that this host had before.
const ByRecovery = "recovery"

// Here is what this host is called among those who wrote something.
const Here = "here"

// FirstBranch is what the work on no branch is called when one is switched to. No peer is called so.
const FirstBranch = "main"

// Reserved says why a name that stands behind FILE@@, or among the versions to choose from, means something else already; empty: it does not.
func Reserved(name string) string {
	switch {
	case strings.EqualFold(name, Here):
		return "it is what this host is called among those that wrote a file"
	case strings.EqualFold(name, FirstBranch):
		return "it is what sharefs switch calls the work on no branch"
	}
	return ""
}

// AuthorName is what a host is called that wrote something: [Here] if it is this one, otherwise the name that it has among the peers here, or a part of its id where it has none. A peer
// that is called as this host is told apart by its id.
func AuthorName(id, self sharefs.PeerID, name string) string {
	switch {
	case id == self:
		return Here
	case name == "":
		return id.Short()
	case strings.EqualFold(name, Here):
		return name + "-" + id.Short()
	}
	return name
}

// Pairing is .share/ctl/pairing.json.
type Pairing struct {
	ID        string   `json:"id"` // of this host
	Name      string   `json:"name"`
	Listening string   `json:"listening,omitempty"` // the address; empty: nowhere
	Addresses []string `json:"addresses"`
	Error     string   `json:"error,omitempty"` // why it does not listen
	Asked     []Window `json:"asked"`
	Answers   []Answer `json:"answers"` // to the last commands
}

// Answer is what became of a command.
type Answer struct {
	Asked string `json:"asked_as"`
	Error string `json:"error,omitempty"`
	Kind  uint8  `json:"kind,omitempty"` // of the error
	// Changes are what a purge does to the tree.
	Changes []Change `json:"changes,omitempty"`
	// CutBy is the host behind whose revocation that was written which is taken back; none: it is all that the peer did.
	CutBy string `json:"cut_by,omitempty"`
	// Says is what a peer answered that was asked what it lets this host read.
	Says string `json:"says,omitempty"`
}

// What a peer says that is asked whether this host may read something there.
const (
	SaysReads   = "reads"   // it may
	SaysRefuses = "refuses" // it may not
	SaysNothing = "nothing" // it is there and does not say, for its ShareFS is older
	SaysSilent  = "silent"  // it is connected, and nothing has come of it since it was asked
	SaysAway    = "away"    // it is not connected
)

// Change is what becomes of a name where what a peer did is taken back.
type Change struct {
	What string `json:"what"` // removed, restored, moved, content, attributes
	Path string `json:"path"`
	From string `json:"from,omitempty"`
}

// States of a [Window].
const (
	Open    = "open"    // it waits
	Done    = "done"    // paired
	Failed  = "failed"  // Error says why
	Expired = "expired" // nobody came
	Closed  = "closed"  // by the user
)

// Window is one attempt to pair that somebody here has asked for.
type Window struct {
	Asked      string      `json:"asked_as"` // by which the tool knows its own
	State      string      `json:"state"`
	Link       string      `json:"link,omitempty"` // to be given to the other host
	LAN        bool        `json:"lan"`            // looks for others on the local network
	Expires    time.Time   `json:"expires"`
	Error      string      `json:"error,omitempty"`
	Candidates []Candidate `json:"candidates"`
	Paired     *Paired     `json:"paired,omitempty"`
}

// States of a [Candidate].
const (
	Compare  = "compare"  // the digits wait for an answer here
	Waits    = "waits"    // for the answer there
	Denied   = "denied"   // the digits differ, as one of both says
	Vanished = "vanished" // the other host is gone
)

// Candidate is a host that was found on the local network.
type Candidate struct {
	Number int    `json:"number"`
	Name   string `json:"name"` // as it calls itself, made a word
	ID     string `json:"id"`
	Digits string `json:"digits"`
	State  string `json:"state"`
}

// Paired is how pairing ended.
type Paired struct {
	Name  string `json:"name"`
	ID    string `json:"id"`
	Level string `json:"level"`
	Again bool   `json:"again"`           // it was a peer already
	Freed bool   `json:"freed,omitempty"` // it was revoked before
	Waits bool   `json:"waits,omitempty"` // for the other host to do the same, as far as is known: the id was typed here
	Twin  string `json:"twin,omitempty"`  // a peer with another key has the name that it calls itself by
	Calls string `json:"calls_itself,omitempty"`
	// Unnamed: its name here is the one that it says once it is connected.
	Unnamed bool `json:"unnamed,omitempty"`
	// Reserved is why it is not called here as it calls itself, where that is for the name and not for a twin.
	Reserved string `json:"reserved,omitempty"`
}

// Text tells of a peer in lines for people.
func (p *Peer) Text() string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-10s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("Name", "%s", p.Name)
	if p.Calls != "" {
		line("", "it calls itself %s", p.Calls)
	}
	line("Id", "%s", p.ID)
	line("Level", "%s", p.Level)
	line("Paired", "%s, by %s", when(p.Paired), p.How)
	if p.Lost && p.Level != Former {
		line("", "its key is lost: another one has taken its place")
	}
	for _, text := range p.Revocations() {
		line("", "%s", text)
	}
	switch {
	case p.Level == Former && p.How != ByRecovery:
		line("", "it is gone: what was signed with its key counts here, and nobody who has that is let in; sharefs revoke %s ends that", p.Name)
	case p.Level == Former:
		line("", "this host had it before it came back from a backup: what was signed with it counts here, and nobody who has it is let in; sharefs revoke %s ends that", p.Name)
	case p.Connected:
		line("Connected", "since %s, %s, round trip %.1f ms", when(p.Since), p.Path, p.RTTMS)
		if p.Silent {
			line("", "it does not answer: nothing was heard of it since %s, and what is said here is as of then", when(p.Heard))
		}
		if p.Error != "" {
			line("", "%s", p.Error)
		}
	default:
		line("Connected", "no")
		if !p.Seen.IsZero() {
			line("", "last seen %s", when(p.Seen))
		}
		if p.Error != "" {
			line("", "%s", p.Error)
		}
		if !p.NextTry.IsZero() {
			line("", "it is dialed again at %s, or when it is heard of", p.NextTry.Local().Format("15:04:05"))
		}
	}
	if p.Files != nil {
		line("Files", "%s", p.Files.Text())
		if p.Files.Sent > 0 || p.Files.Received > 0 {
			line("", "content sent %d bytes, received %d bytes since it is connected", p.Files.Sent, p.Files.Received)
		}
	} else if !p.Lost {
		line("Files", "none: it may not read all of the share")
	}
	if p.Backup != nil {
		for i, text := range p.Backup.Lines() {
			line([]string{"Backup", ""}[min(i, 1)], "%s", text)
		}
	}
	if p.Keeps != nil {
		line("Keeps", "%s", p.Keeps.Text())
	}
	if p.Limits != nil {
		line("Limits", "%s", p.Limits.Text)
	}
	for i, a := range p.Addresses {
		name := "Addresses"
		if i > 0 {
			name = ""
		}
		line(name, "%s", a)
	}
	return b.String()
}

func when(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }
