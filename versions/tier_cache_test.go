package versions

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sharefs"
	"sharefs/versions/tier"
	"sharefs/versions/tier/membucket"
	"sharefs/versions/tier/near"
)

// far is a store whose sealed packs the bucket alone has, as far as they are there.
type far struct {
	t      *testing.T
	dir    string
	bucket switched
	state  string
	tree   *Tree
	packs  *near.FS
}

// switched is a bucket that can be out of reach.
type switched struct {
	*membucket.Bucket
	off *atomic.Bool
}

var errOff = &sharefs.Error{Op: "ask", Detail: "nobody is there"}

func (s switched) ReadAt(ctx context.Context, key string, dst []byte, off int64) (int, tier.Info, error) {
	if s.off.Load() {
		return 0, tier.Info{}, errOff
	}
	return s.Bucket.ReadAt(ctx, key, dst, off)
}

func (s switched) List(ctx context.Context, prefix, after string, fn func(tier.Info) bool) error {
	if s.off.Load() {
		return errOff
	}
	return s.Bucket.List(ctx, prefix, after, fn)
}

// newFar returns a store that lives until everything that is sealed has left.
func newFar(t *testing.T, seed uint64) *far {
	f := &far{t: t, dir: t.TempDir(), bucket: switched{&membucket.Bucket{}, new(atomic.Bool)}, state: filepath.Join(t.TempDir(), "tier")}
	m := lived(t, f.dir, seed, f.change)
	f.tree = m.tree
	for n := range 40 {
		save(t, f.tree, fmt.Sprintf("content %d", n), random(uint64(5000+n), 4000+100*n))
	}
	f.leave()
	return f
}

func (f *far) change(c *Config) {
	f.packs = must[*near.FS](f.t)(OpenCache(f.dir, near.Config{Bucket: f.bucket, URL: "s3://here/bucket", Budget: 1, Patience: time.Minute}))
	f.t.Cleanup(f.packs.Close)
	c.Packs = f.packs
	c.packSize = 32 << 10
}

// leave keeps the tree in the bucket until all that is sealed is there alone.
func (f *far) leave() {
	f.t.Helper()
	comeToRest(f.t, f.tree)
	check(f.t, f.tree.closeEpoch())
	capture(f.t, f.tree)
	check(f.t, f.tree.past.packs.Seal())
	inBucket(f.t, f.tree, f.bucket, f.state)
	for deadline := time.Now().Add(2 * time.Minute); f.local() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			f.t.Fatalf("packs do not leave: %+v", f.packs.Stats())
		}
	}
}

// local counts the files of sealed packs.
func (f *far) local() (n int) {
	files := must[[]string](f.t)(filepath.Glob(filepath.Join(f.dir, "packs", "[0-9a-f][0-9a-f]", "*")))
	return len(files)
}

// again opens the store once more.
func (f *far) again() {
	f.t.Helper()
	check(f.t, f.tree.Close())
	f.packs.Close()
	f.tree = testTree(f.t, f.dir, byHand, f.change)
	f.tree.checkpoint.room = func() int64 { return 1 << 40 }
}

func (f *far) same(want map[versionID]string) {
	f.t.Helper()
	got := everyVersion(f.t, f.tree)
	for id, text := range want {
		if other, ok := got[id]; !ok || other != text {
			f.t.Errorf("version %d of inode %d reads otherwise, %v", id.own, id.ino, ok)
		}
	}
}

func (f *far) fsck(o FsckOptions) FsckReport {
	f.t.Helper()
	return must[FsckReport](f.t)(f.tree.Fsck(f.t.Context(), o, nil))
}

// All of history may be in the bucket alone: every version reads, garbage is collected there, checks and rebuilds see that all is well, and new history joins it.
func TestHistoryMayLiveInTheBucketAlone(t *testing.T) {
	t.Parallel()
	f := newFar(t, 910)
	want := everyVersion(t, f.tree)
	if s := f.packs.Stats(); s.Remote < 3 || len(want) < 20 {
		t.Fatalf("the test is smaller than it thinks: %d versions, %+v", len(want), s)
	}
	for _, o := range []FsckOptions{{Mode: FsckFast}, {Mode: FsckScrub}, {Mode: FsckScrub, Remote: true}, {Mode: FsckScrub, Repair: true}} {
		r := f.fsck(o)
		if r.Outcome != OutcomeClean || r.Unread > 0 || !o.Remote && (r.Far == 0 || !strings.Contains(r.Text(), "the bucket alone has")) || o.Remote && r.Read == 0 {
			t.Errorf("%+v: %s", o, r.Text())
		}
	}
	f.again()
	f.same(want)

	// What nobody needs goes: packs that are empty then, and those that are mostly so, whose rest is fetched and kept anew.
	var passing []sharefs.Ino
	for n := range 30 {
		passing = append(passing, save(t, f.tree, fmt.Sprintf("passing %d", n), random(uint64(n), 9000)))
		if n%3 == 0 {
			save(t, f.tree, fmt.Sprintf("lasting %d", n), random(uint64(1000+n), 3000))
		}
	}
	f.leave()
	for _, ino := range passing {
		drop(t, f.tree, ino, 1)
	}
	want = everyVersion(t, f.tree)
	before := f.packs.Stats()
	g := must[GCReport](t)(f.tree.GC(t.Context(), GCOptions{Hurry: true, leastRun: 1}, nil))
	if g.PacksRemoved+g.PacksRewritten == 0 || g.BucketFreed == 0 || len(g.Left) > 0 || !strings.Contains(g.Text(), "bucket") {
		t.Errorf("%+v\n%s", before, g.Text())
	}
	f.same(want)
	f.leave()
	if r := f.fsck(FsckOptions{Mode: FsckScrub, Remote: true}); r.Outcome != OutcomeClean {
		t.Error(r.Text())
	}
	f.again()
	f.same(want)

	// meta.db is lost: notes tell which chunks are where, without one byte from the bucket.
	check(t, f.tree.Close())
	f.packs.Close()
	removeMeta(t, f.dir)
	f.bucket.off.Store(true)
	r := must[RebuildReport](t)(tryRebuild(f.dir, RebuildOptions{}))
	f.bucket.off.Store(false)
	if len(r.Lost) > 0 || r.LostMore > 0 {
		t.Errorf("lost: %q", r.Lost)
	}
	f.tree = testTree(t, f.dir, byHand, f.change)
	f.same(want)
}

// random returns bytes that do not compress.
func random(seed uint64, n int) string {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b)
	return string(b)
}

// While the bucket is out of reach, what lies there cannot be read, and is neither lost nor garbage; all else goes on.
func TestBucketOutOfReach(t *testing.T) {
	t.Parallel()
	f := newFar(t, 911)
	want := everyVersion(t, f.tree)
	f.again()
	f.bucket.off.Store(true)
	unreachable := 0
	for id := range want {
		r, err := f.tree.past.openVersion(must[*version](t)(loadVersion(f.tree.db, id.ino, id.own)))
		if err == nil && r.Size() > 0 {
			_, err = r.ReadAt(make([]byte, r.Size()), 0)
		}
		if r != nil {
			r.Close()
		}
		if err != nil {
			if unreachable++; sharefs.KindOf(err) != sharefs.KindUnreachable || !strings.Contains(err.Error(), "s3://here/bucket") {
				t.Errorf("of kind %v: %v", sharefs.KindOf(err), err)
			}
		}
	}
	if unreachable == 0 {
		t.Error("everything was read")
	}
	for _, o := range []FsckOptions{{Mode: FsckFast}, {Mode: FsckScrub, Remote: true}, {Mode: FsckScrub, Repair: true}} {
		r := f.fsck(o)
		if r.Unread == 0 || r.Lost > 0 || r.Healed > 0 || r.Outcome != OutcomeUnread || !strings.Contains(r.Text(), "could not be checked") {
			t.Errorf("%+v: %s", o, r.Text())
		}
		for _, x := range r.Findings {
			if x.Severity == SeverityDamage {
				t.Errorf("%+v: %+v", o, x)
			}
		}
	}
	must[GCReport](t)(f.tree.GC(t.Context(), GCOptions{Hurry: true}, nil))
	save(t, f.tree, "new", "written while the bucket was out of reach")
	comeToRest(t, f.tree)
	capture(t, f.tree)
	f.bucket.off.Store(false)
	for deadline := time.Now().Add(2 * time.Minute); !f.packs.Stats().Since.IsZero(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not come back")
		}
	}
	f.same(want)
	if r := f.fsck(FsckOptions{Mode: FsckScrub, Remote: true}); r.Outcome != OutcomeClean {
		t.Error(r.Text())
	}
}

// What a local pack has lost is fetched again from the bucket's copy of it; not what the bucket cannot give at present, which is not given up either.
func TestRepairFromTheBucket(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := switched{&membucket.Bucket{}, new(atomic.Bool)}
	packs := must[*near.FS](t)(OpenCache(dir, near.Config{Bucket: b, URL: "s3://here/bucket", Patience: time.Minute}))
	defer packs.Close()
	m := lived(t, dir, 912, func(c *Config) { c.Packs, c.packSize = packs, 32<<10 })
	comeToRest(t, m.tree)
	check(t, m.tree.closeEpoch())
	capture(t, m.tree)
	check(t, m.tree.past.packs.Seal())
	inBucket(t, m.tree, b, filepath.Join(t.TempDir(), "tier"))
	want := everyVersion(t, m.tree)
	files := must[[]string](t)(filepath.Glob(filepath.Join(dir, "packs", "[0-9a-f][0-9a-f]", "*")))
	for _, name := range files {
		body := must[[]byte](t)(os.ReadFile(name))
		for at := 200; at < len(body)-200; at += 3000 {
			body[at] ^= 4
		}
		check(t, os.WriteFile(name, body, 0o600))
	}
	for id := range want { // no live file has what versions hold
		err := os.Truncate(filepath.Join(dir, "live", m.tree.live.name(id.ino)), 0)
		if errors.Is(err, os.ErrNotExist) {
			continue // it has no name any more, and was removed
		}
		check(t, err)
		break
	}
	b.off.Store(true)
	r := must[FsckReport](t)(m.tree.Fsck(t.Context(), FsckOptions{Mode: FsckScrub, Repair: true}, nil))
	if r.Outcome != OutcomeDamage || r.Lost > 0 || !strings.Contains(r.Text(), "repair again when it does") {
		t.Errorf("without the bucket: %s", r.Text())
	}
	b.off.Store(false)
	for deadline := time.Now().Add(2 * time.Minute); !packs.Stats().Since.IsZero(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not come back")
		}
	}
	r = must[FsckReport](t)(m.tree.Fsck(t.Context(), FsckOptions{Mode: FsckScrub, Repair: true}, nil))
	if r.Healed == 0 || r.Lost > 0 {
		t.Errorf("with the bucket: %s", r.Text())
	}
	if got := everyVersion(t, m.tree); !maps.Equal(got, want) {
		t.Error("versions read otherwise")
	}
}

// An object that the bucket has lost, or cut, is found by a list of it, with the versions that it concerns; all else is uploaded on, and the status tells.
func TestBucketThatLosesPacks(t *testing.T) {
	f := newFar(t, 913)
	var keys []string
	for _, key := range f.bucket.Keys() {
		if strings.HasPrefix(key, "packs/") && !strings.Contains(key, "/open/") {
			keys = append(keys, key)
		}
	}
	check(t, f.bucket.Delete(t.Context(), keys[0]))
	if _, err := f.bucket.Put(t.Context(), keys[1], strings.NewReader("cut"), 3, tier.Condition{}); err != nil {
		t.Fatal(err)
	}
	r := f.fsck(FsckOptions{Mode: FsckFast})
	packs, versions := 0, 0
	for _, x := range r.Findings {
		if x.Kind == FoundPack && x.Severity == SeverityDamage {
			packs++
			versions += len(x.Versions)
		}
	}
	if r.Outcome != OutcomeDamage || packs != 2 || versions == 0 {
		t.Errorf("%s", r.Text())
	}
	save(t, f.tree, "new", "text")
	comeToRest(t, f.tree)
	capture(t, f.tree)
	u := must[*tier.Uploader](t)(tier.Start(tier.Config{Bucket: f.bucket, Source: f.tree.TierSource(), Key: TierKey(f.tree.Keys().First().Secret), State: f.state, Host: "here",
		Every: time.Millisecond, Log: f.tree.log, Named: f.packs.Named}))
	defer u.Close()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(time.Millisecond) {
		s := u.Stats()
		if !s.Complete.IsZero() && s.BacklogFiles == 0 && strings.Contains(s.Error, "does not have 2 packs") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v", s)
		}
	}
	root, _, err := tier.ReadRoot(t.Context(), f.bucket, TierKey(f.tree.Keys().First().Secret))
	check(t, err)
	for _, x := range root.Files {
		if x.Name == keys[0] || x.Name == keys[1] {
			t.Errorf("the root names %s", x.Name)
		}
	}
}

// A store whose notes somebody opens without its bucket says where its packs are, and no repair takes them for lost.
func TestWithoutItsBucketNothingIsGivenUp(t *testing.T) {
	f := newFar(t, 914)
	want := everyVersion(t, f.tree)
	check(t, f.tree.Close())
	f.packs.Close()
	tree := testTree(t, f.dir, byHand)
	r := must[FsckReport](t)(tree.Fsck(t.Context(), FsckOptions{Mode: FsckScrub, Repair: true}, nil))
	if r.Lost > 0 || r.Unread == 0 || !strings.Contains(r.Text(), "share.toml has no [tier]") {
		t.Errorf("%s", r.Text())
	}
	check(t, tree.Close())
	f.tree = testTree(t, f.dir, byHand, f.change)
	f.same(want)
}

// Somebody takes cache/ for what its name says and removes it: what the bucket alone has is not given up there, and comes back by itself.
func TestNotesThatAreLostComeBack(t *testing.T) {
	f := newFar(t, 915)
	want := everyVersion(t, f.tree)
	check(t, f.tree.Close())
	f.packs.Close()
	check(t, os.RemoveAll(filepath.Join(f.dir, cacheDir)))
	f.tree = testTree(t, f.dir, byHand, f.change)
	if s := f.packs.Stats(); s.Remote > 0 {
		t.Fatalf("%+v", s)
	}
	f.bucket.off.Store(true)
	u := must[*tier.Uploader](t)(tier.Start(tier.Config{Bucket: f.bucket, Source: f.tree.TierSource(), Key: TierKey(f.tree.Keys().First().Secret), State: f.state, Host: "here",
		Every: time.Millisecond, Log: f.tree.log, Named: f.packs.Named, TakeBack: f.tree.TakeBack}))
	defer u.Close()
	f.bucket.off.Store(false)
	for deadline := time.Now().Add(2 * time.Minute); u.Stats().Complete.IsZero(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%+v", u.Stats())
		}
	}
	if s := f.packs.Stats(); s.Remote == 0 {
		t.Errorf("%+v", s)
	}
	f.same(want)
	root, _, err := tier.ReadRoot(t.Context(), f.bucket, TierKey(f.tree.Keys().First().Secret))
	check(t, err)
	for _, d := range root.Dropped {
		if strings.HasPrefix(d.Name, "packs/") && !strings.HasPrefix(d.Name, "packs/open/") {
			t.Errorf("the root gives up %s", d.Name)
		}
	}
}
