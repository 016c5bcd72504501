package mountopt

import (
	"strings"

	"golang.org/x/sys/unix"
)

// Flags returns the bits for mount(2). What was not said is nosuid and nodev for a mount by an ordinary user, and allowed
// for one by root, as on other filesystems.
func (o *Options) Flags(root bool) uintptr {
	var flags uintptr
	add := func(bit uintptr, on bool) {
		if on {
			flags |= bit
		}
	}
	add(unix.MS_RDONLY, Is(o.ReadOnly, false))
	add(unix.MS_NOEXEC, !Is(o.Exec, true))
	add(unix.MS_NOSUID, !Is(o.Suid, root))
	add(unix.MS_NODEV, !Is(o.Dev, root))
	add(unix.MS_NOSYMFOLLOW, !Is(o.SymFollow, true))
	switch o.Atime {
	case NoAtime:
		flags |= unix.MS_NOATIME
	case StrictAtime:
		flags |= unix.MS_STRICTATIME
	case RelAtime:
		flags |= unix.MS_RELATIME
	}
	return flags
}

// String writes the options as a list that [Parse] reads back to the same.
func (o *Options) String() string {
	var list []string
	pair := func(p *bool, is, not string) {
		if p != nil && *p {
			list = append(list, is)
		} else if p != nil {
			list = append(list, not)
		}
	}
	flag := func(on bool, name string) {
		if on {
			list = append(list, name)
		}
	}
	value := func(name, v string) {
		if v != "" {
			list = append(list, name+"="+quote(v))
		}
	}
	flag(o.Remount, "remount")
	pair(o.ReadOnly, "ro", "rw")
	pair(o.Exec, "exec", "noexec")
	pair(o.Suid, "suid", "nosuid")
	pair(o.Dev, "dev", "nodev")
	pair(o.SymFollow, "symfollow", "nosymfollow")
	flag(o.Atime != "", string(o.Atime))
	flag(o.AllowOther, "allow_other")
	flag(o.NonEmpty, "nonempty")
	flag(o.Debug, "debug")
	value("fsname", o.Source)
	value("store", o.Store)
	value("passthrough", string(o.Passthrough))
	if o.Settle != nil {
		value("settle", o.Settle.String())
	}
	return strings.Join(list, ",")
}

var quoter = strings.NewReplacer(`\`, `\\`, `,`, `\,`, `"`, `\"`)

func quote(s string) string { return quoter.Replace(s) }
