package mountopt

import (
	"sort"
	"strings"
)

// spec says what one option does: as a bare flag, with a value, or why it is refused.
type spec struct {
	flag    func(*Options)
	value   func(*Options, string) error
	refuse  string
	example string // of a value, for those that need one
}

// specs is the list of all options that are known.
var specs = map[string]spec{
	"ro": {flag: func(o *Options) { o.ReadOnly = yes() }},
	"rw": {flag: func(o *Options) { o.ReadOnly = no() }},

	"remount":             {flag: func(o *Options) { o.Remount = true }},
	"allow_other":         {flag: func(o *Options) { o.AllowOther = true }},
	"nonempty":            {flag: func(o *Options) { o.NonEmpty = true }},
	"debug":               {flag: func(o *Options) { o.Debug = true }},
	"default_permissions": {flag: func(o *Options) { o.KernelChecks = true }},

	"exec": {flag: func(o *Options) { o.Exec = yes() }}, "noexec": {flag: func(o *Options) { o.Exec = no() }},
	"suid": {flag: func(o *Options) { o.Suid = yes() }}, "nosuid": {flag: func(o *Options) { o.Suid = no() }},
	"dev": {flag: func(o *Options) { o.Dev = yes() }}, "nodev": {flag: func(o *Options) { o.Dev = no() }},
	"symfollow": {flag: func(o *Options) { o.SymFollow = yes() }}, "nosymfollow": {flag: func(o *Options) { o.SymFollow = no() }},

	"noatime":       {flag: func(o *Options) { o.Atime = NoAtime }},
	"relatime":      {flag: func(o *Options) { o.Atime = RelAtime }},
	"strictatime":   {flag: func(o *Options) { o.Atime = StrictAtime }},
	"atime":         {flag: func(o *Options) { o.Atime = RelAtime }}, // what mount(8) means by it: the kernel's default
	"norelatime":    {flag: func(o *Options) { o.Atime = StrictAtime }},
	"nostrictatime": {flag: func(o *Options) { o.Atime = RelAtime }},

	"store":       {value: func(o *Options, v string) error { o.Store = v; return nil }, example: "/srv/share"},
	"fsname":      {value: func(o *Options, v string) error { o.Source = v; return nil }, example: "share"},
	"subtype":     {value: setSubtype, example: "sharefs"},
	"passthrough": {value: setPassthrough, example: "off"},
	"settle":      {value: setSettle, example: "1s"},
	"view":        {value: setView, example: "at:yesterday"},
	"listen":      {value: setListen, example: "0.0.0.0:7274"},
	"passphrase":  {value: func(o *Options, v string) error { o.Passphrase = v; return nil }, example: "/etc/share.pass"},

	// What mount(8), fstab(5) and systemd keep for themselves but hand on all the same.
	"defaults": {flag: nothing}, // a word for a field that must not be empty: it takes nothing back
	"user":     {flag: restrict, value: func(o *Options, _ string) error { restrict(o); return nil }},
	"users":    {flag: restrict}, "owner": {flag: restrict}, "group": {flag: restrict},
	"nouser": {flag: nothing}, "nousers": {flag: nothing}, "noowner": {flag: nothing}, "nogroup": {flag: nothing},
	"auto": {flag: nothing}, "noauto": {flag: nothing}, "nofail": {flag: nothing}, "_netdev": {flag: nothing},
	"comment": {flag: nothing, value: ignored}, "uhelper": {value: ignored, example: "sharefs"}, "helper": {value: ignored, example: "sharefs"},

	// What cannot be told apart from its absence; nodiratime stands in many an fstab beside noatime, which covers it.
	"nodiratime": {flag: nothing},
	"async":      {flag: nothing}, "nodirsync": {flag: nothing}, "lazytime": {flag: nothing}, "nolazytime": {flag: nothing},
	"diratime": {flag: nothing}, "loud": {flag: nothing}, "silent": {flag: nothing}, "nomand": {flag: nothing}, "noiversion": {flag: nothing},

	// What /proc/mounts shows of a mount, and mount(8) repeats in a remount.
	"user_id": kernelOnly("user_id"), "group_id": kernelOnly("group_id"), "rootmode": kernelOnly("rootmode"),
	"fd": kernelOnly("fd"), "max_read": kernelOnly("max_read"), "blksize": kernelOnly("blksize"),

	"sync":       {refuse: "programs that need it call fsync(2), which is honoured"},
	"dirsync":    {refuse: "programs that need it call fsync(2) on the directory, which is honoured"},
	"mand":       {refuse: "Linux has no mandatory locks any more"},
	"iversion":   {refuse: "a FUSE filesystem has no change counter"},
	"allow_root": {refuse: "use allow_other"},
	"bind":       {refuse: bindOnly}, "rbind": {refuse: bindOnly}, "move": {refuse: bindOnly},
	"shared": {refuse: bindOnly}, "private": {refuse: bindOnly}, "slave": {refuse: bindOnly}, "unbindable": {refuse: bindOnly},
}

const bindOnly = "it works on a mount that is there, and mount(8) does it alone"

func yes() *bool { t := true; return &t }
func no() *bool  { f := false; return &f }

func nothing(*Options) {}

func ignored(*Options, string) error { return nil }

// restrict is what mount(8) implies when ordinary users may mount; options that follow can take it back.
func restrict(o *Options) { o.Exec, o.Suid, o.Dev = no(), no(), no() }

func kernelOnly(name string) spec {
	return spec{value: func(o *Options, _ string) error { o.kernelOnly = name; return nil }, example: "0"}
}

func setSubtype(_ *Options, v string) error {
	if v != "sharefs" {
		return invalid("subtype", "is always sharefs here, not "+v)
	}
	return nil
}

func setPassthrough(o *Options, v string) (err error) {
	o.Passthrough, err = ParsePassthrough(v)
	return err
}

func setSettle(o *Options, v string) error {
	d, err := ParseSettle(v)
	if err == nil {
		o.Settle = &d
	}
	return err
}

func setListen(o *Options, v string) (err error) {
	o.Listen, err = ParseListen(v)
	return err
}

// ViewAll shows the hierarchies of .share in the root as well, ViewAt and a time, or the name of a snapshot, mounts the tree as it was then.
const (
	ViewAll = "all"
	ViewAt  = "at:"
)

func setView(o *Options, v string) error {
	when, at := strings.CutPrefix(v, ViewAt)
	switch {
	case v == "live":
		v = ""
	case v != ViewAll && !at:
		return invalid("view", "is live, all, or at:TIME, not "+v)
	case at && when == "":
		return invalid("view", "needs a time or the name of a snapshot, such as view=at:yesterday")
	}
	o.View = v
	return nil
}

// Names lists all options that are known and not refused, sorted.
func Names() []string {
	names := make([]string, 0, len(specs))
	for name, s := range specs {
		if s.refuse == "" {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	return names
}

// Nearest returns the one of names that a slip of the keys made name of, or "" where none is near: at most two letters
// inserted, left out or changed (Levenshtein, 1966), and fewer than half of the word.
func Nearest(name string, names []string) string {
	best, at := "", min(3, (len(name)+1)/2)
	if len(name) > 64 {
		return ""
	}
	for _, n := range names {
		if d := distance(name, n); d < at {
			best, at = n, d
		}
	}
	return best
}

func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			d := diagonal
			if a[i-1] != b[j-1] {
				d = 1 + min(diagonal, row[j], row[j-1])
			}
			diagonal, row[j] = row[j], d
		}
	}
	return row[len(b)]
}
