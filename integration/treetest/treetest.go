// Package treetest holds two directory trees against each other in tests, by another way than package treediff does: each is described as text.
package treetest

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs/internal/treediff"
)

// Describe tells of each name below root, relative to it, all that a restore is to bring back: type, mode, owner, time of change, extended
// attributes, target or content, and which other names the inode has. Content of more than 100 bytes is told by its size and hash.
func Describe(t testing.TB, root string) map[string]string {
	t.Helper()
	out, names := map[string]string{}, map[uint64][]string{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		text := fmt.Sprintf("%o %d:%d %d.%09d", st.Mode, st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec)
		if x, err := treediff.ReadXattrs(p); err != nil || len(x) > 0 {
			text += fmt.Sprint(x, err)
		}
		switch {
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			text += " -> " + target
		case d.Type().IsRegular():
			content, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			if len(content) > 100 {
				text += fmt.Sprintf(" %d bytes, SHA-256 %x", len(content), sha256.Sum256(content))
			} else {
				text += fmt.Sprintf(" %q", content)
			}
		}
		if !d.IsDir() && st.Nlink > 1 {
			names[st.Ino] = append(names[st.Ino], rel)
		}
		out[rel] = text
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, group := range names {
		for _, p := range group {
			out[p] += fmt.Sprint(group)
		}
	}
	return out
}

// Same holds that a tree is as want describes it.
func Same(t testing.TB, root string, want map[string]string) {
	t.Helper()
	got := Describe(t, root)
	for _, p := range slices.Sorted(maps.Keys(want)) {
		if got[p] != want[p] {
			t.Errorf("%q is %q, was %q", p, got[p], want[p])
		}
	}
	for _, p := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[p]; !ok {
			t.Errorf("%q is there", p)
		}
	}
}
