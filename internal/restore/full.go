package restore

import (
	"os"
	"path/filepath"
	"strconv"

	"sharefs"
)

// Full is the error of a restore of some paths ([Options.Only]) that would remove directories in which there is something else. Nothing was done.
type Full struct {
	Holds []string // what is in them, relative to the directory that was to be restored
}

func (f *Full) Error() string {
	return strconv.Itoa(len(f.Holds)) + " paths that are not to be restored lie in directories that are to go"
}

// beside looks for what lies in directories that are to go, and neither goes nor moves out of them.
func beside(live string, steps []*step) error {
	leaves := map[string]bool{}
	for _, s := range steps {
		switch {
		case s.gone != nil:
			leaves[s.gone.Path] = true
		case s.op == Moved:
			leaves[s.old.Path] = true
		}
	}
	full := &Full{}
	for _, s := range steps {
		if s.gone == nil || !s.gone.IsDir() {
			continue
		}
		entries, err := os.ReadDir(filepath.Join(live, s.gone.Path))
		if err != nil && !os.IsNotExist(err) {
			return &sharefs.Error{Op: "restore", Path: s.gone.Path, Kind: sharefs.KindOf(err), Err: err}
		}
		for _, e := range entries {
			if p := filepath.Join(s.gone.Path, e.Name()); !leaves[p] {
				full.Holds = append(full.Holds, p)
			}
		}
	}
	if len(full.Holds) > 0 {
		return full
	}
	return nil
}
