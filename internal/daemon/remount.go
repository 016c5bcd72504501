package daemon

import (
	"errors"
	"os"
	"strings"

	"sharefs"
	"sharefs/fs"
	"sharefs/internal/client"
	"sharefs/internal/mountinfo"
	"sharefs/internal/mountopt"
	"sharefs/internal/mountpoint"
	"sharefs/internal/term"
)

// Remount changes the options of the mount at point to what o says. What o does not say stays, unless complete is set, as mount(8)
// means it when it calls its helper: it says all that shall hold. Only root may.
func Remount(point string, o *mountopt.Options, complete bool) (warnings []string, err error) {
	fail := func(kind sharefs.Kind, detail string) error {
		return &sharefs.Error{Op: "remount", Path: term.Quote(point), Kind: kind, Detail: detail}
	}
	table, err := mountinfo.Read()
	if err != nil {
		return nil, err
	}
	real, m := findMount(table, point)
	switch {
	case m == nil:
		return nil, fail(sharefs.KindInvalid, "no ShareFS is mounted there")
	case os.Geteuid() != 0:
		return nil, fail(sharefs.KindPermission, "only root may change a mount; you may unmount it and mount it anew")
	}
	now, err := mountopt.Parse(flagsOf(m))
	if err != nil {
		return nil, err
	}
	next := over(now, o)
	if complete {
		next = o
	}
	words, err := next.Kernel(true)
	if err != nil {
		return nil, err
	}
	if mountopt.Is(now.ReadOnly, false) && !mountopt.Is(next.ReadOnly, false) {
		if err := writable(real); err != nil {
			return nil, err
		}
	}
	// The daemon is told by a file, which takes nothing while the mount is read-only.
	var told error
	if o.Atime != "" && !mountopt.Is(now.ReadOnly, false) {
		told = tellAtime(real, o.Atime)
	}
	if err := fs.Remount(real, words); err != nil {
		if mountopt.Is(next.ReadOnly, false) && errors.Is(err, sharefs.KindBusy) {
			detail := "a file in it is open or mapped for writing, or was removed and is open still"
			if who := writersIn(m); len(who) > 0 {
				detail = "files in it are open for writing: " + strings.Join(who, ", ")
			}
			return nil, fail(sharefs.KindBusy, detail)
		}
		return nil, err
	}
	if o.Atime != "" && mountopt.Is(now.ReadOnly, false) {
		told = tellAtime(real, o.Atime)
	}
	if told != nil {
		warnings = append(warnings, "the daemon was not told of "+string(o.Atime)+": "+told.Error())
	}
	if o.Settle != nil {
		warnings = append(warnings, "settle= takes effect at the next mount")
	}
	return warnings, nil
}

// tellAtime makes the daemon follow another rule, unless it does already: mount(8) repeats what holds.
func tellAtime(point string, atime mountopt.Atime) error {
	c, err := client.MountOf(point)
	if err != nil {
		return err
	}
	s, err := c.Status()
	if err != nil || s.Mount.Atime == string(atime) {
		return err
	}
	return c.Tell("set atime=" + string(atime))
}

// findMount looks the mount up by its name alone, which may lead through symbolic links above it.
func findMount(table []mountinfo.Mount, point string) (string, *mountinfo.Mount) {
	for _, path := range []string{point, realStore(point)} {
		if m := mountinfo.At(table, path); m != nil && m.Type == mountinfo.Type {
			return path, m
		}
	}
	return point, nil
}

// flagsOf lists the options in force that mount(8) knows; what the kernel says beside them is not for us.
func flagsOf(m *mountinfo.Mount) string {
	var list []string
	for o := range strings.SplitSeq(m.Options, ",") {
		switch o {
		case "nosuid", "nodev", "noexec", "noatime", "relatime", "nosymfollow":
			list = append(list, o)
		}
	}
	if m.ReadOnly() {
		return strings.Join(append(list, "ro"), ",")
	}
	return strings.Join(append(list, "rw"), ",")
}

// over lays what was asked for over what holds now.
func over(now, asked *mountopt.Options) *mountopt.Options {
	out := *now
	for _, f := range []struct{ to, from **bool }{
		{&out.ReadOnly, &asked.ReadOnly}, {&out.Exec, &asked.Exec}, {&out.Suid, &asked.Suid}, {&out.Dev, &asked.Dev}, {&out.SymFollow, &asked.SymFollow},
	} {
		if *f.from != nil {
			*f.to = *f.from
		}
	}
	if asked.Atime != "" {
		out.Atime = asked.Atime
	}
	return &out
}

// writable refuses to let programs write where the daemon cannot.
func writable(point string) error {
	if err := mountpoint.Alive(point, mountpoint.DefaultPatience); err != nil {
		return &sharefs.Error{Op: "remount", Path: term.Quote(point), Kind: sharefs.KindBusy, Detail: "the mount does not answer", Err: err}
	}
	c, err := client.MountOf(point)
	if err != nil {
		return err
	}
	s, err := c.Status()
	if err != nil {
		return err
	}
	if s.Mount.StoreReadOnly {
		return &sharefs.Error{Op: "remount", Path: term.Quote(point), Kind: sharefs.KindReadOnly,
			Detail: "the disk below its store was read-only when it was mounted: make it writable, unmount, and mount anew"}
	}
	return nil
}
