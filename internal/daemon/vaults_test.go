package daemon

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sharefs"
	"sharefs/internal/store"
	"sharefs/peers/book"
	"sharefs/peers/link"
	"sharefs/peers/trust"
	"sharefs/peers/vault"
	"sharefs/versions/tier"
	"sharefs/versions/tier/membucket"
)

// Copies in one domain count once, and none counts of who has another size, has not proved what it has, or has nothing whole.
func TestDomains(t *testing.T) {
	b, err := book.Open(nil, func([]byte) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	d := &Daemon{}
	d.peers.book = b
	v := &d.vaults
	v.d = d
	v.given = map[sharefs.PeerID]*given{}
	peer := func(n byte, name string, files ...tier.Info) *given {
		t.Helper()
		id := sharefs.PeerID{n}
		if _, err := b.Add(id, name, book.ByHand, nil, nil, time.Now()); err != nil {
			t.Fatal(err)
		}
		g := &given{peer: id}
		g.has(files)
		v.given[id] = g
		return g
	}
	want := func(n int) {
		t.Helper()
		if got := v.domains("packs/ab/1", 10); got != n {
			t.Errorf("%d domains, not %d", got, n)
		}
	}
	want(0)
	file := tier.Info{Key: "packs/ab/1", Size: 10}
	anna, _ := peer(1, "anna", file), peer(2, "bert", file, tier.Info{Key: "packs/ab/2", Size: 5})
	want(2)
	peer(3, "carl", tier.Info{Key: "packs/ab/1", Size: 9})
	peer(4, "dora")
	want(2)
	for _, name := range []string{"anna", "bert"} {
		if _, err := b.Limit(name, "domain=office"); err != nil {
			t.Fatal(err)
		}
	}
	want(1)
	peer(5, "emil", file)
	want(2)
	now := time.Now()
	anna.report.Checked, anna.report.Failed = now, now.Add(time.Second)
	want(2) // bert is in the office still
	if _, err := b.Limit("bert", "domain=none"); err != nil {
		t.Fatal(err)
	}
	want(2)
	anna.report.Checked = now.Add(2 * time.Second)
	want(3)
	anna.report.CheckError = "it is busy" // and may say so for ever
	want(2)
}

// The roots that a new keeper gets, or a new bucket, have numbers above those that others have: so a sheet that names a number is good with all of them.
func TestRootsOfANewKeeper(t *testing.T) {
	d := &Daemon{store: &store.Store{Dir: t.TempDir()}}
	own := filepath.Join(d.store.Dir, tierState)
	name, err := tier.Identify(own)
	if err != nil {
		t.Fatal(err)
	}
	given := func(peer string) string { return filepath.Join(d.store.Dir, store.GivenDir, peer) }
	begun := func(path string, want uint64) {
		t.Helper()
		if err := d.beginRoots(path, name); err != nil {
			t.Fatal(err)
		}
		if of, n, err := tier.Known(path); err != nil || of != name || n != want {
			t.Errorf("%s, %d, %v, not %d", of, n, err, want)
		}
	}
	begun(own, 0)
	if err := os.Mkdir(filepath.Join(d.store.Dir, store.GivenDir), 0o700); err != nil {
		t.Fatal(err)
	}
	begun(given("anna"), 0)
	if err := tier.TakeUp(given("anna"), &tier.Root{Store: name, Nonce: "x", Number: 40}); err != nil {
		t.Fatal(err)
	}
	if err := tier.TakeUp(given("other"), &tier.Root{Store: "00112233445566778899aabbccddeeff", Nonce: "x", Number: 80}); err != nil {
		t.Fatal(err)
	}
	begun(given("bert"), 40)
	begun(given("anna"), 40)
	begun(own, 40) // a bucket that is new
}

// rules is a daemon whose store can begin nothing, with peers by these names, and how to grant one of them a level.
func rules(t *testing.T, names ...string) (v *vaults, grant func(name string, level trust.Level) sharefs.PeerID) {
	t.Helper()
	b, err := book.Open(nil, func([]byte) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	for n, name := range names {
		if _, err := b.Add(sharefs.PeerID{byte(n + 1)}, name, book.ByHand, nil, nil, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	d := &Daemon{store: &store.Store{Dir: t.TempDir()}, log: slog.New(slog.DiscardHandler)}
	d.peers.book, d.peers.hub = b, new(link.Hub)
	d.vaults.d = d
	return &d.vaults, func(name string, level trust.Level) sharefs.PeerID {
		p, err := b.Grant(name, level, trust.Pattern{})
		if err != nil {
			t.Fatal(err)
		}
		return p.ID
	}
}

// That one peer is given nothing is told as long as it is so, whatever becomes of others.
func TestTroublesOfEachPeer(t *testing.T) {
	v, grant := rules(t, "anna", "bert")
	if err := os.WriteFile(filepath.Join(v.d.store.Dir, store.GivenDir), nil, 0o600); err != nil { // nothing can be begun
		t.Fatal(err)
	}
	grant("anna", trust.Store)
	v.rulesChanged()
	grant("bert", trust.Store)
	v.rulesChanged()
	if got := v.troubles(); len(got) != 2 || !strings.HasPrefix(got[0], "no backup is given to anna: ") || !strings.HasPrefix(got[1], "no backup is given to bert: ") {
		t.Errorf("%q", got)
	}
	grant("bert", trust.Paired)
	v.rulesChanged()
	if got := v.troubles(); len(got) != 1 || !strings.HasPrefix(got[0], "no backup is given to anna: ") {
		t.Errorf("%q", got)
	}
}

// idle is a store that has nothing.
type idle struct{ tier.Source }

func (idle) State() string                     { return "" }
func (idle) Files() ([]tier.File, bool, error) { return nil, true, nil }
func (idle) Removals() uint64                  { return 0 }

// A peer that loses the level and has it again is given its backup anew when what it was given before has ended, and not beside it: both write down in one file which root is the last.
func TestGivenAnewWhenTheFormerHasEnded(t *testing.T) {
	v, grant := rules(t, "anna")
	id := grant("anna", trust.Store)
	asked, release := make(chan struct{}, 1), make(chan struct{})
	mem := &membucket.Bucket{Before: func(string, string) error {
		select {
		case asked <- struct{}{}:
		default:
		}
		<-release
		if _, err := os.Stat(filepath.Join(v.d.store.Dir, tierState)); err == nil {
			t.Error("it was begun anew meanwhile")
		}
		return nil
	}}
	g := &given{peer: id, bucket: vault.New(vault.Config{}), cancel: func() {}}
	var err error
	if g.uploader, err = tier.Start(tier.Config{Bucket: mem, Source: idle{}, State: filepath.Join(t.TempDir(), "state"), Every: time.Hour, Log: v.d.log}); err != nil {
		t.Fatal(err)
	}
	<-asked
	v.given = map[sharefs.PeerID]*given{id: g}
	if err := os.WriteFile(filepath.Join(v.d.store.Dir, store.GivenDir), nil, 0o600); err != nil { // so that no more is begun than what is seen above
		t.Fatal(err)
	}
	var all sync.WaitGroup
	grant("anna", trust.Paired)
	all.Go(v.rulesChanged)
	for taken := false; !taken; time.Sleep(time.Millisecond) { // until it is about to end
		v.mu.Lock()
		taken = len(v.given) == 0
		v.mu.Unlock()
	}
	grant("anna", trust.Store)
	all.Go(v.rulesChanged)
	time.Sleep(50 * time.Millisecond)
	close(release)
	all.Wait()
	if got := v.troubles(); len(got) != 1 || !strings.HasPrefix(got[0], "no backup is given to anna: ") {
		t.Errorf("%q", got) // it was tried
	}
}
