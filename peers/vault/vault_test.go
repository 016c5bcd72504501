package vault

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sharefs"
	"sharefs/peers/frame"
	"sharefs/peers/trust"
	"sharefs/versions/tier"
	"sharefs/versions/tier/tiertest"
)

var (
	anna = sharefs.PeerID{1}
	carl = sharefs.PeerID{3}
)

// keeper is a host that keeps objects.
type keeper struct {
	store  *Store
	server *Server
	quotas sync.Map // of peers, uint64
}

// newKeeper returns one that keeps what lies in a directory.
func newKeeper(t testing.TB, dir string) *keeper {
	t.Helper()
	k := &keeper{}
	k.quotas.Store(anna, uint64(1<<30))
	var err error
	k.store, err = OpenStore(StoreConfig{Dir: dir, Log: slog.New(slog.DiscardHandler), Quota: func(id sharefs.PeerID) (uint64, string) {
		q, _ := k.quotas.LoadOrStore(id, uint64(0))
		return q.(uint64), "it keeps nothing for this host"
	}})
	if err != nil {
		t.Fatal(err)
	}
	k.server = NewServer(ServerConfig{Store: k.store})
	t.Cleanup(k.server.Close)
	return k
}

// session opens pipes to a function that serves them.
type session struct {
	serve func(c net.Conn, first json.RawMessage)
	wrap  func(net.Conn) net.Conn // around the giver's end; nil: nothing is
	done  chan struct{}
}

func (s *session) Done() <-chan struct{} { return s.done }

func (s *session) Open(ctx context.Context) (net.Conn, error) {
	here, there := net.Pipe()
	go func() {
		var first json.RawMessage
		if frame.Read(there, &first) != nil {
			there.Close()
			return
		}
		s.serve(there, first)
	}()
	if s.wrap != nil {
		return s.wrap(here), nil
	}
	return here, nil
}

func (k *keeper) session(peer sharefs.PeerID) *session {
	return &session{serve: func(c net.Conn, first json.RawMessage) { k.server.Serve(peer, c, first) }}
}

// sealed takes everything for sealed that does not begin with "plain".
var sealed = trust.NewFileSealer(func(name string, body io.ReaderAt, size int64) error {
	b := make([]byte, min(size, 5))
	if _, err := body.ReadAt(b, 0); err != nil && err != io.EOF {
		return err
	}
	if string(b) == "plain" {
		return &sharefs.Error{Op: "check", Path: name, Kind: sharefs.KindCorrupt}
	}
	return nil
})

// given is a permission as a policy gives it to peers of a level.
func given(peer sharefs.PeerID, level trust.Level) func() (trust.Cipher, error) {
	return func() (trust.Cipher, error) {
		return trust.Policy{}.Grant(trust.Rule{Peer: peer, Level: level}).Cipher(peer)
	}
}

var keeperID = sharefs.PeerID{9}

// bucket is that of a giver at a keeper.
func bucket(t testing.TB, s Session, change ...func(*Config)) *Bucket {
	t.Helper()
	c := Config{Peer: keeperID, Session: func() Session { return s }, Permit: given(keeperID, trust.Store), Sealer: sealed, Fetcher: bytes.Repeat([]byte{7}, 32)}
	for _, f := range change {
		f(&c)
	}
	b := New(c)
	t.Cleanup(b.Close)
	return b
}

func TestBucket(t *testing.T) {
	tiertest.Bucket(t, func(t *testing.T) tier.Bucket { return bucket(t, newKeeper(t, t.TempDir()).session(anna)) })
}

func put(t testing.TB, b *Bucket, key, text string) string {
	t.Helper()
	tag, err := b.Put(t.Context(), key, strings.NewReader(text), int64(len(text)), tier.Condition{})
	if err != nil {
		t.Fatal(err)
	}
	return tag
}

// content reads all that is listed.
func content(t testing.TB, b *Bucket) map[string]string {
	t.Helper()
	all := map[string]string{}
	var list []tier.Info
	if err := b.List(t.Context(), "", "", func(i tier.Info) bool { list = append(list, i); return true }); err != nil {
		t.Fatal(err)
	}
	for _, i := range list {
		body := make([]byte, i.Size)
		if i.Size > 0 {
			if n, info, err := b.ReadAt(t.Context(), i.Key, body, 0); err != nil || int64(n) != i.Size || info != i {
				t.Fatalf("%s: %d, %+v, %v", i.Key, n, info, err)
			}
		}
		all[i.Key] = string(body)
	}
	return all
}

// files lists what lies in a directory.
func files(t testing.TB, dir string) (out []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			out = append(out, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// What is there is there after a restart, the names of keys are no paths, and what was being received goes.
func TestReopened(t *testing.T) {
	dir := t.TempDir()
	k := newKeeper(t, dir)
	b := bucket(t, k.session(anna))
	want := map[string]string{}
	for _, key := range []string{"root", "packs/ab/1", "packs/ab", "packs/ab/1/2", strings.Repeat("x", maxKey), "ä/ö", "giver", "new/1"} {
		want[key] = "text of " + key
		put(t, b, key, want[key])
	}
	put(t, b, "empty", "")
	want["empty"] = ""
	if err := b.Delete(t.Context(), "packs/ab/1/2"); err != nil {
		t.Fatal(err)
	}
	delete(want, "packs/ab/1/2")
	used := b.State().Used
	k.server.Close()
	stray := filepath.Join(dir, anna.Plain(), "new", "17")
	if err := os.WriteFile(stray, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	k = newKeeper(t, dir)
	b = bucket(t, k.session(anna))
	if got := content(t, b); !maps.Equal(got, want) {
		t.Errorf("%v", got)
	}
	if b.State().Used != used || used < uint64(len(want)*charge) {
		t.Errorf("%d are used, %d were", b.State().Used, used)
	}
	if _, err := os.Stat(stray); !os.IsNotExist(err) {
		t.Error("what was being received is there")
	}
	if err := k.store.Drop(anna); err != nil {
		t.Fatal(err)
	}
	if got := content(t, b); len(got) != 0 || b.State().Used != 0 {
		t.Errorf("%v, %d", got, b.State().Used)
	}
}

// Whoever is given no quota is told so, and where more is given than there is room it is refused, and what was there stays.
func TestQuota(t *testing.T) {
	k := newKeeper(t, t.TempDir())
	k.store.cfg.Name = func(id sharefs.PeerID) string { return map[sharefs.PeerID]string{carl: "charles"}[id] }
	of := bucket(t, k.session(carl))
	if err := content1(of); !errors.Is(err, sharefs.KindPermission) || err.Error() != "keep a backup: the peer says: it keeps nothing for this host" {
		t.Errorf("%v", err)
	}
	told := func(what string, s State, giver sharefs.PeerID, none bool) {
		t.Helper()
		if kept, _ := k.store.Kept(giver); s.NoQuota != none || kept.Vain.IsZero() == none {
			t.Errorf("%s: the giver knows %+v, the keeper %+v", what, s, kept)
		}
	}
	told("at first", of.State(), carl, true)
	if as := of.State().As; as != "charles" {
		t.Errorf("it is called %q", as)
	}
	if _, err := os.Stat(filepath.Join(k.store.cfg.Dir, carl.Plain())); !os.IsNotExist(err) {
		t.Error("there is a directory for him")
	}
	k.quotas.Store(carl, uint64(charge))
	if err := content1(of); err != nil {
		t.Error(err)
	}
	told("with a quota", of.State(), carl, false)
	k.quotas.Store(anna, uint64(3*charge+300))
	b := bucket(t, k.session(anna))
	want := map[string]string{}
	for n := range 3 {
		key, text := fmt.Sprint("packs/", n), strings.Repeat(fmt.Sprint(n), 100)
		put(t, b, key, text)
		want[key] = text
	}
	full := func(key, text string) {
		t.Helper()
		if _, err := b.Put(t.Context(), key, strings.NewReader(text), int64(len(text)), tier.Condition{}); !errors.Is(err, sharefs.KindNoSpace) {
			t.Errorf("%s: %v", key, err)
		}
	}
	full("packs/4", "x")
	full("packs/2", strings.Repeat("y", 101))
	want["packs/2"] = strings.Repeat("z", 100)
	put(t, b, "packs/2", want["packs/2"])
	// The quota is taken away: nothing more comes, and all can be read and removed.
	told("with a quota of its own", b.State(), anna, false)
	k.quotas.Store(anna, uint64(0))
	if kept, _ := k.store.Kept(anna); !kept.Vain.IsZero() {
		t.Error("nothing was to come since the quota is gone")
	}
	if _, err := b.Put(t.Context(), "packs/1", strings.NewReader("x"), 1, tier.Condition{}); !errors.Is(err, sharefs.KindPermission) {
		t.Error(err)
	}
	told("without a quota any more", b.State(), anna, true)
	if got := content(t, b); !maps.Equal(got, want) {
		t.Errorf("%v", got)
	}
	if err := b.Delete(t.Context(), "packs/1"); err != nil {
		t.Error(err)
	}
	// The disk is full.
	k.quotas.Store(anna, uint64(1<<30))
	k.store.cfg.Spare = 1 << 20
	k.store.free = func() (uint64, error) { return 1<<20 + 50, nil }
	full("packs/5", strings.Repeat("y", 51))
	put(t, b, "packs/6", strings.Repeat("y", 50))
}

// Both ends tell of what there was no room for, by how much, and of what, until there is.
func TestRefused(t *testing.T) {
	k := newKeeper(t, t.TempDir())
	k.quotas.Store(anna, uint64(2*charge+300))
	k.store.cfg.Name = func(id sharefs.PeerID) string { return map[sharefs.PeerID]string{anna: "anna"}[id] }
	b := bucket(t, k.session(anna))
	try := func(key string, size int) error {
		_, err := b.Put(t.Context(), key, strings.NewReader(strings.Repeat("y", size)), int64(size), tier.Condition{})
		return err
	}
	at := func(what string, giver, keeper Refused) {
		t.Helper()
		kept, _ := k.store.Kept(anna)
		for end, got := range map[string][2]Refused{"giver": {b.State().Refused, giver}, "keeper": {kept.Refused, keeper}} {
			if is, want := got[0], got[1]; is.Size != want.Size || is.Disk != want.Disk || is.Since.IsZero() != (want.Size == 0) {
				t.Errorf("%s: the %s has %+v, not %+v", what, end, is, want)
			}
		}
	}
	none := Refused{}
	put(t, b, "packs/1", "first")
	at("room for all", none, none)
	if b.State().As != "anna" {
		t.Errorf("it is called %q", b.State().As)
	}
	err := try("packs/2", 296)
	if e := (*sharefs.Error)(nil); !errors.As(err, &e) || e.Kind != sharefs.KindNoSpace || e.Path != "" || !strings.Contains(e.Detail, fmt.Sprintf("of which %d are used, and %d are to come", charge+5, charge+296)) {
		t.Errorf("%v", err)
	}
	large := Refused{Size: charge + 296}
	at("one too much", large, large)
	since := b.State().Refused.Since
	kept, _ := k.store.Kept(anna)
	if try("packs/2", 296) == nil || !b.State().Refused.Since.Equal(since) {
		t.Error("again it is another time")
	}
	if now, _ := k.store.Kept(anna); !now.Refused.Since.Equal(kept.Refused.Since) || !now.Refused.Tried.After(kept.Refused.Tried) {
		t.Errorf("%+v, and then %+v", kept.Refused, now.Refused)
	}
	kept, _ = k.store.Kept(anna)
	put(t, b, "packs/3", "small")
	at("another one had room", large, large)
	if now, _ := k.store.Kept(anna); !now.Refused.Tried.After(kept.Refused.Tried) {
		t.Errorf("nothing was tried since %v", kept.Refused.Tried)
	}
	if err := b.Delete(t.Context(), "packs/3"); err != nil {
		t.Error(err)
	}
	k.quotas.Store(anna, uint64(2*charge+301))
	at("more is given", large, none) // the giver learns of it when it tries again
	if err := try("packs/2", 296); err != nil {
		t.Error(err)
	}
	at("it came", none, none)

	if try("packs/4", 1) == nil {
		t.Error("there is room")
	}
	k.quotas.Store(anna, uint64(1<<20))
	put(t, b, tier.RootKey, "what needs it no more")
	at("the root came", none, none)

	k.store.free = func() (uint64, error) { return 50, nil }
	if !errors.Is(try("packs/5", 51), sharefs.KindNoSpace) {
		t.Error("the disk had room")
	}
	disk := Refused{Size: charge + 51, Disk: true}
	at("the disk is full", disk, disk)
	k.store.free = func() (uint64, error) { return 1 << 20, nil }
	at("the disk has room", disk, none)
	if err := try("packs/5", 51); err != nil {
		t.Error(err)
	}
	at("it came", none, none)
	again := k.session(anna)
	if other := bucket(t, again); len(content(t, other)) != 4 || other.State().Refused != none {
		t.Errorf("%+v", other.State())
	}
}

// What lies there and tells nothing of what it is counts in the quota, until it is put anew, removed, or all is dropped.
func TestBrokenFilesCount(t *testing.T) {
	dir := t.TempDir()
	k := newKeeper(t, dir)
	b := bucket(t, k.session(anna))
	for _, key := range []string{"a", "b", "c", "d"} {
		put(t, b, key, strings.Repeat(key, 1000))
	}
	b.Close()
	k.server.Close()
	for _, key := range []string{"a", "b", "c"} {
		if err := os.Truncate(filepath.Join(dir, anna.Plain(), nameOf(key)), 900); err != nil {
			t.Fatal(err)
		}
	}
	k = newKeeper(t, dir)
	const broken, whole = 900 + charge, 1000 + charge
	quota := uint64(3*broken + whole)
	k.quotas.Store(anna, quota)
	b = bucket(t, k.session(anna))
	state := func(used uint64, damaged int) {
		t.Helper()
		if err := content1(b); err != nil || b.State().Used != used || b.State().Damaged != damaged {
			t.Errorf("%+v, %v, not %d, %d", b.State(), err, used, damaged)
		}
		if kept, ok := k.store.Kept(anna); !ok || kept.Bytes != used || kept.Damaged != damaged {
			t.Errorf("%+v", kept)
		}
	}
	state(quota, 3)
	if _, err := b.Put(t.Context(), "e", strings.NewReader("x"), 1, tier.Condition{}); !errors.Is(err, sharefs.KindNoSpace) {
		t.Error(err)
	}
	put(t, b, "a", strings.Repeat("a", 900))
	state(quota, 2)
	if err := b.Delete(t.Context(), "b"); err != nil {
		t.Error(err)
	}
	state(quota-broken, 1)
	if err := k.store.Drop(anna); err != nil {
		t.Fatal(err)
	}
	state(0, 0)
	if left, err := filepath.Glob(filepath.Join(dir, anna.Plain(), "??/*")); err != nil || len(left) > 0 {
		t.Error(left, err)
	}
}

// What several givers send at a time has to have room together.
func TestDiskIsSharedByGivers(t *testing.T) {
	k := newKeeper(t, t.TempDir())
	k.quotas.Store(carl, uint64(1<<30))
	k.store.free = func() (uint64, error) { return 1000 + charge, nil }
	var ins []*incoming
	begin := func(peer sharefs.PeerID, size int64) error {
		v, err := k.store.of(peer, true)
		if err != nil {
			t.Fatal(err)
		}
		in, err := v.begin("key", object{size: size}, condition{})
		if err == nil {
			ins = append(ins, in)
		}
		return err
	}
	if err := begin(anna, 600); err != nil {
		t.Error(err)
	}
	if err := begin(carl, 401); !errors.Is(err, sharefs.KindNoSpace) {
		t.Error(err)
	}
	if err := begin(carl, 400); err != nil {
		t.Error(err)
	}
	for _, in := range ins {
		in.end()
	}
	if err := begin(carl, 1000); err != nil {
		t.Error(err)
	}
	ins[2].end()
	if n := k.store.held.Load(); n != 0 {
		t.Errorf("%d bytes are held", n)
	}
}

// A keeper whose disk fails tells that it does, and no place on it.
func TestFaultNamesNoPlace(t *testing.T) {
	dir := t.TempDir()
	k := newKeeper(t, dir)
	b := bucket(t, k.session(anna))
	put(t, b, "a", "text")
	if err := os.RemoveAll(filepath.Join(dir, anna.Plain(), "new")); err != nil {
		t.Fatal(err)
	}
	_, err := b.Put(t.Context(), "b", strings.NewReader("x"), 1, tier.Condition{})
	if err == nil || strings.Contains(err.Error(), dir) || strings.Contains(err.Error(), "new") || !strings.Contains(err.Error(), "the peer says: "+sharefs.KindNotExist.String()) {
		t.Error(err)
	}
}

func content1(b *Bucket) error {
	return b.List(context.Background(), "", "", func(tier.Info) bool { return true })
}

// Plain bytes go nowhere, nor does anything to a peer that may not have it: not one byte of the object is written.
func TestNothingPlainGoesOut(t *testing.T) {
	k := newKeeper(t, t.TempDir())
	var wire record
	s := k.session(anna)
	s.wrap = wire.around
	const secret = "plain text that nobody is to see"
	b := bucket(t, s)
	if _, err := b.Put(t.Context(), "packs/1", strings.NewReader(secret), int64(len(secret)), tier.Condition{}); !errors.Is(err, sharefs.KindCorrupt) {
		t.Error(err)
	}
	for _, l := range []trust.Level{trust.Blocked, trust.Paired} {
		b := bucket(t, s, func(c *Config) { c.Permit = given(keeperID, l) })
		if _, err := b.Put(t.Context(), "packs/1", strings.NewReader("sealed secret"), 13, tier.Condition{}); !errors.Is(err, sharefs.KindPermission) {
			t.Errorf("%s: %v", l, err)
		}
	}
	other := bucket(t, s, func(c *Config) { c.Permit = given(carl, trust.Store) })
	if _, err := other.Put(t.Context(), "packs/1", strings.NewReader("sealed secret"), 13, tier.Condition{}); !errors.Is(err, sharefs.KindPermission) {
		t.Error(err)
	}
	none := bucket(t, s, func(c *Config) { c.Permit = nil })
	if _, err := none.Put(t.Context(), "packs/1", strings.NewReader("sealed secret"), 13, tier.Condition{}); !errors.Is(err, sharefs.KindPermission) {
		t.Error(err)
	}
	wire.mu.Lock()
	defer wire.mu.Unlock()
	if bytes.Contains(wire.out, []byte("secret")) || bytes.Contains(wire.out, []byte("nobody is to see")) {
		t.Errorf("%q", wire.out)
	}
}

// record notes what is written.
type record struct {
	mu  sync.Mutex
	out []byte
}

func (r *record) around(c net.Conn) net.Conn { return &recorded{c, r} }

type recorded struct {
	net.Conn
	r *record
}

func (c *recorded) Write(b []byte) (int, error) {
	c.r.mu.Lock()
	c.r.out = append(c.r.out, b...)
	c.r.mu.Unlock()
	return c.Conn.Write(b)
}

// errCut is what a connection that was cut says.
var errCut = errors.New("cut")

// cut is a connection that breaks when so many bytes have gone either way.
type cut struct {
	net.Conn
	mu   sync.Mutex
	left *int
}

func (c *cut) spend(n int) (int, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	may := min(n, *c.left)
	*c.left -= may
	return may, may == n
}

func (c *cut) Write(b []byte) (int, error) {
	may, all := c.spend(len(b))
	n, err := c.Conn.Write(b[:may])
	if err == nil && !all {
		c.Conn.Close()
		err = errCut
	}
	return n, err
}

func (c *cut) Read(b []byte) (int, error) {
	may, all := c.spend(len(b[:min(len(b), 7)]))
	if may == 0 && !all {
		c.Conn.Close()
		return 0, errCut
	}
	return c.Conn.Read(b[:max(may, 1)])
}

// A put that is cut off at any byte, either way, leaves the object that was there or the new one, whole; nothing else is left, and the next put goes through.
func TestCutAnywhere(t *testing.T) {
	dir := t.TempDir()
	k := newKeeper(t, dir)
	plain := bucket(t, k.session(anna))
	v, err := k.store.of(anna, true)
	if err != nil {
		t.Fatal(err)
	}
	at, done := 0, false
	for ; !done; at += 1 + at/20 {
		before := fmt.Sprint("text before ", at)
		put(t, plain, "packs/1", before)
		s := k.session(anna)
		left := at
		s.wrap = func(c net.Conn) net.Conn { return &cut{Conn: c, left: &left} }
		b := bucket(t, s)
		after := fmt.Sprint("text behind ", at)
		_, err := b.Put(t.Context(), "packs/1", strings.NewReader(after), int64(len(after)), tier.Condition{})
		b.Close()
		for end := time.Now().Add(time.Minute); v.receives() && time.Now().Before(end); {
			time.Sleep(100 * time.Microsecond) // what came whole is being kept, though nobody hears of it
		}
		done = err == nil
		if err != nil && !errors.Is(err, sharefs.KindUnreachable) {
			t.Fatalf("%d bytes: %v", at, err)
		}
		if got := content(t, plain); len(got) != 1 || got["packs/1"] != after && (done || got["packs/1"] != before) {
			t.Fatalf("%d bytes, %v: %q", at, err, got)
		}
	}
	if at < 200 {
		t.Errorf("%d bytes were enough", at)
	}
	k.server.Close() // all that was under way has ended
	if got := files(t, filepath.Join(dir, anna.Plain(), "new")); len(got) != 0 {
		t.Errorf("%q", got)
	}
	if v.receives() {
		t.Errorf("%d bytes of the quota are held", v.held)
	}
}

// Whoever has the fetcher's key reads what was given for it, of the giver that he names, and changes nothing. Anybody else gets nothing.
func TestFetcher(t *testing.T) {
	k := newKeeper(t, t.TempDir())
	k.quotas.Store(carl, uint64(1<<30))
	put(t, bucket(t, k.session(carl)), "root", "of carl")
	put(t, bucket(t, k.session(anna)), "root", "of anna")
	other := sharefs.PeerID{4}
	k.quotas.Store(other, uint64(1<<30))
	put(t, bucket(t, k.session(other), func(c *Config) { c.Fetcher = bytes.Repeat([]byte{8}, 32) }), "root", "of another store")
	key := [32]byte(bytes.Repeat([]byte{7}, 32))
	as := func(key [32]byte, of string) *Bucket {
		s := &session{serve: func(c net.Conn, first json.RawMessage) { k.server.ServeFetcher(key, c, first) }}
		return bucket(t, s, func(c *Config) { c.Permit, c.Fetcher, c.Of = nil, nil, of })
	}
	offers, err := as(key, "").Vaults(t.Context())
	if err != nil || len(offers) != 2 || offers[0].Giver != anna.String() || offers[1].Giver != carl.String() || offers[0].Objects != 1 {
		t.Fatalf("%+v, %v", offers, err)
	}
	for of, want := range map[string]string{"": "of anna", anna.String(): "of anna", carl.String(): "of carl", other.String(): "of anna"} {
		if got := content(t, as(key, of)); len(got) != 1 || got["root"] != want {
			t.Errorf("%s: %v", of, got)
		}
	}
	b := as(key, "")
	if err := b.Delete(t.Context(), "root"); !errors.Is(err, sharefs.KindPermission) {
		t.Error(err)
	}
	b.cfg.Permit = given(keeperID, trust.Store)
	if _, err := b.Put(t.Context(), "root", strings.NewReader("x"), 1, tier.Condition{}); !errors.Is(err, sharefs.KindPermission) {
		t.Error(err)
	}
	if err := content1(as([32]byte{1}, "")); !errors.Is(err, sharefs.KindNotExist) {
		t.Error(err)
	}
	if !k.store.Fetches(key) || k.store.Fetches([32]byte{}) || k.store.Fetches([32]byte{1}) {
		t.Error("whose key fetches")
	}
}
