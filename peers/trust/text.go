package trust

import (
	"fmt"
	"strconv"
	"strings"

	"sharefs"
)

// The text form has a line for each rule, in the words of the tool:
//
//	# a comment
//	ceiling PEER LEVEL
//	grant   PEER LEVEL [PATH]
//	former  PEER
//
// Words are parted by spaces and tabs; one that holds such, quotes or bytes that do not print stands in double quotes, as a Go string. A peer is whatever the caller
// resolves, such as a name or a key. A line without a path is for the whole share. No peer has two ceilings, and none two rules of one path. A former key, of
// this host or of one that is gone, is granted nothing.

// TextMax bounds the text form, in bytes.
const TextMax = 1 << 20

// Parse reads the text form. Resolve finds a peer by a word of it. Errors are of [sharefs.KindInvalid] and name the line.
func Parse(text string, resolve func(word string) (sharefs.PeerID, bool)) (Policy, error) {
	var p Policy
	if len(text) > TextMax {
		return Policy{}, &sharefs.Error{Op: "read trust rules", Kind: sharefs.KindTooBig, Detail: "more than " + strconv.Itoa(TextMax) + " bytes"}
	}
	type at struct {
		peer sharefs.PeerID
		pattern,
		verb string
	}
	peers, seen := map[sharefs.PeerID]peer{}, map[at]int{}
	for i, line := range strings.Split(text, "\n") {
		refuse := func(err error, format string, args ...any) (Policy, error) {
			return Policy{}, &sharefs.Error{Op: "read trust rules", Path: "line " + strconv.Itoa(i+1), Kind: sharefs.KindInvalid, Detail: fmt.Sprintf(format, args...), Err: err}
		}
		words, err := splitWords(line)
		if err != nil {
			return refuse(err, "")
		}
		if len(words) == 0 {
			continue
		}
		verb := words[0]
		wants, known := map[string][2]int{"grant": {3, 4}, "ceiling": {3, 3}, "former": {2, 2}}[verb] // words, at least and at most
		if !known {
			return refuse(nil, "%s: a line begins with \"grant\", \"ceiling\" or \"former\"", quote(verb))
		}
		if len(words) < wants[0] || len(words) > wants[1] {
			return refuse(nil, "%d words: it is \"grant PEER LEVEL [PATH]\", \"ceiling PEER LEVEL\" or \"former PEER\"", len(words))
		}
		id, ok := resolve(words[1])
		if !ok || id.IsZero() {
			return refuse(nil, "%s: no peer of this name", quote(words[1]))
		}
		var level Level
		if len(words) > 2 {
			if level, err = ParseLevel(words[2]); err != nil {
				return refuse(err, "")
			}
		}
		var pattern Pattern
		if len(words) == 4 {
			if pattern, err = ParsePattern(words[3]); err != nil {
				return refuse(err, "")
			}
		}
		key := at{id, pattern.text, verb}
		if before := seen[key]; before != 0 {
			return refuse(nil, "line %d says the same of this peer and path: remove one of them", before)
		}
		seen[key] = i + 1
		e, known := peers[id]
		if !known {
			e.ceiling = Manage
		}
		switch verb {
		case "ceiling":
			e.ceiling = level
		case "former":
			e.former = true
		default:
			e.rules = append(e.rules, Rule{id, pattern, level})
		}
		if e.former && len(e.rules) > 0 {
			return refuse(nil, "%s is a former key of this host, or of one that is gone, and a peer: remove one of the lines", quote(words[1]))
		}
		peers[id] = e
	}
	// Each peer once: growing a policy rule by rule would copy it each time.
	for id, e := range peers {
		sortRules(e.rules)
		if e.empty() {
			delete(peers, id)
			continue
		}
		peers[id] = e
	}
	if len(peers) > 0 {
		p.peers = peers
	}
	return p, nil
}

// Format writes the text form. Name gives the word for a peer that the resolve of [Parse] understands.
func (p Policy) Format(name func(sharefs.PeerID) string) string {
	var b strings.Builder
	for _, id := range p.Peers() {
		e, who := p.peers[id], word(name(id))
		if e.former {
			fmt.Fprintf(&b, "former %s\n", who)
		}
		if e.ceiling != Manage {
			fmt.Fprintf(&b, "ceiling %s %s\n", who, e.ceiling)
		}
		for _, r := range e.rules {
			fmt.Fprintf(&b, "grant %s %s", who, r.Level)
			if r.Pattern.text != "" {
				b.WriteString(" " + word(r.Pattern.text))
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// String writes an explanation for people: the level, then the rules that speak of the path, the one that won first.
func (x Explanation) String() string {
	if x.Former {
		return "former: nobody is to have the key any more: what was signed with it is live, and nobody who has it is let in or receives anything\n"
	}
	var b strings.Builder
	r := x.Level.Rights()
	fmt.Fprintf(&b, "%s: receives %s; what it writes %s\n", x.Level, r.Receives, r.Does)
	for i, rule := range x.Rules {
		note := "a rule for a place nearer to it wins"
		switch {
		case i == 0:
			note = "wins"
		case x.Places[i] == x.Places[0]:
			note = "a rule for the same place says it more exactly"
		}
		fmt.Fprintf(&b, "  %-8s %-24s %s\n", rule.Level, word(rule.Pattern.String()), note)
	}
	if len(x.Rules) == 0 {
		fmt.Fprintf(&b, "  %-8s %-24s %s\n", x.Default, "", map[Level]string{Blocked: "there is no rule for this peer", Paired: "no rule of this peer speaks of the path"}[x.Default])
	}
	if x.Capped {
		fmt.Fprintf(&b, "  %-8s %-24s %s\n", x.Ceiling, "", "is the peer's ceiling")
	}
	return b.String()
}

// word quotes what would not be read back as one word.
func word(s string) string {
	plain := s != "" && s[0] != '#'
	for _, c := range s {
		plain = plain && c > ' ' && c != '"' && c != 0xfffd && strconv.IsPrint(c)
	}
	if plain {
		return s
	}
	return strconv.Quote(s)
}

// splitWords cuts a line into words; a "#" where a word would begin starts a comment.
func splitWords(line string) ([]string, error) {
	var words []string
	for {
		line = strings.TrimLeft(line, " \t\r")
		if line == "" || line[0] == '#' {
			return words, nil
		}
		if line[0] != '"' {
			end := strings.IndexAny(line, " \t\r")
			if end < 0 {
				end = len(line)
			}
			if strings.Contains(line[:end], `"`) {
				return nil, fmt.Errorf("%s: a quote within a word; quote the whole word", quote(line[:end]))
			}
			words, line = append(words, line[:end]), line[end:]
			continue
		}
		quoted, err := strconv.QuotedPrefix(line)
		if err != nil {
			return nil, fmt.Errorf("%s: a quoted word that does not end, or holds what no Go string does", quote(line))
		}
		s, err := strconv.Unquote(quoted)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", quote(quoted), err)
		}
		words, line = append(words, s), line[len(quoted):]
		if line != "" && !strings.ContainsRune(" \t\r", rune(line[0])) {
			return nil, fmt.Errorf("%s: a space is missing after a quoted word", quote(line))
		}
	}
}
