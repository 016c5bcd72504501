package versions

import (
	"testing"

	"sharefs"
	"sharefs/internal/keyring"
)

// What another host made is kept under the share key that names it, whichever is in use here, and not at all as long as that key is not here.
func TestAdoptUnderItsKey(t *testing.T) {
	t.Parallel()
	mine, theirs := newKeyFile(1), newKeyFile(2)
	here := testTree(t, t.TempDir(), mine.config, func(c *Config) { c.Peer = sharefs.PeerID{1} })
	there := &other{testTree(t, t.TempDir(), theirs.config, func(c *Config) { c.Peer = sharefs.PeerID{2} }), t, map[sharefs.ChunkID]bool{}, 0, nil}
	var list []Content
	add := func(name, text string) {
		t.Helper()
		a := create(t, there.Tree, sharefs.RootIno, name, text)
		list = append(list, newestKept(t, there.Tree, a.Ino).Content)
	}
	refused := func(want sharefs.Kind) {
		t.Helper()
		l, errs, err := here.Gather(list[len(list)-1:], there)
		check(t, err)
		l.End()
		wantKind(t, errs[0], want)
		if must[bool](t)(here.Here(&list[len(list)-1])) {
			t.Error("it is here")
		}
		_, errs, err = here.Stage([]Foreign{{Content: list[len(list)-1]}})
		check(t, err)
		if kind := sharefs.KindOf(errs[0]); kind != want && (want != sharefs.KindCorrupt || kind != sharefs.KindAgain) {
			t.Errorf("staged: %v", errs[0])
		}
	}
	text := blob(1, 8<<20)
	add("first", text)
	if list[0].Level == 0 || list[0].Key != there.Keys().Use().ID() {
		t.Fatalf("%+v", list[0])
	}
	refused(sharefs.KindAccess)
	must[bool](t)(here.AdoptKeys(there.Keys()))
	must[keyring.Ring](t)(there.BeginEpoch())
	add("second", text) // of equal content, under another key
	if list[0].Key == list[1].Key || list[0].Spans[0].ID == list[1].Spans[0].ID {
		t.Fatalf("%+v", list[1])
	}
	refused(sharefs.KindAccess)
	must[bool](t)(here.AdoptKeys(there.Keys()))
	must[keyring.Ring](t)(here.BeginEpoch()) // both keys are of the past here
	add("none", "")
	if list[2].Key != (sharefs.KeyID{}) {
		t.Errorf("%+v", list[2])
	}
	l := gathered(t, here, there, list...)
	for i, name := range []string{"first", "second", "none"} {
		a := create(t, here, sharefs.RootIno, name, "")
		settle(t, here, a.Ino)
		must[uint64](t)(here.Adopt(a.Ino, staged(t, here, Foreign{Content: list[i], Author: sharefs.PeerID{2}}), must[Latest](t)(here.Latest(a.Ino)).Own))
		if got := must[Latest](t)(here.Latest(a.Ino)); got.Content.Key != list[i].Key || !got.Kept || !must[bool](t)(here.Here(&list[i])) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	l.End()
	eachByItsKey(t, here)
	wantClean(t, here, FsckScrub)
	// Its chunks are here under one key. Whoever says that they are of another one is not believed.
	for _, key := range []sharefs.KeyID{list[1].Key, {}} {
		claim := list[0]
		claim.Key = key
		list = append(list, claim)
		if key == (sharefs.KeyID{}) {
			refused(sharefs.KindInvalid)
			continue
		}
		l, errs, err := here.Gather(list[len(list)-1:], liar{there})
		check(t, err)
		l.End()
		wantKind(t, errs[0], sharefs.KindCorrupt)
		if must[bool](t)(here.Here(&claim)) {
			t.Error("it is here under a key that does not name it")
		}
	}
	eachByItsKey(t, here)
}

// liar is a source that does not ask whether what it sends is good.
type liar struct{ o *other }

func (l liar) Want(int, ...sharefs.ChunkID) {}
func (l liar) Get(_ int, id sharefs.ChunkID, _ func([]byte) bool) ([]byte, error) {
	return l.o.Chunk(id, nil)
}

// Which key an earlier version is of is found where the row that told it was lost.
func TestLatestTellsAKeyThatTheRowDoesNot(t *testing.T) {
	keys := newKeyFile(1)
	dir := t.TempDir()
	tree := testTree(t, dir, keys.config)
	for range 2 {
		must[keyring.Ring](t)(tree.BeginEpoch())
	}
	a := create(t, tree, sharefs.RootIno, "f", "text")
	want := newestKept(t, tree, a.Ino)
	loseKeysRow(t, tree)
	check(t, tree.Close())
	tree = testTree(t, dir, keys.config)
	if got := must[Latest](t)(tree.Latest(a.Ino)); got.Content.Key != want.Content.Key || got.Content.Key != tree.Keys().Use().ID() {
		t.Errorf("%v, %v", got.Content.Key, want.Content.Key)
	}
}
