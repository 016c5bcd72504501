package tier

import (
	"cmp"
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
	// Others are asked for a file of which the bucket lacks something, or gives something else than was put. If none of them has it right it is as the one has it that comes
	// nearest, and Missing names it.
	Others []Bucket
	// Check, where not nil, sees of a file without a sum whether it is what it should be, and of one with another sum whether it could be: KindCorrupt, it is not.
	Check func(name string, body io.ReaderAt, size int64) error
	// Progress is told of bytes; those that were there already are neither done nor in the total. May be nil.
	Progress func(done, total uint64)
}

// Fetched tells what came of it.
type Fetched struct {
	Files   int      `json:"files"`   // that were fetched
	Bytes   int64    `json:"bytes"`   // of them
	Here    int      `json:"here"`    // files that were there already
	Missing []string `json:"missing"` // what the bucket lacks or has wrong, and how
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
		if here, err := f.isHere(ctx, file); err != nil {
			return out, err
		} else if here {
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

// failedTo is failed, or nil where nothing did.
func (f *Fetch) failedTo(name string, err error) error {
	if err == nil {
		return nil
	}
	return f.failed(name, err)
}

// isHere reports whether a file came before, as it should be.
func (f *Fetch) isHere(ctx context.Context, file RootFile) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	path := f.path(file.Name)
	if st, err := os.Lstat(path); err != nil || !st.Mode().IsRegular() || st.Size() != file.Size {
		return false, nil
	}
	if file.Sum == "" {
		return true, nil
	}
	body, err := os.Open(path)
	if err != nil {
		return false, f.failed(file.Name, err)
	}
	defer body.Close()
	sum, err := sumOf(body, file.Size)
	return err == nil && sum == file.Sum, nil // what does not read is fetched again
}

// How good a file is that came.
const (
	gradeNone  = iota
	gradeShort // an end is missing
	gradeBad   // something else is in it
	gradeOther // it could be one of the store, but is not as it was put: parts of it are zeros, say
	gradeRight
)

// one fetches a file from whoever has it right, or comes nearest; lacks is what nobody has of it.
func (f *Fetch) one(ctx context.Context, file RootFile, buf []byte, came func(n int)) (lacks string, err error) {
	path := f.path(file.Name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", f.failed(file.Name, err)
	}
	best, kept := gradeNone, path+".best"+partial
	defer os.Remove(kept)
	var last error
	for _, b := range append([]Bucket{f.Bucket}, f.Others...) {
		grade, err := f.from(ctx, b, file, buf, came)
		if ctx.Err() != nil || sharefs.KindOf(err) == sharefs.KindNoSpace {
			os.Remove(path + partial)
			return "", err
		}
		if err == nil && grade > best {
			best, err = grade, f.failedTo(file.Name, os.Rename(path+partial, kept))
		}
		os.Remove(path + partial)
		if last = cmp.Or(last, err); best == gradeRight {
			break
		}
	}
	switch best {
	case gradeNone:
		return file.Name + ": it is not there", last
	case gradeShort:
		lacks = file.Name + ": it is shorter than it was"
	case gradeBad:
		lacks = file.Name + ": it is damaged"
	case gradeOther:
		lacks = file.Name + ": it is not as it was put there, parts of it may be gone"
	}
	err = os.Rename(kept, path)
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	return lacks, f.failedTo(file.Name, err)
}

// from fetches a file from a bucket, durably, under the name of one that is not whole.
func (f *Fetch) from(ctx context.Context, b Bucket, file RootFile, buf []byte, came func(n int)) (grade int, err error) {
	out, err := os.OpenFile(f.path(file.Name)+partial, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return gradeNone, f.failed(file.Name, err)
	}
	defer func() {
		if e := out.Close(); err == nil {
			err = f.failedTo(file.Name, e)
		}
	}()
	short := false
	for off := int64(0); off < file.Size && !short; {
		n, _, err := b.ReadAt(ctx, file.Name, buf[:min(file.Size-off, int64(len(buf)))], off)
		switch {
		case errors.Is(err, sharefs.KindNotExist) && off == 0:
			return gradeNone, nil
		case errors.Is(err, sharefs.KindNotExist), errors.Is(err, sharefs.KindRange), err == nil && n == 0:
			short = true
			continue
		case err != nil:
			return gradeNone, err
		}
		if _, err := out.WriteAt(buf[:n], off); err != nil {
			return gradeNone, f.failed(file.Name, err)
		}
		off += int64(n)
		came(n)
	}
	if err := out.Sync(); err != nil {
		return gradeNone, f.failed(file.Name, err)
	}
	if short {
		return gradeShort, nil
	}
	return f.grade(file, out)
}

// grade tells how good a file is that has its length.
func (f *Fetch) grade(file RootFile, body io.ReaderAt) (int, error) {
	right := gradeRight
	if file.Sum != "" {
		sum, err := sumOf(body, file.Size)
		if err != nil || sum == file.Sum {
			return right, err
		}
		right = gradeOther
	}
	if f.Check == nil {
		return right, nil
	}
	switch err := f.Check(file.Name, body, file.Size); {
	case sharefs.KindOf(err) == sharefs.KindCorrupt:
		return gradeBad, nil
	default:
		return right, err
	}
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
