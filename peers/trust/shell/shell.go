// Package shell writes what a peer may in the lines of [trust.Policy.Format], but with words quoted as a shell takes them, so that a line behind "sharefs" grants just what it says.
package shell

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"sharefs"
	"sharefs/internal/term"
	"sharefs/peers/trust"
)

// Format writes the rules of one peer.
func Format(p trust.Policy, id sharefs.PeerID, name string) string {
	var b strings.Builder
	who := term.Quote(name)
	if p.Former(id) {
		fmt.Fprintf(&b, "former %s\n", who)
	}
	if ceiling := p.Ceiling(id); ceiling != trust.Manage {
		fmt.Fprintf(&b, "ceiling %s %s\n", who, ceiling)
	}
	for _, r := range p.Rules(id) {
		fmt.Fprintf(&b, "grant %s %s", who, r.Level)
		if path := r.Pattern.String(); path != "/" {
			b.WriteString(" " + term.Quote("/"+path)) // the same wherever the line is put into a shell, and no option of the tool
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// Parse reads what Format wrote, and words in double quotes, as a mount of an older ShareFS has them.
func Parse(text string, id sharefs.PeerID) (trust.Policy, error) {
	var plain strings.Builder
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		words, err := shellWords(line)
		if err != nil {
			return trust.Policy{}, &sharefs.Error{Op: "read the rules of a peer", Path: "line " + strconv.Itoa(i+1), Kind: sharefs.KindInvalid, Err: err}
		}
		for j, word := range words {
			words[j] = strconv.Quote(word)
		}
		plain.WriteString(strings.Join(words, " ") + "\n")
	}
	return trust.Parse(plain.String(), func(string) (sharefs.PeerID, bool) { return id, true })
}

// shellWords cuts a line into the words that [term.Quote] wrote, or strconv.Quote.
func shellWords(line string) (words []string, err error) {
	for {
		if line = strings.TrimLeft(line, " "); line == "" {
			return words, nil
		}
		var word strings.Builder
		for line != "" && line[0] != ' ' {
			var part string
			switch {
			case line[0] == '\'':
				part, line, err = upTo(line[1:])
			case strings.HasPrefix(line, `\'`):
				part, line = "'", line[2:]
			case strings.HasPrefix(line, "$'"):
				part, line, err = escaped(line[2:])
			case line[0] == '"':
				var quoted string
				if quoted, err = strconv.QuotedPrefix(line); err == nil {
					part, err = strconv.Unquote(quoted)
					line = line[len(quoted):]
				}
			default:
				end := strings.IndexAny(line, ` '"\$`)
				switch {
				case end < 0:
					end = len(line)
				case end == 0:
					return nil, fmt.Errorf("%q is no quoted word", line)
				}
				part, line = line[:end], line[end:]
			}
			if err != nil {
				return nil, err
			}
			word.WriteString(part)
		}
		words = append(words, word.String())
	}
}

func upTo(s string) (in, rest string, err error) {
	in, rest, ok := strings.Cut(s, "'")
	if !ok {
		return "", "", fmt.Errorf("%q has no end", s)
	}
	return in, rest, nil
}

// escaped reads what stands between $' and ', with the escapes that [term.Clean] writes.
func escaped(s string) (in, rest string, err error) {
	var b []byte
	for s != "" && s[0] != '\'' {
		if strings.HasPrefix(s, `\x`) { // a byte, not a character
			if len(s) < 4 {
				break
			}
			n, err := strconv.ParseUint(s[2:4], 16, 8)
			if err != nil {
				return "", "", err
			}
			b, s = append(b, byte(n)), s[4:]
			continue
		}
		r, _, tail, err := strconv.UnquoteChar(s, '\'')
		if err != nil {
			return "", "", fmt.Errorf("%q: %w", s, err)
		}
		b, s = utf8.AppendRune(b, r), tail
	}
	if s == "" || s[0] != '\'' {
		return "", "", fmt.Errorf("%q has no end", s)
	}
	return string(b), s[1:], nil
}
