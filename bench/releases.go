package main

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// releases is data that changes as people's does, the same for whoever applies it: a tree of source of which each release edits, adds, renames
// and removes some files; a database file of which each release writes some pages anew, in place; and media, of which each release adds one and
// gives another one a new name.
type releases struct {
	files map[string][]byte // of the first release
	names []string          // of those, sorted
	pages int               // of the database file
	media int               // files of the first release
}

const (
	pageSize  = 4096
	mediaSize = 8 << 20
)

// newReleases takes up to count files of Go's own source.
func newReleases(source string, count, pages, media int) (*releases, error) {
	r := &releases{files: map[string][]byte{}, pages: pages, media: media}
	err := filepath.WalkDir(source, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		if len(r.files) == count {
			return fs.SkipAll
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path[len(source):], "/")
		r.files[name] = text
		r.names = append(r.names, name)
		return nil
	})
	sort.Strings(r.names)
	return r, err
}

// apply makes release n of release n-1 in a directory; 0 begins with an empty one.
func (r *releases) apply(dir string, n int) error {
	random := rand.New(rand.NewPCG(1, uint64(n)))
	for _, step := range []func(string, int, *rand.Rand) error{r.source, r.database, r.pictures} {
		if err := step(dir, n, random); err != nil {
			return err
		}
	}
	return nil
}

func (r *releases) source(dir string, n int, random *rand.Rand) error {
	root := filepath.Join(dir, "source")
	if n == 0 {
		for _, name := range r.names {
			if err := writeFile(filepath.Join(root, name), r.files[name]); err != nil {
				return err
			}
		}
		return nil
	}
	for i, name := range r.names {
		path := filepath.Join(root, name)
		switch kind := random.IntN(200); {
		case kind < 8: // edited: a line put in
			text, err := os.ReadFile(path)
			if os.IsNotExist(err) {
				continue // it was removed
			}
			if err != nil {
				return err
			}
			at := strings.IndexByte(string(text[len(text)/2:]), '\n') + len(text)/2 + 1
			line := fmt.Sprintf("// changed in release %d, for reason %d\n", n, random.Uint64())
			if err := os.WriteFile(path, []byte(string(text[:at])+line+string(text[at:])), 0o644); err != nil {
				return err
			}
		case kind == 8:
			if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
				return err
			}
		case kind == 9:
			if err := os.Rename(path, path+fmt.Sprintf(".%d", n)); err != nil && !os.IsNotExist(err) {
				return err
			}
		case kind == 10:
			other := r.files[r.names[(i+n*31)%len(r.names)]]
			if err := writeFile(filepath.Join(root, fmt.Sprintf("new/%d/%d.go", n, i)), other); err != nil {
				return err
			}
		}
	}
	return nil
}

// database writes pages half of which is text and half is not, as rows with keys are.
func (r *releases) database(dir string, n int, random *rand.Rand) error {
	f, err := os.OpenFile(filepath.Join(dir, "data.db"), os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	page := make([]byte, pageSize)
	write := func(i int) error {
		for at := 0; at < pageSize; at += 64 {
			copy(page[at:], fmt.Sprintf("row %08d of page %08d, %-20s", at, i, "release"))
			for b := at + 40; b < at+64; b += 8 {
				for k, v := 0, random.Uint64(); k < 8; k, v = k+1, v>>8 {
					page[b+k] = byte(v)
				}
			}
		}
		_, err := f.WriteAt(page, int64(i)*pageSize)
		return err
	}
	if n == 0 {
		for i := range r.pages {
			if err := write(i); err != nil {
				return err
			}
		}
		return f.Close()
	}
	for range r.pages / 100 {
		if err := write(random.IntN(r.pages)); err != nil {
			return err
		}
	}
	return f.Close()
}

func (r *releases) pictures(dir string, n int, random *rand.Rand) error {
	first, last := 0, r.media
	if n > 0 {
		first, last = r.media+n-1, r.media+n
		if err := os.Rename(filepath.Join(dir, "media", fmt.Sprint(n-1)), filepath.Join(dir, "media", fmt.Sprintf("holiday-%d", n))); err != nil {
			return err
		}
	}
	content := make([]byte, mediaSize)
	for i := first; i < last; i++ {
		key := [32]byte{byte(i), byte(i >> 8), byte(random.Uint32())}
		rand.NewChaCha8(key).Read(content)
		if err := writeFile(filepath.Join(dir, "media", fmt.Sprint(i)), content); err != nil {
			return err
		}
	}
	return nil
}

func writeFile(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, content, 0o644)
}
