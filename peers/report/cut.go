package report

import (
	"fmt"
	"time"
)

// Cut tells that another host has revoked a peer.
type Cut struct {
	By string    `json:"by"`
	At time.Time `json:"at"`
}

// Revocations says who has revoked a peer, and what can be done here, where it is not revoked; in lines for people.
func (p *Peer) Revocations() (lines []string) {
	for _, c := range p.Cuts {
		line := fmt.Sprintf("%s revoked %s on %s", c.By, p.Name, c.At.Local().Format("2006-01-02 15:04"))
		if p.Level != "blocked" && p.Level != Former { // what this host did itself with a key of before is its own: who replaces it there revokes that
			line += ": sharefs revoke " + p.Name + " does it here"
		}
		lines = append(lines, line)
	}
	return lines
}

// Overrun tells of a revoked peer that wrote more past where another host revoked it than is taken back unasked.
type Overrun struct {
	Peer    string `json:"peer"`
	By      string `json:"by"`
	Changes int    `json:"changes"`
}

// Text tells of it, and what can be done, in one line for people.
func (o *Overrun) Text() string {
	return fmt.Sprintf("%d changes by %s are past where %s revoked it, and stay here, for they are many: sharefs revoke %s --cut takes them back, with --dry-run it shows them", o.Changes, o.Peer, o.By, o.Peer)
}
