package status

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"sharefs/internal/term"
	"sharefs/peers/report"
)

// mostPeers is how many peers a screen has room for; those with something to tell come first.
const mostPeers = 12

// labels is the width of what stands before each line.
const labels = 13

// Screen is what people want to know of a mount, on one screen: how it is, what each peer has and lacks and why, and what somebody should see to. Of peers those are listed that the caller may
// see. Lines are cut at a width, but for problems; now is when.
func (s *Status) Screen(peers []report.Peer, now time.Time, width int) string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		b.WriteString(cut(fmt.Sprintf("%-*s%s", labels, name, fmt.Sprintf(format, args...)), width) + "\n")
	}
	mode := ""
	if s.Mount.ReadOnly {
		mode = ", read-only"
	}
	line("ShareFS", "%s, process %d, mounted for %s%s", s.Version, s.PID, term.Span(now.Sub(s.Started)), mode)
	for i, part := range fold([]string{term.Quote(s.Mount.Point), "its store is " + term.Quote(s.Mount.Store)}, width-labels) {
		line([]string{"Mount", ""}[i], "%s", part)
	}
	line("Disk", "%s", s.disk())
	if s.Room != nil {
		for i, part := range fold(s.Room.parts(), width-labels) {
			line([]string{"Room", ""}[min(i, 1)], "%s", part)
		}
		if text := s.Room.lacks(); text != "" {
			line("Pinned", "%s", text)
		}
	}
	waits := ""
	if c := &s.Capture; c.QueueNow > 0 {
		waits = fmt.Sprintf(", %s waiting now (%s)", queue(c.QueueNow), term.Size(c.QueueBytes))
	}
	for i, part := range fold([]string{term.Count(s.Capture.Captured) + " captured since mount" + waits, s.history()}, width-labels) {
		line([]string{"Versions", ""}[i], "%s", part)
	}
	if t := s.Tier; t != nil {
		state := "complete"
		switch {
		case !t.BehindSince.IsZero():
			state = fmt.Sprintf("lacks %s, %s, for %s", term.Of(uint64(t.BacklogFiles), "file"), term.Size(uint64(t.BacklogBytes)), term.Span(now.Sub(t.BehindSince).Round(time.Second)))
		case t.Complete.IsZero():
			state = "not looked through yet"
		}
		line("Bucket", "%s; %s", state, term.Clean(t.URL))
	}
	if p := s.Peers; p != nil {
		silent := ""
		if n := count(peers, func(p *report.Peer) bool { return p.Silent }); n > 0 {
			silent = fmt.Sprintf(", %s of them silent", term.Count(n))
		}
		line("Peers", "%s of %s connected%s", term.Count(uint64(p.Connected)), term.Count(uint64(p.Known)), silent)
		if p.Sync != nil {
			for i, part := range fold(syncParts(p.Sync), width-labels) {
				line([]string{"Changes", ""}[min(i, 1)], "%s", part)
			}
			for i, text := range coming(p.Sync.Coming) {
				line([]string{"Coming", ""}[min(i, 1)], "%s", text)
			}
		}
		others := slices.DeleteFunc(slices.Clone(peers), func(p report.Peer) bool { return p.Level == report.Former })
		for _, text := range peerTable(others, now, width) {
			b.WriteString(cut(text, width) + "\n")
		}
	}
	if len(s.Problems) == 0 {
		line("Problems", "none")
	}
	for i, p := range s.Problems {
		fmt.Fprintf(&b, "%-*s%s\n", labels, []string{"Problems", ""}[min(i, 1)], term.Clean(p))
	}
	return b.String()
}

// cut makes a line no wider than a screen; 0: there is none.
func cut(line string, width int) string {
	if n := utf8.RuneCountInString(line); width <= 0 || n <= width {
		return line
	}
	return string([]rune(line)[:width-1]) + "…"
}

// count counts peers of which something holds.
func count(peers []report.Peer, holds func(*report.Peer) bool) (n uint64) {
	for i := range peers {
		if holds(&peers[i]) {
			n++
		}
	}
	return n
}

// fold puts parts into as few lines as a width allows; below 1: into one.
func fold(parts []string, width int) (lines []string) {
	for _, part := range parts {
		if n := len(lines) - 1; n >= 0 && (width < 1 || utf8.RuneCountInString(lines[n])+2+utf8.RuneCountInString(part) <= width) {
			lines[n] += "; " + part
			continue
		}
		lines = append(lines, part)
	}
	return lines
}

// peerTable tells of peers, those first of which there is something to tell. A reason that a line has no room for has the next one.
func peerTable(peers []report.Peer, now time.Time, width int) (lines []string) {
	if len(peers) == 0 {
		return nil
	}
	list := slices.Clone(peers)
	slices.SortStableFunc(list, func(a, b report.Peer) int { return cmp.Compare(rank(&a), rank(&b)) })
	more := len(list) - mostPeers
	if more > 0 {
		list = list[:mostPeers]
	}
	rows := [][]string{{"PEER", "LEVEL", "CONNECTED", "IT LACKS", "WE LACK", "WHY"}}
	for i := range list {
		p := &list[i]
		up := "no"
		switch {
		case p.Silent:
			up = "silent, " + span(now.Sub(p.Heard))
		case p.Connected:
			up = span(now.Sub(p.Since))
		case !p.Seen.IsZero():
			up = "no, " + span(now.Sub(p.Seen))
		}
		theirs, ours := lacking(p)
		rows = append(rows, []string{cut(term.Clean(p.Name), 14), term.Clean(p.Level), up, theirs, ours, term.Clean(Why(p))})
	}
	wide := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			wide[i] = max(wide[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range rows {
		var b strings.Builder
		last := len(row) - 1
		for i, cell := range row[:last] {
			b.WriteString("  " + cell + strings.Repeat(" ", wide[i]-utf8.RuneCountInString(cell)))
		}
		text := strings.TrimRight(b.String()+"  "+row[last], " ")
		if width > 0 && utf8.RuneCountInString(text) > width {
			lines = append(lines, strings.TrimRight(b.String(), " "))
			text = "      " + row[last]
		}
		lines = append(lines, text)
	}
	if more > 0 {
		lines = append(lines, fmt.Sprintf("  and %s: sharefs peers", term.Of(uint64(more), "more peer")))
	}
	return lines
}

// span is a time in one unit.
func span(d time.Duration) string {
	words := strings.Fields(term.Span(d))
	return strings.Join(words[:min(2, len(words))], " ")
}

// rank puts peers of which somebody should know something before others.
func rank(p *report.Peer) int {
	switch f, b := p.Files, p.Backup; {
	case len(p.Cuts) > 0 && p.Level != "blocked":
		return 0
	case b != nil && p.Connected && (b.Error != "" || b.Failed.After(b.Checked)):
		return 0
	case p.Keeps.WantsText() != "":
		return 0
	case b != nil && !b.Behind.IsZero():
		return 1
	case b != nil:
		return 3
	case f != nil && (f.Error != "" || f.Held > 0), p.Connected && p.Error != "":
		return 0
	case f != nil && p.Connected && (f.Lacks > 0 && !f.Unknown() || f.Waiting || f.Coming > 0):
		return 1
	case f != nil && (!p.Connected || p.Silent):
		return 2
	case f != nil:
		return 3
	case p.Connected:
		return 4
	}
	return 5
}

// lacking is what a peer lacks of this host, and this host of it. Nothing is known of one that is not connected, or does not answer.
func lacking(p *report.Peer) (theirs, ours string) {
	f := p.Files
	switch b := p.Backup; {
	case b != nil && b.BacklogBytes > 0:
		return term.SizeIn(b.Quota, uint64(b.BacklogBytes)), "-"
	case b != nil && (b.Complete.IsZero() || !b.Behind.IsZero()):
		return "?", "-"
	case b != nil:
		return "nothing", "-"
	case f == nil:
		return "-", "-"
	case !p.Connected, p.Silent:
		return "?", "?"
	}
	theirs, ours = "-", "-"
	switch {
	case f.Unknown():
		theirs = "?"
	case f.Sends:
		if theirs = "nothing"; f.Lacks > 0 {
			theirs = term.Count(uint64(f.Lacks))
		}
		if f.Lacks >= report.MostLacks {
			theirs += "+"
		}
	}
	if f.Receives {
		switch ours = "nothing"; {
		case f.Coming > 0:
			ours = term.Of(uint64(f.Coming), "file")
		case f.Waiting:
			ours = "some"
		case f.Missing > 0:
			ours = term.Of(uint64(f.Missing), "file")
		}
	}
	return theirs, ours
}

// Why says why something is lacking, or is not sent or taken at all; empty: nothing is.
func Why(p *report.Peer) string {
	f := p.Files
	switch {
	case p.Lost:
		return "its key is lost"
	case p.Level == "blocked":
		return "revoked"
	case len(p.Cuts) > 0:
		return p.Cuts[0].By + " revoked it: sharefs revoke " + p.Name + " does it here"
	case p.Silent:
		return "it does not answer"
	case p.Backup != nil && p.Connected:
		return p.Backup.Short()
	case f == nil && p.Connected && p.Keeps.WantsText() != "":
		return p.Keeps.WantsText()
	case f == nil && p.Connected:
		return "it may not read"
	case !p.Connected:
		return p.Error
	}
	var parts []string
	add := func(is bool, text string) {
		if is {
			parts = append(parts, text)
		}
	}
	add(f.Held > 0, term.Count(uint64(f.Held))+" held: sharefs held")
	add(p.Keeps.WantsText() != "", p.Keeps.WantsText())
	add(f.Error != "", f.Error)
	add(p.Error != "", p.Error)
	add(f.Error == "" && !f.Sends && !f.Receives, "begins")
	add(f.Error == "" && f.Sends && !f.Receives && f.Trusted, "it has not granted this host read")
	add(f.Error == "" && f.Sends && !f.Receives && !f.Trusted, "none are taken of it: its level is below write")
	add(f.Error == "" && !f.Sends && f.Receives, "files come, and it is sent none")
	moving := "on its way"
	if f.Rate > 0 {
		moving += ", " + term.Size(uint64(f.Rate)) + "/s"
	}
	add(f.Error == "" && f.Sends && !f.Takes && f.Receives, "it takes no files from here at present")
	add(f.Error == "" && (f.Lacks > 0 && f.Takes || f.Waiting || f.Coming > 0), moving)
	return strings.Join(parts, "; ")
}
