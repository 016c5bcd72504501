// Package pair is how two hosts that know nothing of each other come to know each other's keys. It does no networking: the protocols run over any
// stream that both ends have the same binding of (see [sharefs/peers/identity.Prove]), and what they decide is bound to it.
//
// # By a link
//
// One host makes a link: its id, where it is, and a token of 128 random bits that is good once and for ten minutes. It goes to the other host by any way
// that others do not read: as text, or as a QR code. The other host dials; each shows the other that it knows the token, without sending it:
//
//	joiner → opener  id, name, addresses, proof, HMAC(token, "joiner" ‖ binding ‖ id)
//	opener → joiner  id, name, addresses, proof, HMAC(token, "opener" ‖ binding ‖ id), or why not
//
// # By six digits
//
// On a local network two hosts that both wait to be paired find each other. Neither knows the other's key, so somebody in the middle could be talking to
// both. Both show six digits made of the session and of a random number of each; whoever sits there compares them. The dialer commits to its number before it
// sees the other's (as in ZRTP, RFC 6189 section 4.4), so nobody in the middle can try numbers until the digits of both sides agree: one attempt
// in a million passes, and a person is asked for each.
//
//	dialer → listener  SHA-256("sharefs commit 1" ‖ binding ‖ id ‖ number)
//	listener → dialer  number, id, name, addresses, proof
//	dialer → listener  number, id, name, addresses, proof
//	both               whether the digits were said to agree
package pair

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"sharefs"
)

// Life is how long a link, or the search on the local network, is good for.
const Life = 10 * time.Minute

// Token proves that its holder has seen a link.
type Token [16]byte

// NewToken returns a new one from the system's randomness.
func NewToken() (t Token) {
	rand.Read(t[:])
	return t
}

// mac is what a holder of the token says in one session.
func (t Token) mac(role string, binding [32]byte, id sharefs.PeerID) []byte {
	h := hmac.New(sha256.New, t[:])
	h.Write([]byte("sharefs pair 1\x00" + role + "\x00"))
	h.Write(binding[:])
	h.Write(id[:])
	return h.Sum(nil)
}

// Link is what one host gives to another so that it can pair.
type Link struct {
	ID    sharefs.PeerID
	Token Token
	Addrs []string // HOST:PORT, HOST being an IP address without brackets or a name
}

// The text of a link is one line without a character that a shell or a QR code of letters and digits (ISO/IEC 18004, section 7.4.4) would mind, whatever its case:
//
//	sharefs:ID/TOKEN/HOST:PORT/HOST:PORT…/CHECK
//
// CHECK is the beginning of the SHA-256 of all before it in lower case, up to the last slash, in the letters of the token: a link that was cut when it was copied leads nowhere otherwise, and
// nobody could say why.
const linkScheme = "sharefs:"

// checkOf returns the last part of a link.
func checkOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return tokenEncoding.EncodeToString(sum[:])[:lenCheck]
}

// Limits of a link.
const (
	lenCheck     = 4    // characters, each of 5 bits
	maxLink      = 2048 // bytes
	maxAddresses = 16
	maxAddress   = 255 + 6
)

var tokenEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// String is the link's text.
func (l Link) String() string {
	parts := append([]string{linkScheme + l.ID.Plain(), tokenEncoding.EncodeToString(l.Token[:])}, l.Addrs...)
	for i, a := range parts[2:] {
		parts[2+i] = strings.NewReplacer("[", "", "]", "").Replace(a)
	}
	text := strings.ToLower(strings.Join(parts, "/"))
	return text + "/" + checkOf(text)
}

// ParseLink reads a link. The error is of KindInvalid.
func ParseLink(text string) (l Link, err error) {
	bad := func(detail string) (Link, error) {
		return Link{}, &sharefs.Error{Op: "link", Kind: sharefs.KindInvalid, Detail: detail}
	}
	text = strings.ToLower(strings.TrimSpace(text))
	rest, ok := strings.CutPrefix(text, linkScheme)
	if !ok || len(text) > maxLink {
		return bad("a link begins with sharefs: and is one line")
	}
	if end := strings.LastIndexByte(text, '/'); end < 0 || text[end+1:] != checkOf(text[:end]) {
		if _, ok := Address(text[end+1:]); ok { // as links of builds end that put no check characters behind them
			return bad("it is not whole, or of an older version of ShareFS: copy all of it, to the last character; with an older version, sharefs pair ID ADDRESS on both hosts")
		}
		return bad("it is not whole, or not as it was shown: copy all of it, to the last character")
	}
	parts := strings.Split(rest, "/")
	if parts = parts[:len(parts)-1]; len(parts) < 2 {
		return bad("an id, a token and addresses belong in it")
	}
	if l.ID, err = sharefs.ParsePeerID(parts[0]); err != nil {
		return Link{}, &sharefs.Error{Op: "link", Kind: sharefs.KindInvalid, Err: err}
	}
	raw, err := tokenEncoding.DecodeString(parts[1])
	if err != nil || len(raw) != len(l.Token) || tokenEncoding.EncodeToString(raw) != parts[1] {
		return bad("its token is not whole")
	}
	copy(l.Token[:], raw)
	if len(parts)-2 > maxAddresses {
		return bad("it has too many addresses")
	}
	for _, p := range parts[2:] {
		a, ok := Address(p)
		if !ok {
			return bad("an address in it is none")
		}
		l.Addrs = append(l.Addrs, a)
	}
	return l, nil
}

// Address makes HOST:PORT as it is dialed out of what a link or a peer says, which need not have brackets around an address of version 6. Addresses that lead
// nowhere (unspecified, multicast, of one link only) are refused.
func Address(s string) (string, bool) {
	i := strings.LastIndexByte(s, ':')
	if i <= 0 || len(s) > maxAddress {
		return "", false
	}
	host := strings.TrimSuffix(strings.TrimPrefix(s[:i], "["), "]")
	port, err := strconv.ParseUint(s[i+1:], 10, 16)
	if err != nil || port == 0 {
		return "", false
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case err == nil:
		ip = ip.Unmap()
		if ip.IsUnspecified() || ip.IsMulticast() || ip.IsLinkLocalUnicast() || ip.Zone() != "" || ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
			return "", false
		}
		host = ip.String()
	case strings.Trim(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-") != "" || host[0] == '-' || host[0] == '.':
		return "", false
	}
	return net.JoinHostPort(host, strconv.FormatUint(port, 10)), true
}

// Addresses keeps those of what a peer says that are some, each once, in their order, as many as may be. Names are none of them: to ask for one on the
// word of a peer would tell whoever answers for it where this host is.
func Addresses(list []string) (out []string) {
	seen := map[string]bool{}
	for _, s := range list {
		if a, ok := Address(s); ok && numeric(a) && !seen[a] && len(out) < maxAddresses {
			seen[a] = true
			out = append(out, a)
		}
	}
	return out
}

// numeric reports whether an address has no name.
func numeric(addr string) bool {
	_, err := netip.ParseAddrPort(addr)
	return err == nil
}
