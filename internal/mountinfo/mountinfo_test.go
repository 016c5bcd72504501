package mountinfo

import (
	"strings"
	"testing"
)

const table = `22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
23 22 0:5 / /proc rw,nosuid - proc proc rw
40 22 0:50 / /home/a\040b ro,nosuid,nodev,relatime shared:9 master:3 - fuse.sharefs my\134store rw,user_id=1000,group_id=0
41 40 0:51 / /home/a\040b/in rw - tmpfs - ro
42 22 0:52 / /home/a\040b rw - tmpfs x rw
nonsense
43 22 0:x / /bad rw - tmpfs x rw
44 22 0:7 / /short rw
`

func TestParse(t *testing.T) {
	mounts, err := Parse(strings.NewReader(table))
	if err != nil || len(mounts) != 5 {
		t.Fatalf("%d mounts, %v", len(mounts), err)
	}
	got := mounts[2]
	want := Mount{ID: 40, Parent: 22, Minor: 50, Root: "/", Point: "/home/a b", Options: "ro,nosuid,nodev,relatime", Type: Type,
		Source: `my\store`, Super: "rw,user_id=1000,group_id=0"}
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if !got.ReadOnly() || !got.Has("nodev") || got.Has("node") || mounts[0].ReadOnly() || !mounts[3].ReadOnly() {
		t.Error("the options are misread")
	}
	if uid, ok := got.Owner(); uid != 1000 || !ok {
		t.Errorf("made by %d, %v", uid, ok)
	}
	if uid, ok := mounts[0].Owner(); ok {
		t.Errorf("a disk that %d made", uid)
	}
}

func TestWhatIsWhere(t *testing.T) {
	mounts, err := Parse(strings.NewReader(table))
	if err != nil {
		t.Fatal(err)
	}
	if m := At(mounts, "/home/a b"); m == nil || m.ID != 42 {
		t.Errorf("the mount on top is not found: %+v", m)
	}
	if m := At(mounts, "/home"); m != nil {
		t.Errorf("a mount where none is: %+v", m)
	}
	for path, id := range map[string]int{"/home/a b/x/y": 42, "/home/a b/in/z": 41, "/home/a b2": 22, "/": 22, "/proc": 23} {
		if m := Holding(mounts, path); m == nil || m.ID != id {
			t.Errorf("%s lies in %+v, want %d", path, m, id)
		}
	}
	if !Inside("/a", "/") || Inside("/ab", "/a") || !Inside("/a/b", "/a") {
		t.Error("Inside errs")
	}
}

func TestTheRealTableHasARoot(t *testing.T) {
	mounts, err := Read()
	if err != nil || At(mounts, "/") == nil && Holding(mounts, "/proc/self") == nil {
		t.Fatalf("%d mounts, %v", len(mounts), err)
	}
}

// FuzzParse holds that no line makes the reader panic or fail.
func FuzzParse(f *testing.F) {
	f.Add(table)
	f.Add("1 1 1:1 \\777 \\ rw - a b c\n")
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 1<<20 {
			return // longer than any line the kernel writes
		}
		mounts, err := Parse(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range mounts {
			Holding(mounts, m.Point)
		}
	})
}
