package daemon

import (
	"errors"
	"math"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"sharefs"
	"sharefs/internal/mountopt"
	"sharefs/internal/recovery"
	"sharefs/internal/store"
	"sharefs/internal/term"
	"sharefs/peers/book"
	"sharefs/peers/trust"
	"sharefs/versions/tier"
)

// Sheet is a recovery sheet of a store, and when others were printed.
type Sheet struct {
	recovery.Sheet
	Host   string
	Now    time.Time
	Before []string // RFC 3339, a space and who printed it
	Lack   []string // those of the places on it, as they are called here, that never had all of a state: peers, and the bucket by its URL
	Kept   bool     // one of them has
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
	peers, names, err := givenTo(dir)
	if err != nil {
		return nil, err
	}
	if c.Tier.URL == "" && len(peers) == 0 {
		return nil, &sharefs.Error{Op: op, Path: term.Quote(dir), Kind: sharefs.KindNotExist,
			Detail: "the store is kept in no bucket and by no peer from which it could come back: name a bucket in its share.toml, as [tier] there shows, or grant a peer the level store"}
	}
	// The number is one that a root has with each of them.
	number := uint64(math.MaxUint32)
	var states []string
	if c.Tier.URL != "" {
		states = append(states, filepath.Join(dir, tierState))
	}
	for _, p := range peers {
		states = append(states, filepath.Join(dir, store.GivenDir, p.ID.Plain()))
	}
	if c.Tier.URL != "" {
		names = slices.Insert(names, 0, c.Tier.URL)
	}
	id, kept := "", false
	var lack []string
	for i, state := range states {
		var n uint64
		var has bool
		if id, n, err = tier.Known(state); err == nil {
			has, err = tier.Written(state)
		}
		if err != nil {
			break
		}
		number = min(number, n)
		if kept = kept || has; !has {
			lack = append(lack, names[i])
		}
	}
	if sharefs.KindOf(err) == sharefs.KindNotExist && err != nil {
		return nil, &sharefs.Error{Op: op, Path: term.Quote(dir), Kind: sharefs.KindNotExist, Detail: "the store was not mounted yet since it has a bucket: mount it, so that it gets there"}
	}
	if err != nil {
		return nil, err
	}
	s := &Sheet{Lack: lack, Kept: kept, Sheet: recovery.Sheet{Share: ring.First().Secret, Store: id[:recovery.StorePart], Number: uint32(number), Place: recovery.Place{URL: c.Tier.URL, Region: c.Tier.Region}, Peers: peers}}
	if c.Tier.HTTP != nil && c.Tier.URL != "" {
		s.HTTP = strconv.FormatBool(*c.Tier.HTTP)
	}
	if _, err := s.Line(); err != nil {
		return nil, err
	}
	s.Host, s.Now = hostName(&c.Peers), time.Now()
	who := "an unknown user"
	if u, err := user.Current(); err == nil {
		who = u.Username
	}
	s.Before, err = store.NoteSheet(dir, who+" on "+hostname(), s.Now)
	return s, err
}

// addrsOnSheet is how many addresses of a peer stand on a sheet at most.
const addrsOnSheet = 4

// givenTo lists the peers that keep the store, or are to, with their names.
func givenTo(dir string) (peers []recovery.Peer, names []string, err error) {
	path := filepath.Join(dir, store.PeersFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, nil
	}
	var b *book.Book
	if err == nil {
		b, err = book.Open(text, nil)
	}
	if err != nil {
		return nil, nil, &sharefs.Error{Op: "recovery sheet", Path: path, Kind: sharefs.KindOf(err), Err: err}
	}
	policy := b.Policy()
	for _, p := range b.Peers() {
		if _, _, err := tier.Known(filepath.Join(dir, store.GivenDir, p.ID.Plain())); err != nil || policy.Most(p.ID) != trust.Store {
			continue
		}
		var addrs []string
		for _, a := range append(p.Given, p.Found...) {
			if _, err := recovery.ParsePeer(p.ID.Plain(), []string{a}); err == nil && !slices.Contains(addrs, a) && len(addrs) < addrsOnSheet {
				addrs = append(addrs, a)
			}
		}
		peers, names = append(peers, recovery.Peer{ID: p.ID, Addrs: addrs}), append(names, p.Name)
	}
	return peers, names, nil
}
