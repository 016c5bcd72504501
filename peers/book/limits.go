package book

import (
	"fmt"
	"strconv"
	"strings"

	"sharefs"
	"sharefs/internal/bytesize"
)

// Limits bound what a peer may cost this host. Zero: there is no bound, or the default of whoever has one.
type Limits struct {
	Up      uint64 `json:"up,omitempty"`      // bytes of content a second that it is sent
	Down    uint64 `json:"down,omitempty"`    // bytes of content a second that are taken of it
	Quota   uint64 `json:"quota,omitempty"`   // bytes that are kept for it
	Records uint64 `json:"records,omitempty"` // records that it wrote and are kept here
	// Domain is what fails together with it, such as a building: of copies that peers of one domain keep one counts. Empty: it stands alone.
	Domain string `json:"domain,omitempty"`
}

// Bounds of limits. Below the least rate a chunk takes longer than a stream may stand still.
const (
	LeastRate    = 10_000                // bytes a second
	MostRate     = 1_000_000_000_000     // bytes a second
	LeastQuota   = 1_000_000             // bytes
	MostQuota    = 1_000_000_000_000_000 // bytes
	LeastRecords = 1000
	MostRecords  = 1_000_000_000
)

// domainName is the one that is a word.
const domainName = "domain"

// limit is one of the others, as commands name it.
type limit struct {
	name        string
	of          func(*Limits) *uint64
	least, most uint64
	unit        string // of text, behind a size; "-": it is a plain number
	such        string
}

var limits = []limit{
	{"up", func(l *Limits) *uint64 { return &l.Up }, LeastRate, MostRate, "/s", "10MB/s"},
	{"down", func(l *Limits) *uint64 { return &l.Down }, LeastRate, MostRate, "/s", "10MB/s"},
	{"quota", func(l *Limits) *uint64 { return &l.Quota }, LeastQuota, MostQuota, "", "50GB"},
	{"records", func(l *Limits) *uint64 { return &l.Records }, LeastRecords, MostRecords, "-", "2000000"},
}

// text is a value as Parse takes it.
func (m *limit) text(n uint64) string {
	switch {
	case n == 0:
		return "none"
	case m.unit == "-":
		return strconv.FormatUint(n, 10)
	}
	return bytesize.Size(n).String() + m.unit
}

// fits reports whether a value may be.
func (m *limit) fits(n uint64) bool { return n == 0 || n >= m.least && n <= m.most }

// check makes sure that all are within their bounds.
func (l Limits) check() error {
	if l.Domain != "" && l.Domain != CleanName(l.Domain) {
		return &sharefs.Error{Op: "limit a peer", Kind: sharefs.KindInvalid, Detail: "domain is a word of letters, digits, dots, _ and -, or none"}
	}
	for i := range limits {
		m := &limits[i]
		if n := *m.of(&l); !m.fits(n) {
			return &sharefs.Error{Op: "limit a peer", Kind: sharefs.KindInvalid, Detail: fmt.Sprintf("%s is %s at least and %s at most, or none", m.name, m.text(m.least), m.text(m.most))}
		}
	}
	return nil
}

// Set changes one by its name, as commands have it: up and down "10MB/s", quota "50GB", records "2000000", and "none" for each. Sizes are kept in whole kilobytes. Errors are of KindInvalid.
func (l *Limits) Set(name, text string) error {
	bad := func(detail string) error {
		return &sharefs.Error{Op: "limit a peer", Path: strconv.Quote(name + "=" + text), Kind: sharefs.KindInvalid, Detail: detail}
	}
	if name == domainName {
		try := *l
		if try.Domain = text; text == "none" {
			try.Domain = ""
		}
		if err := try.check(); err != nil || text == "" {
			return bad("domain is such as domain=office, or domain=none")
		}
		*l = try
		return nil
	}
	for i := range limits {
		m := &limits[i]
		if m.name != name {
			continue
		}
		var n uint64
		var err error
		switch {
		case text == "none":
		case m.unit == "-":
			n, err = strconv.ParseUint(text, 10, 64)
		default:
			var size bytesize.Size
			err = size.UnmarshalText([]byte(strings.TrimSuffix(text, m.unit)))
			n = uint64(size)
		}
		if err != nil || n == 0 && text != "none" {
			return bad(fmt.Sprintf("%s is such as %s=%s, from %s to %s, or %s=none", name, name, m.such, m.text(m.least), m.text(m.most), name))
		}
		try := *l
		*m.of(&try) = n
		if err := try.check(); err != nil {
			return err
		}
		*l = try
		return nil
	}
	return bad("there is no such limit: there are up, down, quota, records and domain")
}

// String is all that are set, as words for commands: "up=10MB/s quota=50GB"; nothing if none is.
func (l Limits) String() string {
	var words []string
	for i := range limits {
		if n := *limits[i].of(&l); n != 0 {
			words = append(words, limits[i].name+"="+limits[i].text(n))
		}
	}
	if l.Domain != "" {
		words = append(words, domainName+"="+l.Domain)
	}
	return strings.Join(words, " ")
}

// Limits returns those of a peer; of one that is not known none. It never waits for a book that is being saved.
func (b *Book) Limits(id sharefs.PeerID) Limits { return (*b.limits.Load())[id] }

// noteLimits has those of the moment be found by Limits. b.mu is held, or nobody has b yet.
func (b *Book) noteLimits() {
	all := map[sharefs.PeerID]Limits{}
	for i := range b.peers {
		if l := b.peers[i].Limits; l != (Limits{}) {
			all[b.peers[i].ID] = l
		}
	}
	b.limits.Store(&all)
}

// DefaultRecords is how many records of a peer are kept where its limits say nothing: those of a million files that change several times each. A record takes about a kilobyte of memory.
const DefaultRecords = 8_000_000

// Records returns how many records that a peer wrote may be kept.
func (b *Book) Records(id sharefs.PeerID) uint64 {
	if n := b.Limits(id).Records; n > 0 {
		return n
	}
	return DefaultRecords
}

// Rates returns how many bytes of content a second may go to a peer and come from it; 0: as many as can.
func (b *Book) Rates(id sharefs.PeerID) (up, down uint64) {
	l := b.Limits(id)
	return l.Up, l.Down
}

// Limit changes limits of a peer, each "NAME=VALUE" as [Limits.Set] has them. One that cannot be changes nothing.
func (b *Book) Limit(word string, changes ...string) (Peer, error) {
	return b.alter(word, func(_ *Book, p *Peer) error {
		for _, c := range changes {
			name, value, _ := strings.Cut(c, "=")
			if err := p.Limits.Set(name, value); err != nil {
				return err
			}
		}
		return nil
	})
}
