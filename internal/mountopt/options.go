// Package mountopt reads the options of a mount: what stands behind -o on a command line, in the fourth field of fstab(5), and
// what mount(8) hands to its helper.
//
// # Grammar
//
//	list   = [ option { "," option } ]
//	option = name [ "=" value ]
//	value  = { character | "\," | "\\" | `\"` | a part in double quotes, in which commas stand for themselves }
//
// Later options win over earlier ones, as in mount(8). A name that is not known is an error which names it; nothing is
// accepted and then not done, but for those options whose absence nobody can notice (async, lazytime and the like).
package mountopt

import "time"

// Atime says when reading a file moves its access time, as in mount(8).
type Atime string

// The atime rules.
const (
	NoAtime     Atime = "noatime"
	RelAtime    Atime = "relatime" // when it would otherwise be older than the last change, or a day old
	StrictAtime Atime = "strictatime"
)

// Passthrough says how the content of live files reaches programs.
type Passthrough string

// The ways of passthrough.
const (
	PassthroughAuto Passthrough = "auto" // by the kernel alone where it can, through the daemon where not
	PassthroughOff  Passthrough = "off"  // always through the daemon
)

// MaxSettle bounds the settle time, so that a slip of the unit does not switch versions off unnoticed.
const MaxSettle = 24 * time.Hour

// Options is what a list of options asks for. A pointer that is nil, and an empty string, were not said: the store's
// configuration or the default decides.
type Options struct {
	Remount    bool // change the options of a mount that exists
	ReadOnly   *bool
	Exec       *bool // programs in the mount may be run
	Suid       *bool // their setuid and setgid bits count
	Dev        *bool // device nodes in it are devices
	SymFollow  *bool // path lookups follow symbolic links
	Atime      Atime
	AllowOther bool // other users than the one who mounts may enter
	// KernelChecks, default_permissions, has the kernel check permissions even where root alone may enter; elsewhere it does anyway.
	KernelChecks bool
	NonEmpty     bool // the mount point may hold entries, which the mount hides
	Debug        bool // each request goes into the log

	Source      string         // fsname=: what /proc/mounts shows as the source
	Store       string         // store=: the store's directory
	Passthrough Passthrough    // passthrough=
	Settle      *time.Duration // settle=: how long a file must be quiet before its version is taken; 0 keeps every close

	Listen     string // listen=: an address, ListenAuto or ListenOff, where peers reach the store
	Passphrase string // passphrase=: the file with the passphrase of the store's identity

	View string // view=: ViewAll, ViewAt and a time, or empty for the live tree alone

	kernelOnly string // the last option seen that the kernel shows of a mount and nobody may set
}

// Is returns what p says, or otherwise where it says nothing.
func Is(p *bool, otherwise bool) bool {
	if p == nil {
		return otherwise
	}
	return *p
}
