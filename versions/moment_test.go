package versions

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"sharefs"
)

func TestMomentRow(t *testing.T) {
	m := Moment{Ino: 7, Kind: Branch, Name: "né", At: 0x0102030405060708, Created: 0x0102030405060709, UID: 1000, Number: 300, Note: "why"}
	const want = "\x01" + "\x01\x02\x03\x04\x05\x06\x07\x08" + "\x01\x02\x03\x04\x05\x06\x07\x09" + "\xe8\x07" + "\xac\x02" + "why"
	if got := string(m.encode()); got != want {
		t.Fatalf("written as\n%x, want\n%x", got, want)
	}
	key := momentKey(m.Ino, m.Kind, m.Name)
	if string(key) != "\x00\x00\x00\x00\x00\x00\x00\x07\x02n\xc3\xa9" {
		t.Errorf("the key is %x", key)
	}
	if back, err := decodeMoment(key, []byte(want)); err != nil || back != m {
		t.Errorf("reads back as %+v, %v", back, err)
	}
	for i := range len(want) - len(m.Note) {
		if _, err := decodeMoment(key, []byte(want[:i])); !errors.Is(err, sharefs.KindCorrupt) {
			t.Errorf("a row cut to %d bytes: %v", i, err)
		}
	}
	if _, err := decodeMoment(key[:8], []byte(want)); !errors.Is(err, sharefs.KindCorrupt) {
		t.Errorf("a short key: %v", err)
	}
}

func FuzzMoment(f *testing.F) {
	m := Moment{Ino: 7, Kind: Tag, Name: "v1", At: 5, Created: 6, Note: "note"}
	f.Add(momentKey(m.Ino, m.Kind, m.Name), m.encode())
	f.Add(momentKey(m.Ino, momentSwitched, ""), m.encode())
	f.Fuzz(func(t *testing.T, key, value []byte) {
		m, err := decodeMoment(key, value)
		if err != nil {
			return
		}
		if again, err := decodeMoment(momentKey(m.Ino, m.Kind, m.Name), m.encode()); err != nil || !reflect.DeepEqual(again, m) {
			t.Errorf("%+v reads back as %+v, %v", m, again, err)
		}
	})
}

func TestMomentNames(t *testing.T) {
	for _, name := range []string{
		"release-1.0", "v2", "vor dem Umbau", "文件", "main", "a", "1.0rc", strings.Repeat("x", MomentNameMax), "@", "α@β", "2026-plan",
	} {
		if err := CheckMomentName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{
		"", ".", "..", "log", "meta", "7", "00", "a/b", "a@@b", "a\nb", "a\x00", "a\x7f", "\xff", "now", "yesterday", "-2h", "2026-11-22", "2026-11-22T10:00",
		"12:30", "monday", "@1700000000", strings.Repeat("x", MomentNameMax+1),
	} {
		if err := CheckMomentName(name); !errors.Is(err, sharefs.KindInvalid) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestMoments(t *testing.T) {
	dir := t.TempDir()
	tree := testTree(t, dir, byHand)
	who := user(1000)
	a := create(t, tree, sharefs.RootIno, "f", "one")
	tag, err := tree.SetTag(a.Ino, "first", sharefs.MaxHLC, "as it came", who)
	if err != nil || tag.At == 0 || tag.At == sharefs.MaxHLC || tag.Created <= tag.At || tag.UID != 1000 {
		t.Fatalf("%+v, %v", tag, err)
	}
	rewrite(t, tree, a.Ino, "two")
	if got := held(t, viewAt(t, tree, tag.At), a.Ino); got != "one" {
		t.Errorf("at the tag it holds %q", got)
	}
	snapshot, err := tree.SetTag(sharefs.RootIno, "whole", sharefs.MaxHLC, "", root)
	check(t, err)
	if got := held(t, viewAt(t, tree, snapshot.At), a.Ino); got != "two" {
		t.Errorf("at the snapshot it holds %q", got)
	}
	old, err := tree.SetTag(a.Ino, "again", tag.At, "", root)
	if err != nil || old.At != tag.At {
		t.Errorf("a tag of a moment in the past: %+v, %v", old, err)
	}
	branch, err := tree.SetBranch(a.Ino, "draft", sharefs.MaxHLC, 2, "", who)
	check(t, err)

	_, err = tree.SetTag(a.Ino, "first", sharefs.MaxHLC, "", root)
	wantKind(t, err, sharefs.KindExist)
	_, err = tree.SetTag(a.Ino, "draft", sharefs.MaxHLC, "", root)
	wantKind(t, err, sharefs.KindExist)
	_, err = tree.SetBranch(a.Ino, "first", sharefs.MaxHLC, 0, "", root)
	wantKind(t, err, sharefs.KindExist)
	_, err = tree.SetTag(a.Ino, "12", sharefs.MaxHLC, "", root)
	wantKind(t, err, sharefs.KindInvalid)
	_, err = tree.SetTag(a.Ino, "x", sharefs.MaxHLC-1, "", root)
	wantKind(t, err, sharefs.KindInvalid)
	_, err = tree.SetTag(a.Ino, "x", sharefs.MaxHLC, "\xff", root)
	wantKind(t, err, sharefs.KindInvalid)
	_, err = tree.SetTag(a.Ino, "x", sharefs.MaxHLC, strings.Repeat("n", sharefs.NoteMax+1), root)
	wantKind(t, err, sharefs.KindTooBig)
	_, err = tree.SetTag(999, "x", sharefs.MaxHLC, "", root)
	wantKind(t, err, sharefs.KindStale)
	wantKind(t, tree.RemoveTag(a.Ino, "draft"), sharefs.KindNotExist)
	wantKind(t, tree.Switch(a.Ino, "first", root), sharefs.KindNotExist)

	check(t, tree.Switch(a.Ino, "draft", who))
	moved, err := tree.SetBranch(a.Ino, "draft", sharefs.MaxHLC, 3, "moved", root)
	if err != nil || moved.At <= branch.At || moved.Number != 3 {
		t.Errorf("the branch moved to %+v: %v", moved, err)
	}
	check(t, tree.Close())
	tree = testTree(t, dir, byHand)
	if got := must[[]Moment](t)(tree.Tags(a.Ino)); !reflect.DeepEqual(got, []Moment{old, tag}) {
		t.Errorf("the tags are %+v", got)
	}
	if got := must[Moment](t)(tree.Moment(a.Ino, "first")); got != tag {
		t.Errorf("the tag is %+v", got)
	}
	if got := must[string](t)(tree.Switched(a.Ino)); got != "draft" {
		t.Errorf("switched to %q", got)
	}
	present := moved
	present.At = sharefs.MaxHLC
	if got := must[[]Moment](t)(tree.Branches(a.Ino)); !reflect.DeepEqual(got, []Moment{present}) {
		t.Errorf("the branches are %+v", got)
	}
	if got := must[Moment](t)(tree.Moment(a.Ino, "draft")); got != present {
		t.Errorf("the branch is %+v", got)
	}
	var all []Moment
	check(t, tree.NamedMoments(func(m Moment) bool {
		all = append(all, m)
		return true
	}))
	if want := []Moment{snapshot, old, tag, moved}; !reflect.DeepEqual(all, want) {
		t.Errorf("all of them are\n%+v, want\n%+v", all, want)
	}
	check(t, tree.RemoveTag(a.Ino, "first"))
	check(t, tree.RemoveBranch(a.Ino, "draft"))
	if got := must[string](t)(tree.Switched(a.Ino)); got != "" {
		t.Errorf("switched to %q, which is removed", got)
	}
	_, err = tree.Moment(a.Ino, "first")
	wantKind(t, err, sharefs.KindNotExist)
	check(t, tree.Switch(a.Ino, "", root))
}

func TestDescribe(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	ino := save(t, tree, "f", "one")
	check(t, tree.Describe(ino, 1, "first"))
	check(t, tree.Describe(ino, 1, "second"))
	if v := must[sharefs.Version](t)(tree.Version(ino, 1)); v.Note != "second" {
		t.Errorf("%+v", v)
	}
	wantKind(t, tree.Describe(ino, 2, "x"), sharefs.KindNotExist)
	wantKind(t, tree.Describe(ino, 1, "\xff"), sharefs.KindInvalid)
}

// Editors replace a file when they save it: its tags and branches stay with the name.
func TestMomentsFollowTheHistory(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	first := save(t, tree, "f", "one")
	settle(t, tree, first)
	tag := must[Moment](t)(tree.SetTag(first, "t", sharefs.MaxHLC, "", root))
	must[Moment](t)(tree.SetBranch(first, "b", sharefs.MaxHLC, 1, "", root))
	check(t, tree.Switch(first, "b", root))
	last := first
	for _, text := range []string{"two", "three"} {
		temp := save(t, tree, "f.new", text)
		own := must[Moment](t)(tree.SetTag(temp, "own "+text, sharefs.MaxHLC, "", root))
		check(t, tree.Rename(sharefs.RootIno, "f.new", sharefs.RootIno, "f", 0))
		settle(t, tree, temp)
		last = temp
		if got := must[Moment](t)(tree.Moment(last, "own "+text)); got != own {
			t.Errorf("%+v", got)
		}
		if got := must[Moment](t)(tree.Moment(last, "t")); got != tag {
			t.Errorf("%+v", got)
		}
		if got := must[string](t)(tree.Switched(last)); got != "b" {
			t.Errorf("switched to %q", got)
		}
	}
	must[Moment](t)(tree.SetTag(last, "late", sharefs.MaxHLC, "", root))
	_, err := tree.SetTag(last, "t", sharefs.MaxHLC, "", root)
	wantKind(t, err, sharefs.KindExist)
	var names []string
	for _, m := range must[[]Moment](t)(tree.Tags(last)) {
		names = append(names, m.Name)
	}
	if want := []string{"late", "own three", "t"}; !reflect.DeepEqual(names, want) {
		t.Errorf("%q", names)
	}
	must[Moment](t)(tree.SetBranch(last, "b", sharefs.MaxHLC, 3, "", root))
	if list := must[[]Moment](t)(tree.Branches(last)); len(list) != 1 || list[0].Number != 3 {
		t.Errorf("%+v", list)
	}
	check(t, tree.RemoveTag(last, "t"))
	_, err = tree.Moment(last, "t")
	wantKind(t, err, sharefs.KindNotExist)
	check(t, tree.RemoveBranch(last, "b"))
	if got := must[string](t)(tree.Switched(last)); got != "" {
		t.Errorf("switched to %q", got)
	}
}
