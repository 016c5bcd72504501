package fs

import (
	"strconv"
	"strings"

	"github.com/hanwen/go-fuse/v2/fuse"

	"sharefs"
	"sharefs/versions"
)

// .share/trash shows what was removed and has not been replaced since, each thing as it was before the command that removed it, a directory with
// all that it held: the latest under its own name, those before it of the same name as NAME@@TIME, and NAME@@TIME~2 and so on of one command. Users see what they removed or what was theirs.
//
// It is brought back by moving it out. For the kernel the trash is another filesystem (EXDEV), so that mv(1) and whatever moves files copies it, with
// all attributes, and then removes what it copied. Removing something from the trash removes it from the trash: its history stays. Within a directory
// in the trash removals are granted and change nothing, until the directory itself goes.
const trashName = "trash"

// trashListed is how many things, the latest, are listed: some microseconds each. By their names all are to be had.
const trashListed = 10_000

// trashNum is the number of the hierarchy of what is in the trash.
var trashNum = branch(trashDir, 0, "")

// trashed is something in the trash with the name that it has there.
type trashed struct {
	versions.Trashed
	name string
	view *versions.View
	attr sharefs.Attr
}

// inTrash calls fn for what a caller finds in the trash, or of it what bore one name, the latest first, until it returns false. What has been replaced since is there, for whoever
// copies it may come back to it, and need not be listed.
func (e *edge) inTrash(h *fuse.InHeader, name string, fn func(*trashed) bool) error {
	all := e.seesAll(h)
	seen := map[string]int{}
	var bad error
	var before sharefs.HLC
	var view *versions.View // of the operation of the last row: what it removed stands together
	err := e.tree.Trash(name, func(r versions.Trashed) bool {
		t := trashed{Trashed: r, name: r.Name}
		var err error
		if view == nil || before != r.Before {
			switch view, err = e.tree.ViewAt(r.Before); {
			case missing(err):
				view = nil
				return true // retention has removed all up to then
			case err != nil:
				bad = err
				return false
			}
			before = r.Before
		}
		t.view = view
		if t.attr, err = t.view.Getattr(r.Ino); err != nil {
			return true // nothing of it is kept any more
		}
		if !all && r.By != h.Uid && t.attr.UID != h.Uid {
			return true
		}
		if seen[r.Name]++; seen[r.Name] > 1 {
			t.name += pastMark + trashTime(r.Before)
			if seen[t.name]++; seen[t.name] > 1 { // one command removed several of one name
				t.name += "~" + strconv.Itoa(seen[t.name])
			}
		}
		return fn(&t)
	})
	if err == nil {
		err = bad
	}
	return err
}

// findTrashed finds something in the trash by its name there. KindNotExist: there is nothing of that name.
func (e *edge) findTrashed(h *fuse.InHeader, name string) (found *trashed, err error) {
	if base, _, ok := splitPast(name); ok {
		err = e.inTrash(h, base, func(t *trashed) bool {
			if t.name == name || found == nil && t.Name+pastMark+trashTime(t.Before) == name {
				found = t
			}
			return t.name != name
		})
	}
	if err == nil && found == nil {
		err = e.inTrash(h, name, func(t *trashed) bool {
			found = t
			return false
		})
	}
	if err == nil && found == nil {
		err = sharefs.KindNotExist
	}
	return found, err
}

func (e *edge) lookupTrash(h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	t, err := e.findTrashed(h, name)
	if err != nil {
		return status(err)
	}
	return e.enterView(h, t.view, t.Ino, trashNum, 0, out)
}

// listTrash lists .share/trash, what was removed last first.
func (e *edge) listTrash(in *fuse.ReadIn, out *fuse.DirEntryList, plus bool) fuse.Status {
	who, err := e.viewers.of(&in.InHeader)
	if err != nil {
		return status(err)
	}
	return e.listFound(in, out, plus, nodeKey{kind: trashDir, who: who}, func() ([]listed, error) { return e.listedTrash(&in.InHeader, who) })
}

// listedTrash finds what is listed for somebody.
func (e *edge) listedTrash(h *fuse.InHeader, who viewer) (list []listed, err error) {
	looked := 0
	err = e.inTrash(h, "", func(t *trashed) bool {
		if looked++; looked > trashListed {
			return false
		}
		if swapFile(t.Name) || e.bears(t.Parent, t.Name) {
			return true
		}
		k := nodeKey{kind: atNode, who: who, ino: t.Ino, num: trashNum ^ e.viewers.hash(who), at: t.view.At()}
		list = append(list, listed{t.name, e.nodes.find(k), t.attr.Mode & sharefs.ModeType})
		return true
	})
	return list, err
}

// swapFile reports whether a name is one that editors give to files which they remove when they end: vim (.NAME.swp), emacs and LibreOffice (.#NAME,
// .~lock.NAME#). Each that was ever used would lie in the trash; by their names they are to be had.
func swapFile(name string) bool {
	rest, hidden := strings.CutPrefix(name, ".")
	if !hidden {
		return false
	}
	if n := len(rest); n > 4 && rest[n-4:n-1] == ".sw" && rest[n-1] >= 'a' && rest[n-1] <= 'p' {
		return true
	}
	return strings.HasPrefix(rest, "#") || strings.HasPrefix(rest, "~lock.") && strings.HasSuffix(rest, "#")
}

// ofTrash reports whether a node is the trash or in it.
func (e *edge) ofTrash(id uint64) (k nodeKey, ok bool) {
	if k, ok = e.nodes.get(id); !ok {
		return k, false
	}
	return k, k.kind == trashDir || k.kind == atNode && k.num == trashNum^e.viewers.hash(k.who)
}

// removeTrashed removes a name from the trash.
func (e *edge) removeTrashed(h *fuse.InHeader, name string) fuse.Status {
	k, ok := e.ofTrash(h.NodeId)
	switch {
	case !ok:
		return frozen
	case k.kind == atNode:
		return fuse.OK
	}
	name = strings.TrimSuffix(name, "/")
	t, err := e.findTrashed(h, name)
	if err == nil {
		err = e.tree.Untrash(t.Before, t.Ino)
	}
	return status(err)
}
