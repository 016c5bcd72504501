package sharefs

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"
)

// The text form of a [PeerID]: the 32 bytes and three check bytes in base32 (RFC 4648, section 6) in lower case, 56 characters without
// padding, in eight groups of seven:
//
//	cw2fv7a-24tbmnl-…
//
// The check bytes are the first of SHA-256("sharefs peer" ‖ id): a slip of the keys passes once in 16 million.
const (
	peerChecks    = 3
	peerChars     = (len(PeerID{}) + peerChecks) * 8 / 5
	peerGroup     = 7
	peerAlphabet  = "abcdefghijklmnopqrstuvwxyz234567"
	peerMostGiven = 4 * peerChars // characters that ParsePeerID looks at
)

var peerEncoding = base32.NewEncoding(peerAlphabet).WithPadding(base32.NoPadding)

func (id PeerID) checks() []byte {
	sum := sha256.Sum256(append([]byte("sharefs peer"), id[:]...))
	return sum[:peerChecks]
}

// Plain is the text form without groups.
func (id PeerID) Plain() string { return peerEncoding.EncodeToString(append(id[:], id.checks()...)) }

// String is the text form, in groups.
func (id PeerID) String() string {
	plain := id.Plain()
	groups := make([]string, 0, peerChars/peerGroup)
	for i := 0; i < len(plain); i += peerGroup {
		groups = append(groups, plain[i:i+peerGroup])
	}
	return strings.Join(groups, "-")
}

// Short is the first group of the text form, for lists and logs. It does not identify a peer.
func (id PeerID) Short() string { return id.Plain()[:peerGroup] }

// Begins reports whether a peer may be called by a word: the text form begins with it, in at least as many characters as [PeerID.Short] has.
func (id PeerID) Begins(word string) bool {
	plain := peerPlain(word[:min(len(word), peerMostGiven)])
	return len(plain) >= peerGroup && strings.HasPrefix(id.Plain(), plain)
}

// peerPlain makes of what somebody typed what [PeerID.Plain] would write.
func peerPlain(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '-' || r == ' ':
			return -1
		case r == '0':
			return 'o'
		case r == '1':
			return 'l'
		case r == '8':
			return 'b'
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return r
	}, text)
}

// MarshalText writes the text form.
func (id PeerID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what [ParsePeerID] reads.
func (id *PeerID) UnmarshalText(text []byte) (err error) {
	*id, err = ParsePeerID(string(text))
	return err
}

// ParsePeerID reads the text form. Case, hyphens and blanks do not matter, and 0, 1 and 8, which the alphabet lacks, count as o, l and b.
// The error is of KindInvalid.
func ParsePeerID(text string) (id PeerID, err error) {
	bad := func(detail string) (PeerID, error) {
		return PeerID{}, &Error{Op: "peer id", Kind: KindInvalid, Detail: detail}
	}
	if len(text) > peerMostGiven {
		return bad("is too long: it has 56 letters and digits")
	}
	plain := peerPlain(text)
	if strings.Trim(plain, peerAlphabet) != "" {
		return bad("has characters that do not belong there: it has letters, and digits from 2 to 7")
	}
	if len(plain) != peerChars {
		return bad("has 56 letters and digits; a part is missing, or there is too much")
	}
	raw, err := peerEncoding.DecodeString(plain)
	if err != nil {
		return bad("cannot be read")
	}
	copy(id[:], raw)
	if string(raw[len(id):]) != string(id.checks()) {
		return bad("its check does not fit: there is a slip in it")
	}
	return id, nil
}
