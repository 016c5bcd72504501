package versions

import (
	"fmt"
	"testing"

	"sharefs"
	"sharefs/internal/keyring"
)

// What two hosts have kept, each under a key of its own, is the same or is not by its bytes alone.
func TestSame(t *testing.T) {
	t.Parallel()
	mine, theirs := newKeyFile(1), newKeyFile(2)
	here := testTree(t, t.TempDir(), mine.config)
	there := &other{testTree(t, t.TempDir(), theirs.config), t, map[sharefs.ChunkID]bool{}, 0, nil}
	texts := []string{"", "a", "b", blob(1, 3<<20), blob(2, 3<<20), blob(1, 3<<20-1) + "x"}
	var ours, foreign []Content
	for i, text := range texts {
		for tree, list := range map[*Tree]*[]Content{here: &ours, there.Tree: &foreign} {
			*list = append(*list, newestKept(t, tree, create(t, tree, sharefs.RootIno, fmt.Sprint(i), text).Ino).Content)
		}
	}
	_, err := here.Same(&ours[1], &foreign[1])
	wantKind(t, err, sharefs.KindAccess)
	must[bool](t)(here.AdoptKeys(must[keyring.Ring](t)(keyring.Decode(there.Keys().Encode()))))
	_, err = here.Same(&foreign[1], &ours[1])
	wantKind(t, err, sharefs.KindAgain)
	defer gathered(t, here, there, foreign...).End()
	for i := range ours {
		for k := range foreign {
			if same := must[bool](t)(here.Same(&ours[i], &foreign[k])); same != (texts[i] == texts[k]) {
				t.Errorf("%d and %d: %v", i, k, same)
			}
			if i > 0 && i == k && (ours[i].Key == foreign[k].Key || ours[i].Spans[0].ID == foreign[k].Spans[0].ID) {
				t.Errorf("%d has one name under both keys", i)
			}
		}
	}
	_, err = here.Same(&ours[1], &Content{Size: 1})
	wantKind(t, err, sharefs.KindInvalid)
}
