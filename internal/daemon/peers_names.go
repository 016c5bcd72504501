package daemon

import (
	"errors"
	"slices"
	"strings"

	"sharefs"
	"sharefs/peers/report"
	"sharefs/versions"
)

// reservedName says why no peer may have a name, empty if one may: behind FILE@@, and where versions of a file are to be chosen from, it means something else.
func (d *Daemon) reservedName(name string) string {
	if strings.EqualFold(name, report.Here) {
		return "it is what this host is called among those that wrote a file"
	}
	if e := new(sharefs.Error); errors.As(versions.CheckMomentName(name), &e) {
		return e.Detail
	}
	for _, list := range []func(sharefs.Ino) ([]versions.Moment, error){d.tree.Tags, d.tree.Branches} {
		// What cannot be read is no reason to refuse a name.
		if all, err := list(sharefs.RootIno); err == nil && slices.ContainsFunc(all, func(m versions.Moment) bool { return strings.EqualFold(m.Name, name) }) {
			return "a snapshot or branch of the tree has this name"
		}
	}
	return ""
}
