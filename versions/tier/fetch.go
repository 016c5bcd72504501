package tier

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"

	"sharefs"
)

// Fetch brings files from a bucket into a directory. A file has its name there when it is whole and survives the loss of power; so what is there with the
// right length is not fetched again, and a fetch may be interrupted anywhere.
type Fetch struct {
	Bucket Bucket
	Dir    string
	Files  []RootFile
	// Others are asked for a file of which the bucket lacks something, or gives what Check refuses. If none of them has a good one it is as the bucket gave it.
	Others []Bucket
	// Check, where not nil, sees whether a file that was fetched is what it should be: KindCorrupt, it is not.
	Check func(name string, body io.ReaderAt, size int64) error
	// Progress is told of bytes; those that were there already are neither done nor in the total. May be nil.
	Progress func(done, total uint64)
}

// Fetched tells what came of it.
type Fetched struct {
	Files   int      `json:"files"`   // that were fetched
	Bytes   int64    `json:"bytes"`   // of them
	Here    int      `json:"here"`    // files that were there already
	Missing []string `json:"missing"` // what the bucket lacks, and how
}

const (
	fetchers   = 6
	fetchPiece = 8 << 20 // bytes asked for at a time: all together take 48 MiB of memory
	partial    = ".part" // ends the name of a file that is not whole
)

// Run fetches. What the bucket lacks is no error: it is told, and where an object is too short what there is of it comes. Files below the
// directories of those that are wanted and that are none of them go. Errors: KindNoSpace: the disk is full; others are of the bucket or the disk.
func (f *Fetch) Run(ctx context.Context) (out Fetched, err error) {
	wanted := map[string]bool{}
	tops := map[string]bool{}
	var todo []RootFile
	total := uint64(0)
	for _, file := range f.Files {
		top, rest, _ := strings.Cut(file.Name, "/")
		if top != "packs" && top != "checkpoints" || rest == "" || path.Clean(file.Name) != file.Name || strings.HasSuffix(file.Name, partial) || file.Size < 0 {
			return out, &sharefs.Error{Op: "fetch", Path: file.Name, Kind: sharefs.KindCorrupt, Detail: "the bucket names a file that is none of a store"}
		}
		place := f.path(file.Name)
		wanted[place] = true
		tops[top] = true
		if st, err := os.Lstat(place); err == nil && st.Mode().IsRegular() && st.Size() == file.Size {
			out.Here++
			continue
		}
		todo = append(todo, file)
		total += uint64(file.Size)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex // guards what follows, out among it
	next, done := 0, uint64(0)
	var workers sync.WaitGroup
	for range min(fetchers, len(todo)) {
		workers.Go(func() {
			buf := make([]byte, fetchPiece)
			for {
				mu.Lock()
				if next >= len(todo) || err != nil {
					mu.Unlock()
					return
				}
				file := todo[next]
				next++
				mu.Unlock()
				lacks, bad := f.one(ctx, file, buf, func(n int) {
					mu.Lock()
					defer mu.Unlock()
					if done = min(done+uint64(n), total); f.Progress != nil {
						f.Progress(done, total)
					}
				})
				mu.Lock()
				switch {
				case bad != nil && err == nil:
					err = bad
					cancel()
				case bad == nil && lacks != "":
					out.Missing = append(out.Missing, lacks)
				case bad == nil:
					out.Files++
					out.Bytes += file.Size
				}
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	if err != nil {
		return out, err
	}
	for top := range tops {
		if err := f.tidy(filepath.Join(f.Dir, top), wanted); err != nil {
			return out, f.failed(top, err)
		}
	}
	return out, nil
}

func (f *Fetch) path(name string) string { return filepath.Join(f.Dir, filepath.FromSlash(name)) }

func (f *Fetch) failed(name string, err error) error {
	e := &sharefs.Error{Op: "fetch", Path: f.path(name), Kind: sharefs.KindOf(err), Err: err}
	if e.Kind == sharefs.KindNoSpace {
		e.Detail = "the disk is full: free some space and do the same again, it goes on from here"
	}
	return e
}

// one fetches a file from whoever has a good one; lacks is what nobody has of it.
func (f *Fetch) one(ctx context.Context, file RootFile, buf []byte, came func(n int)) (lacks string, err error) {
	if len(f.Others) == 0 {
		return f.from(ctx, f.Bucket, file, nil, buf, came)
	}
	for _, b := range append([]Bucket{f.Bucket}, f.Others...) {
		lacks, err := f.from(ctx, b, file, f.Check, buf, came)
		if err == nil && lacks == "" || ctx.Err() != nil || sharefs.KindOf(err) == sharefs.KindNoSpace {
			return "", err
		}
	}
	return f.from(ctx, f.Bucket, file, nil, buf, came)
}

// from fetches a file from a bucket. What check refuses does not get its name.
func (f *Fetch) from(ctx context.Context, b Bucket, file RootFile, check func(string, io.ReaderAt, int64) error, buf []byte, came func(n int)) (lacks string, err error) {
	path := f.path(file.Name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", f.failed(file.Name, err)
	}
	out, err := os.OpenFile(path+partial, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return "", f.failed(file.Name, err)
	}
	defer func() {
		if out != nil {
			out.Close()
			os.Remove(path + partial)
		}
	}()
	for off := int64(0); off < file.Size; {
		n, _, err := b.ReadAt(ctx, file.Name, buf[:min(file.Size-off, int64(len(buf)))], off)
		switch {
		case errors.Is(err, sharefs.KindNotExist) && off == 0:
			return file.Name + ": it is not there", nil
		case errors.Is(err, sharefs.KindNotExist), errors.Is(err, sharefs.KindRange), err == nil && n == 0:
			lacks = file.Name + ": it is shorter than it was"
		case err != nil:
			return "", err
		}
		if lacks != "" {
			break
		}
		if _, err := out.WriteAt(buf[:n], off); err != nil {
			return "", f.failed(file.Name, err)
		}
		off += int64(n)
		came(n)
	}
	if check != nil {
		if lacks != "" {
			return lacks, nil
		}
		if err := check(file.Name, out, file.Size); err != nil {
			return "", err
		}
	}
	err = errors.Join(out.Sync(), out.Close())
	out = nil
	if err == nil {
		err = os.Rename(path+partial, path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return "", f.failed(file.Name, err)
	}
	return lacks, nil
}

// tidy removes what is not wanted, of a root before this one or of a fetch that was interrupted.
func (f *Fetch) tidy(dir string, wanted map[string]bool) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && (d.IsDir() || wanted[path]) {
			return nil
		}
		if err != nil {
			return err
		}
		return os.Remove(path)
	})
}
