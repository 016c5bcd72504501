package book

import (
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"sharefs"
)

// maxName is in bytes.
const maxName = 48

// CleanName makes a name for a peer of what it calls itself: letters, digits, ".", "_" and "-", so that it is one word for a shell, a file name, and nothing that
// plays tricks on a terminal. Letters that are not seen (U+3164, say) are none.
func CleanName(s string) string {
	s = strings.Map(func(r rune) rune {
		if r != utf8.RuneError && (unicode.IsLetter(r) && !unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r) || unicode.IsDigit(r) || r == '.' || r == '_') {
			return r
		}
		return '-'
	}, s[:min(len(s), 4*maxName)])
	s = short(s, maxName)
	for strings.Contains(s, "--") {
		s = strings.ReplaceAll(s, "--", "-")
	}
	if s == "" {
		return "peer"
	}
	return s
}

// short cuts a name to at most so many bytes, between two characters.
func short(s string, most int) string {
	for len(s) > most {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	return strings.Trim(s, ".-")
}

// quoted is a word for messages: as it was given, and in quotes if it is no name.
func quoted(word string) string {
	if word == CleanName(word) {
		return word
	}
	return strconv.Quote(word)
}

// MayName refuses a name that the user wants to give to a host, which need not be a peer yet.
func (b *Book) MayName(id sharefs.PeerID, name string) error {
	why := b.reserved(name)
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mayName(id, name, why)
}

// mayName refuses one, which is reserved if there is a reason why. Errors: KindInvalid, KindExist.
func (b *Book) mayName(id sharefs.PeerID, name, why string) error {
	refuse := func(kind sharefs.Kind, detail string) error {
		return &sharefs.Error{Op: "name a peer", Path: quoted(name), Kind: kind, Detail: detail}
	}
	switch {
	case name == "":
		return refuse(sharefs.KindInvalid, "a name is wanted")
	case name != CleanName(name):
		return refuse(sharefs.KindInvalid, "a name has letters, digits, dots, _ and -, begins and ends with neither a dot nor -, and is at most "+strconv.Itoa(maxName)+" bytes long, such as "+CleanName(name))
	case why != "":
		return refuse(sharefs.KindInvalid, why+": take another one")
	}
	for _, p := range b.peers {
		switch {
		case p.ID == id:
		case strings.EqualFold(p.Name, name):
			return refuse(sharefs.KindExist, "another peer has this name: give that one another first (sharefs peers rename), or take another one")
		case p.ID.Begins(name):
			return refuse(sharefs.KindExist, "the id of "+p.Name+" begins with it: take another one")
		}
	}
	return nil
}

// FreeName is the name that a host gets here which calls itself so.
func (b *Book) FreeName(calls string) string {
	calls = CleanName(calls)
	why := b.reserved(calls)
	b.mu.Lock()
	defer b.mu.Unlock()
	_, name := b.freeName(calls, why)
	return name
}

// freeName makes a name of what a host calls itself, which is reserved if there is a reason why: the one that is wanted, and the one that can be had.
func (b *Book) freeName(calls, why string) (want, name string) {
	if want = calls; why != "" {
		want = short("peer-"+calls, maxName)
	}
	// Nor may a peer call itself by what another one's key begins with: who grants that one something would grant it to this one.
	return want, free(want, func(s string) bool {
		return named(b.peers, s) || slices.ContainsFunc(b.peers, func(p Peer) bool { return p.ID.Begins(s) })
	})
}

// free returns the name, or one with a number behind it, that no other peer has; case does not tell names apart.
func free(name string, taken func(string) bool) string {
	if !taken(name) {
		return name
	}
	for n := 2; ; n++ {
		number := "-" + strconv.Itoa(n)
		if with := short(name, maxName-len(number)) + number; !taken(with) {
			return with
		}
	}
}
