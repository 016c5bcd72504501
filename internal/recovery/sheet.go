// Package recovery writes and reads the sheet from which a store comes back that is kept in a bucket or by peers: the share key, which store it is, and where
// the bucket and the peers are. What is secret stands on it as words, which people read, write down and type with few mistakes, and with check words, which
// tell where one was made.
//
// 44 bytes make 32 words of 11 bits each, of the English list of BIP-39, whose words differ in their first four letters:
//
//	32  the share key
//	 6  the beginning of the store's id
//	 4  the number of a root that the store wrote before the sheet was printed, big-endian: a bucket with an older one was put back
//	 2  the beginning of the SHA-256 of all of it, with the place of the bucket
//
// They stand in 8 numbered lines of 4, each with a fifth word, the first 11 bits of the SHA-256 of its number and its words. The same 44 bytes with the place
// of the bucket are one line of text in a QR code, 44 bytes as base64 (RFC 4648, section 5):
//
//	sharefs-recovery-1 BASE64 s3://host/bucket/prefix region=REGION http=true peer=ID@HOST:PORT,HOST:PORT
//
// Of bucket and peers there may be several or one. Peers are no part of what the check is made of: their ids have check characters of their own, and where they are may change.
//
// The package has no way to the bucket or the store.
package recovery

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"strconv"
	"strings"

	"sharefs"
)

// Sheet is what stands on one.
type Sheet struct {
	Share  [32]byte // the share key
	Store  string   // the first 12 hexadecimal digits of the store's id
	Number uint32   // of a root in the bucket, and with each peer: there is that one, or a later one
	Place
	Peers []Peer // that keep the store
}

// Peer is one that keeps the store, and where it was.
type Peer struct {
	ID    sharefs.PeerID
	Addrs []string // HOST:PORT
}

const maxAddrs = 8

// ParsePeer reads the id of a peer and addresses of it. Errors: KindInvalid.
func ParsePeer(id string, addrs []string) (p Peer, err error) {
	if p.ID, err = sharefs.ParsePeerID(id); err != nil {
		return p, err
	}
	for _, a := range addrs {
		if err := checkAddr(a); err != nil {
			return p, err
		}
	}
	p.Addrs = append(p.Addrs, addrs[:min(len(addrs), maxAddrs)]...)
	return p, nil
}

func checkAddr(a string) error {
	host, port, err := net.SplitHostPort(a)
	if n, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil || n == 0 || host == "" || strings.ContainsFunc(a, func(r rune) bool { return r <= ' ' || r == ',' || r == '@' || r >= 0x7f }) {
		return &sharefs.Error{Op: "read the recovery sheet", Path: strconv.Quote(a), Kind: sharefs.KindInvalid, Detail: "no address of a peer: HOST:PORT is wanted, [HOST]:PORT where HOST has colons in it"}
	}
	return nil
}

// parsePeer reads ID@HOST:PORT,HOST:PORT.
func parsePeer(text string) (Peer, error) {
	id, addrs, _ := strings.Cut(text, "@")
	if addrs == "" {
		return ParsePeer(id, nil)
	}
	return ParsePeer(id, strings.Split(addrs, ","))
}

func (p *Peer) String() string { return p.ID.Plain() + "@" + strings.Join(p.Addrs, ",") }

// Place is where the bucket is, as the section [tier] of share.toml says it.
type Place struct {
	URL    string
	Region string // empty: none is said
	HTTP   string // "true" and "false"; empty: nothing is said
}

const (
	idLen    = 6
	bodyLen  = 32 + idLen + 4
	checkLen = 2
	magic    = "sharefs-recovery-1"
)

// StorePart is how many digits of a store's id stand on a sheet.
const StorePart = 2 * idLen

func (p *Place) String() string {
	s := p.URL
	if p.Region != "" {
		s += " region=" + p.Region
	}
	if p.HTTP != "" {
		s += " http=" + p.HTTP
	}
	return s
}

// check returns whether the place can stand on a sheet, where spaces tell its parts from each other.
func (p *Place) check() error {
	bad := func(c rune) bool { return c <= ' ' || c == 0x7f }
	if *p == (Place{}) { // there are peers alone
		return nil
	}
	if !strings.HasPrefix(p.URL, "s3://") || strings.ContainsFunc(p.URL+p.Region, bad) || p.HTTP != "" && p.HTTP != "true" && p.HTTP != "false" {
		return &sharefs.Error{Op: "recovery sheet", Kind: sharefs.KindInvalid, Detail: fmt.Sprintf("%q is not the place of a bucket that can stand on one", p.String())}
	}
	return nil
}

// bytes returns all of the secret part. It errors with KindInvalid where the sheet cannot be written.
func (s *Sheet) bytes() ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	id, err := hex.DecodeString(s.Store)
	if err != nil || len(id) != idLen {
		return nil, &sharefs.Error{Op: "recovery sheet", Kind: sharefs.KindInvalid, Detail: fmt.Sprintf("%q is not the beginning of a store's id", s.Store)}
	}
	b := append(append([]byte(nil), s.Share[:]...), id...)
	b = binary.BigEndian.AppendUint32(b, s.Number)
	return append(b, sum(b, &s.Place)...), nil
}

// sum is what tells whether all of a sheet was read right.
func sum(body []byte, p *Place) []byte {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%s\n", magic, p)
	h.Write(body)
	return h.Sum(nil)[:checkLen]
}

// fromBytes is the inverse of bytes. It errors with KindInvalid where the check does not hold.
func fromBytes(b []byte, p Place) (*Sheet, error) {
	s := &Sheet{Share: [32]byte(b), Store: hex.EncodeToString(b[32 : 32+idLen]), Number: binary.BigEndian.Uint32(b[32+idLen:]), Place: p}
	if err := p.check(); err != nil {
		return nil, err
	}
	if string(sum(b[:bodyLen], &p)) != string(b[bodyLen:]) {
		return nil, &sharefs.Error{Op: "read the recovery sheet", Kind: sharefs.KindInvalid,
			Detail: "each line of words is right in itself, but they do not go with the bucket " + cmp.Or(p.String(), "(none)") + ": compare the bucket with that on the sheet, and whether all lines are of one sheet"}
	}
	return s, nil
}

// Line returns the sheet as one line of text, as the QR code has it.
func (s *Sheet) Line() (string, error) {
	b, err := s.bytes()
	if err != nil {
		return "", err
	}
	line := magic + " " + base64.RawURLEncoding.EncodeToString(b)
	if s.URL != "" {
		line += " " + s.Place.String()
	}
	for i := range s.Peers {
		line += " peer=" + s.Peers[i].String()
	}
	return line, nil
}

// parseLine reads what Line has written.
func parseLine(line string) (*Sheet, error) {
	wrong := &sharefs.Error{Op: "read the recovery sheet", Kind: sharefs.KindInvalid, Detail: "what follows " + magic + " is not what stands in the code of a sheet"}
	f := strings.Fields(line)
	if len(f) < 3 || f[0] != magic {
		return nil, wrong
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(f[1])
	if err != nil || len(b) != bodyLen+checkLen {
		return nil, wrong
	}
	var p Place
	var peers []Peer
	for i, part := range f[2:] {
		key, value, _ := strings.Cut(part, "=")
		switch {
		case i == 0 && strings.Contains(part, "://"):
			p.URL = part
		case key == "peer":
			peer, err := parsePeer(value)
			if err != nil {
				return nil, err
			}
			peers = append(peers, peer)
		case key == "region" && value != "" && p.Region == "":
			p.Region = value
		case key == "http" && value != "" && p.HTTP == "":
			p.HTTP = value
		default:
			return nil, wrong
		}
	}
	s, err := fromBytes(b, p)
	if err == nil {
		s.Peers = peers
	}
	return s, err
}
