package mountopt

import "strings"

// Kernel lists the options that the kernel is to keep, the words of mount(8). What was not said is nosuid and nodev for a mount
// by an ordinary user, and allowed for one by root, as on other filesystems.
func (o *Options) Kernel(root bool) []string {
	list := []string{"default_permissions"}
	pick := func(on bool, is, not string) {
		if on {
			list = append(list, is)
		} else {
			list = append(list, not)
		}
	}
	pick(Is(o.ReadOnly, false), "ro", "rw")
	pick(Is(o.Exec, true), "exec", "noexec")
	pick(Is(o.Suid, root), "suid", "nosuid")
	pick(Is(o.Dev, root), "dev", "nodev")
	if !Is(o.SymFollow, true) {
		list = append(list, "nosymfollow")
	}
	if o.Atime != "" {
		list = append(list, string(o.Atime))
	}
	return list
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
