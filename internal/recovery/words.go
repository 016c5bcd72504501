package recovery

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/tyler-smith/go-bip39/wordlists"

	"sharefs"
)

const (
	// Lines is how many lines of words a sheet has.
	Lines     = 8
	wordBits  = 11
	dataWords = 4
	lineWords = dataWords + 1 // with the check word
	list      = 1 << wordBits
	shortest  = 4 // letters that tell words apart
)

// index finds words by their first letters.
var index = func() map[string]int {
	m := make(map[string]int, list)
	for i, w := range wordlists.English {
		m[stem(w)] = i
	}
	return m
}()

func stem(word string) string { return word[:min(len(word), shortest)] }

// find returns the number of a word, which may be written in any case and cut to four letters or more.
func find(word string) (int, bool) {
	word = strings.ToLower(word)
	i, ok := index[stem(word)]
	return i, ok && strings.HasPrefix(wordlists.English[i], word) && (len(word) >= shortest || word == wordlists.English[i])
}

// checkWord returns the number of the fifth word of a line; lines are counted from 1.
func checkWord(line int, words []int) int {
	b := []byte{byte(line)}
	for _, w := range words {
		b = binary.BigEndian.AppendUint16(b, uint16(w))
	}
	h := sha256.Sum256(append([]byte("sharefs recovery line "), b...))
	return int(binary.BigEndian.Uint16(h[:]) >> (16 - wordBits))
}

// Words returns the lines of words.
func (s *Sheet) Words() ([Lines][]string, error) {
	var out [Lines][]string
	b, err := s.bytes()
	if err != nil {
		return out, err
	}
	words := split(b)
	for i := range out {
		w := words[i*dataWords : (i+1)*dataWords]
		for _, n := range append(w[:dataWords:dataWords], checkWord(i+1, w)) {
			out[i] = append(out[i], wordlists.English[n])
		}
	}
	return out, nil
}

// split cuts bytes into numbers of 11 bits; join puts them together.
func split(b []byte) (words []int) {
	acc, bits := 0, 0
	for _, c := range b {
		acc, bits = acc<<8|int(c), bits+8
		if bits >= wordBits {
			bits -= wordBits
			words = append(words, acc>>bits)
			acc &= 1<<bits - 1
		}
	}
	return words
}

func join(words []int) (b []byte) {
	acc, bits := 0, 0
	for _, w := range words {
		acc, bits = acc<<wordBits|w, bits+wordBits
		for bits >= 8 {
			bits -= 8
			b = append(b, byte(acc>>bits))
			acc &= 1<<bits - 1
		}
	}
	return b
}

// ParseLine reads the words of one line, counted from 1, and returns their numbers. It errors with KindInvalid and says which word is wrong where that
// can be told, and which one was perhaps meant.
func ParseLine(line int, text string) ([]int, error) {
	wrong := func(format string, args ...any) error {
		return &sharefs.Error{Op: "read the recovery sheet", Path: fmt.Sprintf("line %d", line), Kind: sharefs.KindInvalid, Detail: fmt.Sprintf(format, args...)}
	}
	fields := strings.Fields(text)
	if len(fields) != lineWords {
		return nil, wrong("it has %d words, the last of which is the check word, not %d", lineWords, len(fields))
	}
	words := make([]int, lineWords)
	unknown := -1
	for i, f := range fields {
		n, ok := find(f)
		if ok {
			words[i] = n
			continue
		}
		if unknown >= 0 {
			return nil, wrong("words %d and %d, %q and %q, are not in the list", unknown+1, i+1, fields[unknown], f)
		}
		unknown, words[i] = i, -1
	}
	if unknown < 0 && checkWord(line, words[:dataWords]) == words[dataWords] {
		return words[:dataWords], nil
	}
	hint := ""
	if g := guess(line, words, fields, unknown); g != "" {
		hint = "; perhaps " + g + " is meant"
	} else if unknown >= 0 {
		if w := nearest(fields[unknown]); w != "" {
			hint = fmt.Sprintf("; perhaps %q is meant, but another word of the line is wrong then, or in another place", w)
		}
	}
	if unknown >= 0 {
		return nil, wrong("word %d, %q, is not in the list%s", unknown+1, fields[unknown], hint)
	}
	return nil, wrong("its words do not agree with the last of them, which checks them: one is wrong, or in another place%s", hint)
}

// guess looks for the line that was meant: with one word like the one that was written in its place, or with two neighbours that have changed places.
func guess(line int, words []int, written []string, unknown int) string {
	holds := func() bool { return checkWord(line, words[:dataWords]) == words[dataWords] }
	best, at := "", far
	for i, was := range words {
		if unknown >= 0 && i != unknown {
			continue
		}
		for n, w := range wordlists.English {
			d := distance(strings.ToLower(written[i]), w)
			if d >= at {
				continue
			}
			words[i] = n
			if holds() {
				best, at = fmt.Sprintf("%q as word %d", w, i+1), d
			}
		}
		words[i] = was
	}
	if best != "" || unknown >= 0 {
		return best
	}
	for i := range dataWords {
		words[i], words[i+1] = words[i+1], words[i]
		if holds() {
			best = fmt.Sprintf("%q before %q", wordlists.English[words[i]], wordlists.English[words[i+1]])
		}
		words[i], words[i+1] = words[i+1], words[i]
	}
	return best
}

// nearest returns the word of the list that is most like one that is not in it, or "" where none is, or more than one is as much.
func nearest(written string) string {
	best, at := "", far
	for _, w := range wordlists.English {
		switch d := distance(strings.ToLower(written), w); {
		case d < at:
			best, at = w, d
		case d == at:
			best = ""
		}
	}
	return best
}

// far is the distance of words that are not alike.
const far = 3

// distance is how many letters are inserted, left out, changed, or have changed places with their neighbour, where that is less than far (optimal string
// alignment: Damerau, 1964, with no letter touched twice), else far. Words of more than 16 letters are far from all.
func distance(a, b string) int {
	if len(a) > 16 || len(b) > 16 || len(a)-len(b) >= far || len(b)-len(a) >= far {
		return far
	}
	var before, row, next [17]int // of a without its last two letters, without the last, and with it
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		next[0] = i + 1
		for j := range len(b) {
			same := row[j]
			if a[i] != b[j] {
				same++
			}
			next[j+1] = min(next[j]+1, row[j+1]+1, same)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				next[j+1] = min(next[j+1], before[j-1]+1)
			}
		}
		before, row = row, next
	}
	return min(row[len(b)], far)
}
