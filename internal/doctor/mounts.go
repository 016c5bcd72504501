package doctor

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/internal/client"
	"sharefs/internal/mountinfo"
	"sharefs/internal/mountpoint"
	"sharefs/internal/status"
	"sharefs/internal/store"
	"sharefs/internal/term"
)

// lowSpace is what a large disk should have left, in bytes: a pack, a journal and some time to act.
const lowSpace = 1 << 30

// mounts looks at those that some paths lie in, or else at each ShareFS mount; where there is none, at the place where the default store would lie.
func mounts(deep bool, paths []string) ([]Finding, error) {
	listed := len(paths) == 0
	if listed {
		all, err := client.Mounts()
		if err != nil {
			return []Finding{wrong("mounts", "", "%v", err)}, nil
		}
		if len(all) == 0 {
			out := []Finding{good("mounts", "none; sharefs-mount DIRECTORY mounts one")}
			if dir, err := store.Resolve(""); err == nil {
				out = append(out, disk(dir))
			}
			return out, nil
		}
		for i := range all {
			paths = append(paths, all[i].Point)
		}
	}
	var out []Finding
	var seen []string
	for i, e := range examineAll(deep, paths) {
		switch {
		case e.Error == "":
		case listed:
			e = lost(paths[i], e.Error)
		default:
			return nil, errors.New(e.Error)
		}
		if !slices.Contains(seen, e.Mount) {
			seen = append(seen, e.Mount)
			out = append(out, e.Findings...)
		}
	}
	return out, nil
}

// one looks at the mount that a path lies in.
func one(path string, deep bool) (e examined) {
	m, err := client.At(path) // which does not touch it
	if m == nil && err == nil {
		m, err = client.MountOf(path)
	}
	if err != nil {
		e.Error = err.Error()
		return e
	}
	e.Mount, e.Findings = m.Point, mount(m, deep)
	if still, err := client.Mounts(); err == nil {
		e.Findings = unlessGone(e.Findings, m, still)
	}
	for k := range e.Findings {
		e.Findings[k].Mount = m.Point
	}
	return e
}

// lost is what is found of a mount that was listed, and could not be found when its turn came.
func lost(point, why string) examined {
	found := []Finding{wrong("mount", "", "%s: %s", term.Quote(point), why)}
	if still, err := client.Mounts(); err == nil {
		found = unlessGone(found, &client.Mount{Point: point}, still)
	}
	found[0].Mount = point
	return examined{Mount: point, Findings: found}
}

// unlessGone puts aside what was found of a mount that is not among those that there still are: what looked wrong was its end.
func unlessGone(found []Finding, m *client.Mount, still []client.Mount) []Finding {
	if slices.ContainsFunc(still, func(s client.Mount) bool { return s.Point == m.Point }) {
		return found
	}
	return []Finding{good("mount", "%s was unmounted meanwhile", term.Quote(m.Point))}
}

// mount looks at one.
func mount(m *client.Mount, deep bool) []Finding {
	const what = "mount"
	at := term.Quote(m.Point)
	err := mountpoint.Alive(m.Point, mountpoint.DefaultPatience)
	switch {
	case errors.Is(err, mountpoint.ErrHung):
		return []Finding{wrong(what, "End its daemon (its process is named in the store's lock file), then run umount -l "+at+".", "%s does not answer", at)}
	case errors.Is(err, unix.EACCES):
		return []Finding{good(what, "%s is another user's", at)}
	case err != nil:
		return []Finding{wrong(what, "Run sharefs-mount "+term.Quote(m.Source)+" "+at+", which takes the dead mount away first.", "%s has ended without unmounting", at)}
	}
	s, err := m.Status()
	if err != nil {
		if sharefs.KindOf(err) == sharefs.KindAccess {
			return []Finding{good(what, "%s is another user's", at)}
		}
		return []Finding{wrong(what, "", "%s: its status cannot be read: %v", at, err)}
	}
	out := []Finding{good(what, "%s answers (process %d, ShareFS %s)", at, s.PID, s.Version)}
	out = append(out, judge(s)...)
	if deep {
		out = append(out, tree(m))
	}
	return append(out, below(s)...)
}

// tree asks the mount to check itself.
func tree(m *client.Mount) Finding {
	const what = "tree"
	text, err := m.CtlText("check")
	switch problems := strings.Split(strings.TrimSpace(string(text)), "\n"); {
	case err != nil && sharefs.KindOf(err) == sharefs.KindAccess:
		return notice(what, "Ask as the user who mounted.", "you may not check it")
	case err != nil:
		return wrong(what, "", "it cannot be checked: %v", err)
	case len(text) == 0:
		return good(what, "every name, inode and backing file fits")
	case len(problems) == 1:
		return wrong(what, "", "%s", problems[0])
	default:
		return wrong(what, "cat "+term.Quote(m.Point)+"/.share/ctl/check lists them.", "%d problems, the first: %s", len(problems), problems[0])
	}
}

// judge reads a status.
func judge(s *status.Status) []Finding {
	var out []Finding
	content, test := s.Content, s.Content.SelfTest
	if content.Passthrough {
		out = append(out, good("passthrough", "on"))
	} else {
		out = append(out, notice("passthrough", "", "off: %s", content.Reason))
	}
	switch test.State {
	case "passed", "not run":
		out = append(out, good("self-test", "%s: %s", test.State, test.Detail))
	case "running":
		out = append(out, notice("self-test", "Ask again in a moment.", "still running"))
	default:
		out = append(out, wrong("self-test", "", "%s: %s", test.State, test.Detail))
	}
	for _, p := range s.Problems {
		out = append(out, wrong("problem", "", "%s", p))
	}
	return out
}

// below looks at the store of a mount and the disk that it lies on.
func below(s *status.Status) []Finding {
	dir := s.Mount.Store
	out := []Finding{disk(dir)}
	table, err := mountinfo.Read()
	if err != nil {
		return out
	}
	if m := mountinfo.Holding(table, dir); m != nil {
		out = append(out, filesystem(dir, m))
	}
	return out
}

// disk looks at the free space where dir is, or will be.
func disk(dir string) Finding {
	const what = "disk"
	at := dir
	for {
		if _, err := os.Stat(at); err == nil || at == "/" {
			break
		}
		at = filepath.Dir(at)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(at, &st); err != nil {
		return notice(what, "", "%s: %v", term.Quote(at), err)
	}
	free := st.Bavail * uint64(st.Bsize)
	if free < status.LowSpace(st.Blocks*uint64(st.Bsize), lowSpace) {
		return notice(what, "Free some space: "+status.MakeRoom+".", "%s left below %s", term.Size(free), term.Quote(dir))
	}
	if st.Files > 0 && st.Ffree < 10_000 {
		return notice(what, "Free some inodes: each live file needs one.", "%s inodes left below %s", term.Count(st.Ffree), term.Quote(dir))
	}
	return good(what, "%s free below %s", term.Size(free), term.Quote(dir))
}

// filesystem says what the kind of disk means for a store.
func filesystem(dir string, m *mountinfo.Mount) Finding {
	const what = "disk type"
	switch m.Type {
	case mountinfo.Type:
		return notice(what, "Move the store to a plain disk.",
			"the store %s lies in another ShareFS (%s): everything is kept twice, and there is no passthrough", term.Quote(dir), term.Quote(m.Point))
	case "xfs", "btrfs", "bcachefs":
		return good(what, "%s, which can clone files: setting a version aside costs nothing", m.Type)
	case "ext4", "ext3", "f2fs", "zfs":
		return good(what, "%s", m.Type)
	case "tmpfs", "ramfs":
		return notice(what, "Put the store on a disk if it is to outlive the machine's power.", "%s: the store lies in memory", m.Type)
	case "nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs":
		return notice(what, "Put the store on a local disk.", "%s: changes by other hosts go unseen, and leases may not work", m.Type)
	}
	return good(what, "%s", m.Type)
}
