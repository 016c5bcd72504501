package fs

import (
	"encoding/binary"
	"hash/fnv"
	"slices"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/versions"
)

// The tree as it was: .share/at/TIME, DIR@@TIME and DIR@@/TIME. Nothing in it changes any more, so that the kernel may keep names, attributes and pages,
// and what it keeps of one hierarchy it keeps apart from all others: each TIME by which a directory was reached has nodes of its own (branch), for a
// directory can have but one place in the kernel's memory.

// branch makes the number that all nodes of one hierarchy share from where it hangs: the node or inode that its name is in, and the name. It is the same
// after a remount.
func branch(kind nodeKind, parent sharefs.Ino, name string) uint64 {
	h := fnv.New64a()
	h.Write(binary.BigEndian.AppendUint64([]byte{byte(kind)}, uint64(parent)))
	h.Write([]byte(name))
	return h.Sum64()
}

// momentOf finds the moment that a name stands for: a tag or branch of the inode, one of the root (a snapshot), or a time. MaxHLC is now. Seconds is for how
// long that holds; relative, that it depends on when it is asked. KindNotExist: it stands for none.
func (e *edge) momentOf(ino sharefs.Ino, name string) (at sharefs.HLC, seconds uint64, relative bool, err error) {
	if at, seconds, ok := e.pins.moment(name); ok {
		return at, seconds, seconds != cacheSeconds, nil
	}
	m, err := e.tree.Moment(ino, name)
	if err != nil && missing(err) && ino != sharefs.RootIno {
		m, err = e.tree.Moment(sharefs.RootIno, name)
	}
	if err == nil && m.At == sharefs.MaxHLC { // a branch that is switched to stands at the present
		return m.At, pinSeconds, true, nil
	}
	return m.At, 0, false, err
}

// viewOf returns the tree at the moment that a name stands for.
func (e *edge) viewOf(ino sharefs.Ino, name string) (v *versions.View, seconds uint64, err error) {
	at, seconds, relative, err := e.momentOf(ino, name)
	if err != nil {
		return nil, 0, err
	}
	if relative {
		at, err = e.pins.pinned(name, func() (sharefs.HLC, error) { return e.upToNow(at) })
		if err != nil {
			return nil, 0, err
		}
	}
	v, err = e.tree.ViewAt(at)
	return v, seconds, err
}

// upToNow returns the moment that a view of a moment shows; what lies ahead is now.
func (e *edge) upToNow(at sharefs.HLC) (sharefs.HLC, error) {
	v, err := e.tree.ViewAt(at)
	if sharefs.KindOf(err) == sharefs.KindInvalid {
		v, err = e.tree.ViewAt(sharefs.MaxHLC)
	}
	if err != nil {
		return 0, err
	}
	return v.At(), nil
}

// enterView answers a lookup with an inode as it was, the top of a hierarchy of its own. Who looks it up is who it shows itself to, so that the kernel must
// ask again for each where that matters.
func (e *edge) enterView(h *fuse.InHeader, v *versions.View, ino sharefs.Ino, num, seconds uint64, out *fuse.EntryOut) fuse.Status {
	a, err := v.Getattr(ino)
	if err != nil {
		return noSuch(err)
	}
	who, err := e.viewers.of(h)
	if err != nil {
		return status(err)
	}
	if e.viewers.several {
		seconds = 0
	}
	return e.enterAt(nodeKey{kind: atNode, who: who, ino: ino, num: num ^ e.viewers.hash(who), at: v.At()}, &a, seconds, out)
}

// noSuch is the status of a lookup in a view: an inode that was not there then is a missing name.
func noSuch(err error) fuse.Status {
	if k := sharefs.KindOf(err); k == sharefs.KindStale || k == sharefs.KindNotDir {
		return fuse.ENOENT
	}
	return status(err)
}

// enterAt answers a lookup with a node whose attributes are known.
func (e *edge) enterAt(k nodeKey, a *sharefs.Attr, seconds uint64, out *fuse.EntryOut) fuse.Status {
	valid, err := e.narrow(k, a)
	if err != nil {
		return status(err)
	}
	out.NodeId = e.nodes.enter(k)
	fill(&out.Attr, a)
	out.Ino = out.NodeId
	out.EntryValid, out.AttrValid = seconds, valid
	return fuse.OK
}

// below is the node of what bears a name in a directory of a view.
func (e *edge) below(k nodeKey, name string, a *sharefs.Attr) nodeKey {
	dir := k.ino
	k.ino, k.heir = a.Ino, 0
	if k.who != 0 && a.IsRegular() {
		k.heir = e.heirOf(dir, name, a.Ino)
	}
	return k
}

// lookupAt finds a name in a directory of a view. A missing one stays missing.
func (e *edge) lookupAt(k nodeKey, name string, out *fuse.EntryOut) fuse.Status {
	v, err := e.tree.ViewOf(k.at)
	if err != nil {
		return status(err)
	}
	a, err := v.Lookup(k.ino, name)
	if err != nil {
		if !missing(err) {
			return status(err)
		}
		out.NodeId, out.EntryValid = 0, cacheSeconds
		return fuse.OK
	}
	if name == ".." {
		k.ino, k.heir = a.Ino, 0
		return e.enterAt(k, &a, 0, out)
	}
	return e.enterAt(e.below(k, name, &a), &a, cacheSeconds, out)
}

// attrAt completes the attributes of a node of a view, and returns for how many seconds they hold.
func (e *edge) attrAt(k nodeKey, a *sharefs.Attr) (uint64, error) {
	v, err := e.tree.ViewOf(k.at)
	if err != nil {
		return 0, err
	}
	id := a.Ino
	if *a, err = v.Getattr(k.ino); err != nil {
		return 0, err
	}
	valid, err := e.narrow(k, a)
	a.Ino = id
	return valid, err
}

// listPiece is how many names of a view are read at once: no attribute is read while the store lists.
const listPiece = 128

// listAt lists a directory of a view, in the form of READDIRPLUS where plus is set, and then with attributes where these are wanted.
func (e *edge) listAt(k nodeKey, in *fuse.ReadIn, out *fuse.DirEntryList, plus, attrs bool) fuse.Status {
	v, err := e.tree.ViewOf(k.at)
	if err != nil {
		return status(err)
	}
	from := in.Offset
	if from <= offDotDot {
		from = 0
	}
	names := make([]sharefs.Dentry, 0, listPiece)
	for {
		names = names[:0]
		err := v.ReadDir(k.ino, from, func(d sharefs.Dentry) bool {
			names = append(names, d)
			return len(names) < listPiece
		})
		if err != nil {
			return status(err)
		}
		for i := range names {
			if full, err := e.addAt(v, k, &names[i], out, plus, attrs); full || err != nil {
				return fuse.OK // what was listed before holds references; an error comes again, and then first
			}
		}
		if len(names) < listPiece {
			return fuse.OK
		}
		from = names[len(names)-1].Cookie
	}
}

// addAt lists one name of a view and reports whether the buffer was full.
func (e *edge) addAt(v *versions.View, k nodeKey, d *sharefs.Dentry, out *fuse.DirEntryList, plus, attrs bool) (full bool, err error) {
	a := sharefs.Attr{Ino: d.Ino, Mode: d.Type}
	if attrs {
		if a, err = v.Getattr(d.Ino); err != nil {
			return false, err
		}
	}
	child := e.below(k, d.Name, &a)
	entry := fuse.DirEntry{Name: d.Name, Mode: d.Type, Off: d.Cookie}
	if !plus || !attrs {
		entry.Ino = e.nodes.find(child)
		return !addEntry(out, plus, entry), nil
	}
	valid, err := e.narrow(child, &a)
	if err != nil {
		return false, err
	}
	entry.Ino = e.nodes.enter(child)
	slot := out.AddDirLookupEntry(entry)
	if slot == nil {
		e.nodes.forget(entry.Ino, 1)
		return true, nil
	}
	fill(&slot.Attr, &a)
	slot.NodeId, slot.Ino = entry.Ino, entry.Ino
	slot.EntryValid, slot.AttrValid = cacheSeconds, valid
	return false, nil
}

// openAt opens a regular file of a view. That its content is gone is no reason to say that its name is.
func (e *edge) openAt(k nodeKey) (versions.VersionReader, error) {
	v, err := e.tree.ViewOf(k.at)
	if err != nil {
		return nil, err
	}
	r, err := v.Open(k.ino)
	if err != nil && missing(err) {
		e.log.Debug("the content of a file of the past is gone", "inode", k.ino, "at", k.at, "error", err)
		return nil, unix.EIO
	}
	return r, err
}

// readlinkAt returns where a symbolic link led to.
func (e *edge) readlinkAt(k nodeKey) (string, error) {
	v, err := e.tree.ViewOf(k.at)
	if err != nil {
		return "", err
	}
	return v.Readlink(k.ino)
}

// xattrAt returns an extended attribute that something had. Of the mount's own the time is that of the view, and others are those of the version that a file
// was.
func (e *edge) xattrAt(k nodeKey, attr string) ([]byte, error) {
	v, err := e.tree.ViewOf(k.at)
	switch {
	case err != nil:
		return nil, err
	case attr == attrTime:
		return []byte(versionTime(k.at)), nil
	case isOwn(attr):
		was, err := v.Version(k.ino)
		if missing(err) || sharefs.KindOf(err) == sharefs.KindInvalid {
			err = sharefs.KindNoAttr
		}
		if err != nil {
			return nil, err
		}
		return versionXattr(&was, attr)
	case hidden(k, attr):
		return nil, sharefs.KindNoAttr
	}
	return v.Getxattr(k.ino, attr)
}

// xattrsAt lists the extended attributes that something had, without those of the mount's own, so that a copy has none more than the original.
func (e *edge) xattrsAt(k nodeKey) ([]string, error) {
	v, err := e.tree.ViewOf(k.at)
	if err != nil {
		return nil, err
	}
	names, err := v.Listxattr(k.ino)
	return slices.DeleteFunc(names, func(name string) bool { return hidden(k, name) }), err
}
