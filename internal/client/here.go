package client

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/internal/status"
	"sharefs/internal/term"
)

// Presence is how much of a file is on this host.
type Presence struct {
	Path   string `json:"path"`
	Size   uint64 `json:"size"`   // bytes
	Here   uint64 `json:"here"`   // bytes that its content takes on this host's disk
	State  string `json:"state"`  // "full", "partial" or "absent"
	Pinned bool   `json:"pinned"` // it is to be here always
}

// States of [Presence].
const (
	HereFull    = "full"
	HerePartial = "partial"
	HereAbsent  = "absent"
)

// errNoMount and errNotLive are why a file has none of the attributes by which a mount is asked.
var (
	errNoMount = errors.New("it is not in a ShareFS mount")
	errNotLive = errors.New("it is not in the live tree of the mount: it stands for the past, or is made by the mount")
)

// notAsked says why a mount cannot be asked about a path.
func notAsked(op, path string) error {
	why := errNotLive
	if _, err := MountOf(path); err != nil {
		why = errNoMount
	}
	return &sharefs.Error{Op: op, Path: term.Quote(path), Kind: sharefs.KindNotSupported, Err: why}
}

// LookHere tells how much of a regular file is on this host. It asks nobody.
func LookHere(path string) (h Presence, err error) {
	text, err := ownAttr(path, "here")
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ENODATA) {
		return h, notAsked("look where it is", path)
	}
	if err != nil {
		return h, PathError("look where it is", path, err)
	}
	h.Path = path
	var state string
	if _, err := fmt.Sscanf(text, "%d %d %s", &h.Size, &h.Here, &state); err != nil {
		return h, &sharefs.Error{Op: "look where it is", Path: term.Quote(path), Kind: sharefs.KindInvalid, Err: err}
	}
	h.Pinned = strings.HasSuffix(text, " pinned")
	switch {
	case state == HereFull:
		h.State = HereFull
	case h.Here > 0:
		h.State = HerePartial
	default:
		h.State = HereAbsent
	}
	return h, nil
}

// EachFile calls fn for each regular file of some paths, below directories too, once however often it is named, and dir for each directory before what is in it; dir may be nil. Symlinks are left alone.
// A directory is to lie in a mount; whoever is given a file says so of it.
func EachFile(paths []string, dir, fn func(path string) error) error {
	for _, path := range paths { // before anything is done to one of them
		if _, err := os.Lstat(path); err != nil {
			return PathError("read", path, err)
		}
	}
	seen := map[string]bool{} // of several paths, what was come to: one may lie in another
	for _, top := range paths {
		err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return PathError("read", path, err)
			case path == top && d.IsDir():
				if _, err := MountOf(path); err != nil {
					return err
				}
				if !inLiveTree(path) { // else whatever file comes first below it would be named
					return notAsked("look what is in it", path)
				}
			}
			if len(paths) > 1 {
				if full, err := filepath.Abs(path); err == nil {
					if seen[full] {
						if d.IsDir() && path == top {
							return fs.SkipDir
						}
						return nil
					}
					seen[full] = true
				}
			}
			switch {
			case d.Type().IsRegular():
				return fn(path)
			case d.IsDir() && dir != nil:
				return dir(path)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

const pinAttr, pinValue = "user.sharefs.pin", "here"

// Pin has a file, or what is made in a directory, stay on this host.
func Pin(path string) error {
	return setOwn("pin", path, pinAttr, pinValue)
}

// Unpin takes Pin back, and reports whether there was anything to take back.
func Unpin(path string) (bool, error) {
	err := unix.Lremovexattr(path, pinAttr)
	if errors.Is(err, unix.ENODATA) {
		return false, nil
	}
	return err == nil, setError("unpin", path, err)
}

// PinnedItself reports whether a file or directory is pinned, and not only what it is in.
func PinnedItself(path string) bool {
	n, err := unix.Lgetxattr(path, pinAttr, nil)
	return err == nil && n > 0
}

// PinnedAbove returns the nearest directory above a name in the mount that is pinned.
func PinnedAbove(path string) (dir string, ok bool) {
	m, inside, err := NameInMount(path)
	if err != nil {
		return "", false
	}
	for at := filepath.Dir(filepath.Join(m.Point, inside)); ; at = filepath.Dir(at) {
		if PinnedItself(at) {
			return at, true
		}
		if at == m.Point || at == filepath.Dir(at) {
			return "", false
		}
	}
}

// Bring brings all of a file here. While that goes on progress is called with how many bytes are here.
func Bring(path string, progress func(bytes uint64)) error {
	done := make(chan error, 1)
	go func() { done <- setOwn("bring here", path, "user.sharefs.bring", "") }()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-tick.C:
			if h, err := LookHere(path); err == nil {
				progress(min(h.Here, h.Size))
			}
		}
	}
}

// ErrInUse is why a file is not freed that may be a moment later: close(2) returns before a mount hears of it, and what was written becomes a version after that.
var ErrInUse = errors.New("somebody has it open, or it was changed so lately that it has no version yet: close it, or wait a moment")

// Free has the content of a file not stay on this host.
func Free(path string) error {
	err := unix.Lsetxattr(path, "user.sharefs.free", nil, 0)
	fail := func(kind sharefs.Kind, detail string) error {
		return &sharefs.Error{Op: "free", Path: term.Quote(path), Kind: kind, Detail: detail}
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EBUSY):
		if to, why, ok := promisedTo(path); ok {
			return fail(sharefs.KindBusy, "this host promised "+to+" to keep its copy"+why+": it stays here until it is changed or removed, or that is given back: once all of it is there for good (sharefs pin, there), or a third host promises to keep it")
		}
		return &sharefs.Error{Op: "free", Path: term.Quote(path), Kind: sharefs.KindBusy, Err: ErrInUse}
	case errors.Is(err, unix.EHOSTUNREACH):
		var list []string
		hosts, _ := hostsNamed(path, "user.sharefs.unpromised")
		for _, h := range hosts {
			list = append(list, h.name+" ("+h.why+")")
		}
		if len(list) > 0 {
			return fail(sharefs.KindUnreachable, "too few other hosts have it for good ([space] min in share.toml says how many), and none of these promises to keep its copy: "+strings.Join(list, ", "))
		}
		return fail(sharefs.KindUnreachable, "no other host promises to keep its copy, so this is perhaps the only one: one can that is connected, has all of it, and is granted write here (sharefs peers)")
	case errors.Is(err, unix.EPERM):
		if h, e := LookHere(path); e == nil && h.Pinned {
			if dir, ok := PinnedAbove(path); ok {
				return fail(sharefs.KindPermission, "it is pinned with "+term.Quote(dir)+": sharefs unpin takes that back")
			}
			return fail(sharefs.KindPermission, "it is pinned: sharefs unpin takes that back")
		}
	case errors.Is(err, unix.EINVAL):
		return nil // there is nothing to be freed
	}
	return setError("free", path, err)
}

// promisedTo names those whom this host promised to keep its copy of a file, and tells why they rely on it still.
func promisedTo(path string) (names, why string, ok bool) {
	hosts, ok := hostsNamed(path, "user.sharefs.promised")
	if !ok {
		return "", "", false
	}
	if len(hosts) == 0 {
		return "another host", "", true
	}
	var list, reasons []string
	for _, h := range hosts {
		list, reasons = append(list, h.name), append(reasons, h.name+" relies on it ("+h.why+")")
	}
	return strings.Join(list, ", "), ", and " + strings.Join(reasons, ", "), true
}

// hostNamed is a host, and a reason that has to do with it.
type hostNamed struct{ name, why string }

// hostsNamed reads an attribute of lines that name a host and a reason; ok is false where there is none.
func hostsNamed(path, attr string) (list []hostNamed, ok bool) {
	buf := make([]byte, 64<<10)
	n, err := unix.Lgetxattr(path, attr, buf)
	if err != nil {
		return nil, false
	}
	m, err := MountOf(path)
	if err != nil {
		return nil, true
	}
	name := m.Authors()
	for line := range strings.Lines(string(buf[:n])) {
		of, why, _ := strings.Cut(strings.TrimSpace(line), " ")
		if id, err := sharefs.ParsePeerID(of); err == nil {
			list = append(list, hostNamed{term.Clean(name(id)), term.Clean(why)})
		}
	}
	return list, true
}

func setOwn(op, path, attr, value string) error {
	return setError(op, path, unix.Lsetxattr(path, attr, []byte(value), 0))
}

// inLiveTree reports whether a file or directory is of the live tree of a mount: what is made by the mount, and what stands for the past, can be read alone.
func inLiveTree(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && !isVirtual(info)
}

// overBudget reports whether it is the budget that has no room for a file: the disk has.
func overBudget(s *status.Status, path string) bool {
	h, err := LookHere(path)
	return err == nil && s.Room != nil && s.Room.Budget > 0 && s.Space.AvailableBytes > h.Size
}

func setError(op, path string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOTSUP), errors.Is(err, unix.EROFS) && !inLiveTree(path):
		return notAsked(op, path)
	case errors.Is(err, unix.EHOSTUNREACH):
		return &sharefs.Error{Op: op, Path: term.Quote(path), Kind: sharefs.KindUnreachable, Detail: "no host that is connected has it: sharefs peers shows who is"}
	case errors.Is(err, unix.ENOSPC):
		if m, e := MountOf(path); e == nil {
			if s, e := m.Status(); e == nil && overBudget(s, path) {
				return &sharefs.Error{Op: op, Path: term.Quote(path), Kind: sharefs.KindNoSpace, Detail: "the budget of " + s.Room.In(s.Room.Budget) + " has no room for it, though the disk has: raise [space] budget in share.toml and mount again, unpin something, or keep less history (sharefs retain --quota SIZE)"}
			}
		}
	}
	return PathError(op, path, err)
}
