package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"sharefs"
	"sharefs/esp"
	"sharefs/internal/recovery"
	"sharefs/internal/store"
	"sharefs/peers/pace"
	"sharefs/peers/report"
	"sharefs/peers/trust"
	"sharefs/peers/vault"
	"sharefs/versions"
	"sharefs/versions/tier"
	"sharefs/versions/tier/near"
)

// vaults has all of the past, sealed, be kept by each peer of the level store: as a bucket has it, and by the same means. What this host keeps for others is vaults_keep.go.
type vaults struct {
	d *Daemon

	rules sync.Mutex // held while peers begin and end: what a peer was given has ended before it begins anew; before mu

	mu    sync.Mutex // guards what follows
	ended bool
	given map[sharefs.PeerID]*given
	errs  map[sharefs.PeerID]error // why nothing is given to a peer although it should be

	keeper keeper
}

// given is what one peer is to keep.
type given struct {
	peer     sharefs.PeerID
	bucket   *vault.Bucket
	uploader *tier.Uploader
	cancel   context.CancelFunc
	checks   sync.WaitGroup

	mu     sync.Mutex // guards what follows
	named  []tier.Info
	sizes  map[string]int64 // of those by their keys
	report report.Backup    // what is known by asking for proofs
}

const vaultLook = time.Hour // so often a peer's root is looked at while nothing changes

// How often a peer is asked for proofs, at random, and for how many files; and for how many when somebody asks.
const (
	checkLeast = 20 * time.Minute
	checkMost  = 60 * time.Minute
	checkFiles = 4
	checkAsked = 64
)

// rulesChanged begins with peers that are to keep a backup, and ends with those that are not any more.
func (v *vaults) rulesChanged() {
	v.rules.Lock()
	defer v.rules.Unlock()
	d := v.d
	if d.peers.hub == nil || d.store.ReadOnly {
		return
	}
	policy := d.peers.book.Policy()
	for _, g := range v.over(policy) {
		g.end()
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, id := range policy.Peers() {
		if policy.Most(id) == trust.Store && v.given[id] == nil && !v.ended {
			v.begin(id)
		}
	}
}

// over takes out those that are to keep nothing any more.
func (v *vaults) over(policy trust.Policy) (over []*given) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for id, g := range v.given {
		if policy.Most(id) != trust.Store {
			over = append(over, g)
			delete(v.given, id)
		}
	}
	maps.DeleteFunc(v.errs, func(id sharefs.PeerID, _ error) bool { return policy.Most(id) != trust.Store })
	return over
}

// begin begins with a peer. v.mu is held.
func (v *vaults) begin(id sharefs.PeerID) {
	g, err := v.start(id)
	if err != nil {
		v.d.log.Error("a peer is given no backup", "peer", id.Short(), "error", err)
		if v.errs == nil {
			v.errs = map[sharefs.PeerID]error{}
		}
		v.errs[id] = err
		return
	}
	delete(v.errs, id)
	if v.given == nil {
		v.given = map[sharefs.PeerID]*given{}
	}
	v.given[id] = g
}

func (v *vaults) start(id sharefs.PeerID) (*given, error) {
	d := v.d
	name, err := tier.Identify(filepath.Join(d.store.Dir, tierState))
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(d.store.Dir, store.GivenDir)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, iofs.ErrExist) {
		return nil, &sharefs.Error{Op: "keep a backup", Path: dir, Kind: sharefs.KindOf(err), Err: err}
	}
	state := filepath.Join(dir, id.Plain())
	if err := d.beginRoots(state, name); err != nil {
		return nil, err
	}
	about, err := os.ReadFile(filepath.Join(d.store.Dir, "share.toml"))
	if err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return nil, err
	}
	log := d.log.With("part", "backup", "peer", id.Short())
	first := d.store.Keys.Ring.First().Secret
	fetcher := fetcherKey(first, name).Public()
	g := &given{peer: id}
	g.bucket = vault.New(vault.Config{
		Peer: id, Session: func() vault.Session { return sessionOf(d.peers.hub.Connected(id)) }, Permit: func() (trust.Cipher, error) { return d.peers.book.Policy().Cipher(id) },
		Sealer: trust.NewFileSealer(d.tree.CheckSealed), Fetcher: fetcher[:], Pace: d.peers.pace, Damaged: func() { g.recheck() },
	})
	g.mu.Lock() // until the uploader is known
	defer g.mu.Unlock()
	g.uploader, err = tier.Start(tier.Config{
		Bucket: g.bucket, Source: vaultSource{d.tree.TierSource(), d.packs}, Key: versions.TierKey(first), State: state, Host: hostName(&d.store.Config.Peers), Authors: d.authors(), Peers: d.writers, Every: tierEvery, Look: vaultLook, Keep: tierKeep,
		Ready: g.bucket.Ready, Own: true, Sums: true, Elsewhere: "have that peer forget what it keeps (there: sharefs peers drop NAME)", Take: d.store.Config.Tier.TakeOver, Named: func(list []tier.Info) { g.has(list); d.packs.Rouse() }, About: versions.SealForTier(first, about),
		Keys: func() []byte { return versions.SealKeysForTier(d.tree.Keys()) }, Log: log,
	})
	if err != nil {
		g.bucket.Close()
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	g.cancel = cancel
	g.checks.Go(func() {
		for pace.Sleep(ctx, checkLeast+rand.N(checkMost-checkLeast)) == nil {
			if g.bucket.Ready() == nil {
				_ = g.check(ctx, d, checkFiles)
			}
		}
	})
	return g, nil
}

// fetcherKey is the key of who may fetch what peers keep of a store: it follows from what stands on recovery sheets.
func fetcherKey(share [32]byte, id string) esp.PrivateKey {
	return esp.PrivateKey(versions.VaultKey(share, id[:recovery.StorePart]))
}

// sessionESP is a session of package esp.
type sessionESP struct{ *esp.Session }

// Open does not wait for the peer, whose answer to the first message says more.
func (s sessionESP) Open(ctx context.Context) (net.Conn, error) {
	c, err := s.Session.OpenEarly(ctx, nil)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// sessionOf returns nil where there is none.
func sessionOf(s *esp.Session, ok bool) vault.Session {
	if !ok {
		return nil
	}
	return sessionESP{s}
}

func (g *given) end() {
	g.cancel()
	g.bucket.Close()
	g.uploader.Close()
	g.checks.Wait()
}

// connected has what waits for a peer go on.
func (v *vaults) connected(id sharefs.PeerID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if g := v.given[id]; g != nil {
		g.uploader.Wake()
	}
}

// has takes word of what the peer has whole.
func (g *given) has(list []tier.Info) {
	sizes := make(map[string]int64, len(list))
	for _, i := range list {
		sizes[i.Key] = i.Size
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.named, g.sizes = list, sizes
}

func (g *given) recheck() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.uploader != nil {
		g.uploader.Recheck()
	}
}

// check asks the peer for proofs, and has what it cannot prove be sent again.
func (g *given) check(ctx context.Context, d *Daemon, most int) error {
	g.mu.Lock()
	named := g.named
	g.mu.Unlock()
	if named == nil {
		return &sharefs.Error{Op: "ask for proofs", Kind: sharefs.KindAgain, Detail: "it has nothing whole yet: sharefs peers tells what it lacks"}
	}
	out, err := g.bucket.Check(ctx, named, d.tree.TierSource().Open, most)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	g.mu.Lock()
	now := time.Now()
	r := &g.report
	r.CheckError = ""
	switch {
	case len(out.Wrong) > 0:
		r.Failed = now
		r.Wrong += len(out.Wrong)
	case err != nil:
		r.CheckError = err.Error()
	case out.Objects > 0:
		r.Checked, r.Proved = now, out.Objects
	}
	g.mu.Unlock()
	if len(out.Wrong) == 0 {
		return err
	}
	d.log.Warn("a peer could not prove to have what it keeps: it is sent again", "peer", g.peer.Short(), "files", out.Wrong)
	g.recheck()
	return &sharefs.Error{Op: "ask for proofs", Kind: sharefs.KindCorrupt, Detail: fmt.Sprintf("it could not prove to have %d of %d files, such as %s: they are sent again", len(out.Wrong), out.Objects, out.Wrong[0])}
}

// checkPatience bounds how long somebody waits for proofs.
const checkPatience = time.Minute

// checkNow asks peers for proofs because somebody wants to know; an empty word means all.
func (v *vaults) checkNow(word string) error {
	var of sharefs.PeerID
	if word != "" {
		p, err := v.d.peers.book.Find(word)
		if err != nil {
			return err
		}
		of = p.ID
	}
	v.mu.Lock()
	var list []*given
	for id, g := range v.given {
		if word == "" || id == of {
			list = append(list, g)
		}
	}
	v.mu.Unlock()
	if len(list) == 0 {
		e := &sharefs.Error{Op: "ask for proofs", Kind: sharefs.KindNotExist, Detail: "no peer keeps a backup of this host: sharefs grant NAME store, and there sharefs peers limit NAME quota=50GB"}
		if word != "" {
			p, _ := v.d.peers.book.Peer(of)
			e.Path, e.Detail = p.Name, "it keeps no backup of this host: sharefs grant "+p.Name+" store, and there sharefs peers limit NAME quota=50GB"
		}
		return e
	}
	ctx, cancel := context.WithTimeout(context.Background(), checkPatience)
	defer cancel()
	errs := make([]error, len(list))
	var all sync.WaitGroup
	for i, g := range list {
		all.Go(func() {
			if err := g.check(ctx, v.d, checkAsked); err != nil {
				p, _ := v.d.peers.book.Peer(g.peer)
				errs[i] = fmt.Errorf("%s: %w", p.Name, err)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// holders returns the peers that have a file of the store whole, as their roots tell. One that could not prove to have something, or gave no answer
// when it was asked for proofs the last time, does not count until it has again.
func (v *vaults) holders(name string, size int64) (ids []sharefs.PeerID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for id, g := range v.given {
		g.mu.Lock()
		if n, ok := g.sizes[name]; ok && n == size && !g.report.Failed.After(g.report.Checked) && g.report.CheckError == "" {
			ids = append(ids, id)
		}
		g.mu.Unlock()
	}
	return ids
}

// domains counts in how many domains a file of the store is kept whole by peers. What fails together counts once.
func (v *vaults) domains(name string, size int64) int {
	seen := map[string]bool{}
	for _, id := range v.holders(name, size) {
		domain := v.d.peers.book.Limits(id).Domain
		if domain == "" {
			domain = "\x00" + string(id[:])
		}
		seen[domain] = true
	}
	return len(seen)
}

// end ends it; what a peer does not have then follows with the next mount.
func (v *vaults) end() {
	v.mu.Lock()
	v.ended = true // what is being changed begins nothing more
	v.mu.Unlock()
	v.rules.Lock()
	defer v.rules.Unlock()
	v.mu.Lock()
	all := v.given
	v.given = nil
	v.mu.Unlock()
	for _, g := range all {
		g.end()
	}
	v.keeper.end()
}

// vaultSource is the store as peers get it: what a bucket alone has is fetched from there, so that each of them has all.
type vaultSource struct {
	tier.Source
	packs *near.FS
}

func (s vaultSource) Files() ([]tier.File, bool, error) {
	files, ready, err := s.Source.Files()
	for i := range files {
		files[i].Remote = false
	}
	return files, ready, err
}

func (s vaultSource) Open(name string) (interface {
	io.ReaderAt
	io.Closer
}, error) {
	f, err := s.Source.Open(name)
	if _, sealed := near.IDOf(name); !errors.Is(err, sharefs.KindNotExist) || !sealed {
		return f, err
	}
	remote, err := s.packs.Open(strings.TrimPrefix(name, "packs/"), false)
	if errors.Is(err, iofs.ErrNotExist) {
		return nil, &sharefs.Error{Op: "upload", Path: name, Kind: sharefs.KindNotExist, Err: err}
	}
	if err != nil {
		return nil, err
	}
	return remote, nil
}
