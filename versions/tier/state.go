package tier

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"

	"sharefs"
)

// state is what a store knows of the roots that it wrote: a file in it, JSON, replaced as a whole. It lies beside the rows and not among them, for a copy of the
// rows of yesterday must not be taken for the store of today.
type state struct {
	Store string `json:"store"`          // 16 random bytes, hexadecimal
	Last  string `json:"last,omitempty"` // nonce of the last root that was written for certain
	Next  string `json:"next,omitempty"` // of the one that was to take its place
	// Number of the last root. What is in the bucket later has the same or a higher one, unless the bucket was put back.
	Number uint64 `json:"number,omitempty"`
}

// Known returns what a file that [Config] names tells: whose the roots are, and the number of one that was written; 0: of none that is known. It errors with
// KindNotExist where there is no file.
func Known(path string) (store string, number uint64, err error) {
	if _, err := os.Stat(path); err != nil {
		return "", 0, &sharefs.Error{Op: "read what is known of the bucket", Path: path, Kind: sharefs.KindOf(err), Err: err}
	}
	var s state
	if err := s.load(path); err != nil {
		return "", 0, err
	}
	return s.Store, s.Number, nil
}

// Written reports whether a root was written, as such a file tells: whether the bucket ever had all of a state of the store. It errors as Known does.
func Written(path string) (bool, error) {
	if _, _, err := Known(path); err != nil {
		return false, err
	}
	var s state
	err := s.load(path)
	return s.Last != "", err
}

// Identify returns whose the roots of a store are: as the file tells, which is made where it is missing.
func Identify(path string) (store string, err error) {
	var s state
	err = s.load(path)
	return s.Store, err
}

// Begin makes the file for one more bucket of a store that has a name already, whose roots have numbers above one that was written elsewhere: so those of all its buckets tell by their
// numbers what is later than a sheet that names one. Where roots were written already it is left as it is.
func Begin(path, store string, above uint64) error {
	s := state{Store: store}
	if _, err := os.Lstat(path); err == nil {
		if err := s.load(path); err != nil || s.Last != "" || s.Next != "" || s.Number >= above {
			return err
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return &sharefs.Error{Op: "read what is known of the bucket", Path: path, Kind: sharefs.KindOf(err), Err: err}
	}
	s.Number = above
	return s.save(path)
}

// TakeName writes that file for a store that was made of what a root elsewhere names: it has its name, and none of the roots in this bucket is one that it wrote.
func TakeName(path string, r *Root) error {
	s := state{Store: r.Store, Number: r.Number}
	return s.save(path)
}

// TakeUp writes that file for a store that was made of what a root names: it goes on as the one that has written it.
func TakeUp(path string, r *Root) error {
	s := state{Store: r.Store, Last: r.Nonce, Number: r.Number}
	return s.save(path)
}

// load reads the file, and makes it where it is missing.
func (s *state) load(path string) error {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		*s = state{Store: random()}
		return s.save(path)
	}
	if err == nil {
		err = json.Unmarshal(b, s)
	}
	if err == nil && len(s.Store) != 32 {
		err = errors.New("it does not name the store")
	}
	if err != nil {
		return &sharefs.Error{Op: "read what is known of the bucket", Path: path, Kind: sharefs.KindCorrupt, Err: err}
	}
	return nil
}

// save makes it survive the loss of power.
func (s *state) save(path string) error {
	b, err := json.Marshal(s)
	if err == nil {
		err = replace(path, append(b, '\n'))
	}
	if err != nil {
		return &sharefs.Error{Op: "write what is known of the bucket", Path: path, Kind: sharefs.KindOf(err), Err: err}
	}
	return nil
}

// replace writes a file anew, whole or not at all.
func replace(path string, b []byte) error {
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes the names in a directory survive the loss of power.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
