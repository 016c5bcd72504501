package daemon

import (
	"math"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"sharefs"
	"sharefs/internal/mountopt"
	"sharefs/internal/recovery"
	"sharefs/internal/store"
	"sharefs/internal/term"
	"sharefs/versions/tier"
)

// Sheet is a recovery sheet of a store, and when others were printed.
type Sheet struct {
	recovery.Sheet
	Host   string
	Now    time.Time
	Before []string // RFC 3339, a space and who printed it
}

// PrintSheet returns the recovery sheet of a store, mounted or not, and notes in it that it was printed. Only the owner of a store may.
func PrintSheet(source string, options *mountopt.Options) (*Sheet, error) {
	const op = "recovery sheet"
	d := &Daemon{options: options}
	dir, err := d.chooseStore(Config{Source: source, Options: options})
	if err != nil {
		return nil, err
	}
	ring, c, err := store.Peek(dir)
	if err != nil {
		return nil, err
	}
	if c.Tier.URL == "" {
		return nil, &sharefs.Error{Op: op, Path: term.Quote(dir), Kind: sharefs.KindNotExist,
			Detail: "the store is kept in no bucket from which it could come back: name one in its share.toml, as [tier] there shows"}
	}
	id, number, err := tier.Known(filepath.Join(dir, tierState))
	if sharefs.KindOf(err) == sharefs.KindNotExist {
		return nil, &sharefs.Error{Op: op, Path: term.Quote(dir), Kind: sharefs.KindNotExist, Detail: "the store was not mounted yet since it has a bucket: mount it, so that it gets there"}
	}
	if err != nil {
		return nil, err
	}
	s := &Sheet{Sheet: recovery.Sheet{Share: ring.First().Secret, Store: id[:recovery.StorePart], Number: uint32(min(number, math.MaxUint32)), Place: recovery.Place{URL: c.Tier.URL, Region: c.Tier.Region}}}
	if c.Tier.HTTP != nil {
		s.HTTP = strconv.FormatBool(*c.Tier.HTTP)
	}
	if _, err := s.Line(); err != nil {
		return nil, err
	}
	s.Host, s.Now = hostname(), time.Now()
	who := "an unknown user"
	if u, err := user.Current(); err == nil {
		who = u.Username
	}
	s.Before, err = store.NoteSheet(dir, who+" on "+s.Host, s.Now)
	return s, err
}
