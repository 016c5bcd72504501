package daemon

import (
	"os"
	"path/filepath"

	"sharefs"
	"sharefs/internal/store"
)

// LogPath is where the daemon of the store in dir writes its log.
func LogPath(dir string) string { return filepath.Join(dir, store.LogFile) }

// absolute is filepath.Abs with the project's errors.
func absolute(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", &sharefs.Error{Op: "store", Path: path, Kind: sharefs.KindOf(err), Err: err}
	}
	return abs, nil
}

// realStore frees the path of a store, which need not exist yet, of symbolic links.
func realStore(dir string) string {
	rest := ""
	for at := dir; ; at = filepath.Dir(at) {
		if real, err := filepath.EvalSymlinks(at); err == nil {
			return filepath.Join(real, rest)
		} else if !os.IsNotExist(err) || at == "/" {
			return dir
		}
		rest = filepath.Join(filepath.Base(at), rest)
	}
}
