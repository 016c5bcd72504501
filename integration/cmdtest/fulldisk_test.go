package cmdtest

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs/integration/mounttest"
	"sharefs/internal/status"
)

// A full disk is left from inside the mount: what is kept back of it lets history be thinned and its space be given back, and what is missing of that
// does not count as free.
func TestAFullDiskIsLeftFromInside(t *testing.T) {
	root(t)
	point, _ := place(t)
	full := disk(t, "size=40m")
	dir := filepath.Join(full, "store")
	mustMount(t, "--store", dir, point)
	bytes := make([]byte, 6<<20)
	for range 2 {
		_, _ = rand.Read(bytes)
		ok(t, os.WriteFile(filepath.Join(point, "a"), bytes, 0o644))
		must(t, point, "commit", "a")
	}
	mounttest.WaitFor(t, "the reserve and the versions", func() bool {
		s := mustJSON[status.Status](t, point, "status")
		return s.Space.ReserveBytes > 0 && s.Capture.QueueNow == 0
	})
	if out := must(t, point, "status"); !strings.Contains(out, "kept back for making room") {
		t.Errorf("%s", out)
	}
	for n := range 2000 {
		ok(t, os.Mkdir(filepath.Join(point, fmt.Sprint("dir ", n)), 0o755))
	}
	err := error(nil)
	for n := 0; err == nil; n++ {
		err = os.WriteFile(filepath.Join(point, "big"), bytes[:(n+1)*1<<20%len(bytes)+1], 0o644)
		if err == nil {
			err = os.Rename(filepath.Join(point, "big"), filepath.Join(point, fmt.Sprint("big ", n)))
		}
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}

	var st unix.Statfs_t
	bigs, err := filepath.Glob(filepath.Join(point, "big*"))
	ok(t, err)
	for _, p := range bigs {
		ok(t, os.Remove(p))
	}
	ok(t, unix.Setxattr(point, "user.sharefs.retain", []byte("none"), 0))
	must(t, point, "retain")
	must(t, point, "gc")
	mounttest.WaitFor(t, "room", func() bool {
		ok(t, unix.Statfs(point, &st))
		return st.Bavail*uint64(st.Bsize) > 8<<20 && mustJSON[status.Status](t, point, "status").Space.ReserveMissing == 0
	})
	ok(t, os.WriteFile(filepath.Join(point, "new"), bytes[:1<<20], 0o644))
	holds(t, filepath.Join(point, "a"), string(bytes))
	for _, p := range mustJSON[status.Status](t, point, "status").Problems {
		if strings.Contains(p, "is full") || strings.Contains(p, "could not be thinned") || strings.Contains(p, "cannot be saved") {
			t.Error(p)
		}
	}
	refused(t, point, 2, "--quota takes a number with its unit, such as 20GiB, or 0, not lots", "retain", "--quota", "lots")
	if out := must(t, point, "retain", "-n", "--quota", "1KiB"); !strings.Contains(out, "quota") {
		t.Errorf("%s", out)
	}
	mounttest.End(t, point) // before its disk goes
}
