package client

import (
	"os"
	"path/filepath"
	"syscall"
)

// Elsewhere tells whether the file that bore a name which is vacant now lives on, and under which name: path is empty where that is not in
// the same directory, for to look through the whole tree could take long.
func (f *File) Elsewhere(h *History) (path string, lives bool) {
	if f.Live || h.Inode == 0 {
		return "", false
	}
	dir := filepath.Dir(f.Path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", true
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		info, err := e.Info()
		if err != nil {
			continue // gone meanwhile
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Ino == h.Inode {
			return filepath.Join(dir, e.Name()), true
		}
	}
	return "", true
}
