package mountopt

import (
	"strings"

	"sharefs"
)

// Kernel lists the options that the kernel is to keep, as words of mount(8); what is not in the list is off. What was not said is
// nosuid and nodev for a mount by an ordinary user, and allowed for one by root, as on other filesystems. An ordinary user who asks
// for suid or dev is refused with KindPermission.
func (o *Options) Kernel(root bool) ([]string, error) {
	var list []string
	not := func(p *bool, otherwise bool, word, opposite string) error {
		if !root && p != nil && *p && !otherwise {
			return &sharefs.Error{Op: "option", Path: opposite, Kind: sharefs.KindPermission, Detail: "only root may mount with it"}
		}
		if !Is(p, otherwise) {
			list = append(list, word)
		}
		return nil
	}
	if Is(o.ReadOnly, false) {
		list = append(list, "ro")
	}
	for _, f := range []struct {
		p              *bool
		otherwise      bool
		word, opposite string
	}{{o.Exec, true, "noexec", "exec"}, {o.Suid, root, "nosuid", "suid"}, {o.Dev, root, "nodev", "dev"}, {o.SymFollow, true, "nosymfollow", "symfollow"}} {
		if err := not(f.p, f.otherwise, f.word, f.opposite); err != nil {
			return nil, err
		}
	}
	// The daemon keeps to the rule, whatever the kernel shows; of the three words fusermount3 knows noatime alone in each of its releases.
	if o.Atime != "" && (root || o.Atime == NoAtime) {
		list = append(list, string(o.Atime))
	}
	if o.KernelChecks {
		list = append(list, "default_permissions")
	}
	return list, nil
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
	flag(o.KernelChecks, "default_permissions")
	flag(o.NonEmpty, "nonempty")
	flag(o.Debug, "debug")
	value("fsname", o.Source)
	value("store", o.Store)
	value("passthrough", string(o.Passthrough))
	if o.Settle != nil {
		value("settle", o.Settle.String())
	}
	value("view", o.View)
	return strings.Join(list, ",")
}

var quoter = strings.NewReplacer(`\`, `\\`, `,`, `\,`, `"`, `\"`)

func quote(s string) string { return quoter.Replace(s) }
