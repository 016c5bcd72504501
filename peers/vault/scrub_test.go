package vault

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sharefs"
	"sharefs/versions/tier"
)

// receives reports whether an object is being received.
func (v *Vault) receives() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.held > 0
}

// Damage on the keeper's disk is found, told to the giver, and healed by the next put. A damaged object can be read still: a recovery takes of it what there is.
func TestScrub(t *testing.T) {
	dir := t.TempDir()
	k := newKeeper(t, dir)
	worse := 0
	b := bucket(t, k.session(anna), func(c *Config) { c.Damaged = func() { worse++ } })
	for n := range 10 {
		put(t, b, fmt.Sprint("packs/", n), strings.Repeat(fmt.Sprint(n), 1000))
	}
	v, _ := k.store.of(anna, false)
	k.store.scrubOne(t.Context(), v, 0)
	if kept, _ := k.store.Kept(anna); kept.Damaged != 0 || kept.Scrubbed.IsZero() || kept.Objects != 10 {
		t.Fatalf("%+v", kept)
	}
	flip := func(key string, at int64) {
		t.Helper()
		f, err := os.OpenFile(filepath.Join(v.dir, nameOf(key)), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var one [1]byte
		if _, err := f.ReadAt(one[:], at); err != nil {
			t.Fatal(err)
		}
		one[0] ^= 1
		if _, err := f.WriteAt(one[:], at); err != nil {
			t.Fatal(err)
		}
	}
	flip("packs/3", 500)
	flip("packs/4", 1000) // in what stands behind it
	k.store.scrubOne(t.Context(), v, 0)
	for _, again := range []bool{false, true} {
		if again { // it is known after a restart
			k = newKeeper(t, dir)
			b = bucket(t, k.session(anna), func(c *Config) { c.Damaged = func() { worse++ } })
		}
		got := content(t, b)
		if _, there := got["packs/3"]; there || len(got) != 8 || b.State().Damaged != 2 {
			t.Fatalf("%v, %+v", slices.Sorted(maps.Keys(got)), b.State())
		}
		body := make([]byte, 1000)
		if n, _, err := b.ReadAt(t.Context(), "packs/3", body, 0); err != nil || n != 1000 || strings.Count(string(body), "3") != 999 {
			t.Errorf("%d, %v", n, err)
		}
	}
	if worse != 2 {
		t.Errorf("the giver was told %d times", worse)
	}
	put(t, b, "packs/3", strings.Repeat("3", 1000))
	put(t, b, "packs/4", strings.Repeat("4", 1000))
	if got := content(t, b); len(got) != 10 || got["packs/3"] != strings.Repeat("3", 1000) {
		t.Errorf("%d", len(got))
	}
	k = newKeeper(t, dir)
	v, _ = k.store.of(anna, false)
	k.store.scrubOne(t.Context(), v, 0)
	if kept, _ := k.store.Kept(anna); kept.Damaged != 0 || kept.Objects != 10 {
		t.Errorf("%+v", kept)
	}
}

// opened is a file that is here.
type opened1 struct{ *strings.Reader }

func (opened1) Close() error { return nil }

// What a keeper lost, changed or lies about is found by asking for proofs; what the giver has not either is passed over.
func TestCheck(t *testing.T) {
	k := newKeeper(t, t.TempDir())
	b := bucket(t, k.session(anna))
	here := map[string]string{}
	var list []tier.Info
	for n := range 20 {
		key, text := fmt.Sprint("packs/", n), strings.Repeat(fmt.Sprint("sealed ", n, " "), 1+n*100)
		here[key] = text
		put(t, b, key, text)
		list = append(list, tier.Info{Key: key, Size: int64(len(text))})
	}
	open := func(name string) (interface {
		io.ReaderAt
		io.Closer
	}, error) {
		text, ok := here[name]
		if !ok {
			return nil, sharefs.KindNotExist
		}
		return opened1{strings.NewReader(text)}, nil
	}
	check := func() Checked {
		t.Helper()
		out, err := b.Check(t.Context(), list, open, 100)
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(out.Wrong)
		return out
	}
	if out := check(); out.Objects != 20 || len(out.Wrong) != 0 || out.Bytes == 0 {
		t.Errorf("%+v", out)
	}
	// One is gone, one is shorter, and one was replaced without the giver.
	thief := bucket(t, k.session(anna))
	if err := thief.Delete(t.Context(), "packs/3"); err != nil {
		t.Fatal(err)
	}
	put(t, thief, "packs/5", here["packs/5"][1:])
	put(t, thief, "packs/7", strings.Repeat("x", len(here["packs/7"])))
	delete(here, "packs/9")
	out := check()
	if want := []string{"packs/3", "packs/5", "packs/7"}; out.Objects != 19 || out.Unknown != 1 || !slices.Equal(out.Wrong, want) {
		t.Errorf("%+v", out)
	}
	// They are listed no more, until they are put again.
	if got := content(t, b); len(got) != 17 {
		t.Errorf("%d", len(got))
	}
	for _, key := range out.Wrong {
		put(t, b, key, here[key])
	}
	if out := check(); len(out.Wrong) != 0 || out.Objects != 19 || len(content(t, b)) != 20 {
		t.Errorf("%+v", out)
	}
}

// What was given back to the disk here is not asked for: the peer has more of it, and that is no fault of his.
func TestCheckOfHoles(t *testing.T) {
	k := newKeeper(t, t.TempDir())
	b := bucket(t, k.session(anna))
	whole := strings.Repeat("sealed text ", 100_000)
	put(t, b, "packs/1", whole)
	put(t, b, "packs/2", whole)
	holed := []byte(whole)
	clear(holed[100_000:900_000])
	list := []tier.Info{{Key: "packs/1", Size: int64(len(whole))}, {Key: "packs/2", Size: int64(len(whole))}}
	for range 50 {
		out, err := b.Check(t.Context(), list, func(name string) (interface {
			io.ReaderAt
			io.Closer
		}, error) {
			if name == "packs/2" {
				return opened1{strings.NewReader(string(make([]byte, len(whole))))}, nil
			}
			return opened1{strings.NewReader(string(holed))}, nil
		}, 2)
		if err != nil || len(out.Wrong) != 0 || out.Unknown == 0 {
			t.Fatalf("%+v, %v", out, err)
		}
	}
}
