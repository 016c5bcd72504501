package fs

import (
	"github.com/hanwen/go-fuse/v2/fuse"

	"sharefs"
	"sharefs/versions"
)

// .share/versions is the live tree, with everything that ever was in it, to walk: each regular file is a directory as FILE@@ is. Where several things bore a
// name one after the other it is the one that bears it, or bore it last. What never had a version is left out once it is gone.

// everKey is the node of what bears a name or bore it last; ok is false for what has no past to show.
func (e *edge) everKey(dir sharefs.Ino, ever *versions.Ever) (k nodeKey, ok bool, err error) {
	switch ever.Type {
	case sharefs.ModeDir:
		return nodeKey{kind: everDir, ino: ever.Ino, at: ever.Gone}, true, nil
	case sharefs.ModeRegular:
		ino := ever.Ino
		if ever.Gone != 0 {
			if ino, err = e.tree.Past(dir, ever.Name); err != nil {
				if missing(err) {
					err = nil
				}
				return k, false, err
			}
		}
		return nodeKey{kind: pastDir, ino: ino, at: ever.Gone}, true, nil
	case sharefs.ModeSymlink:
		k = nodeKey{kind: everLink, ino: ever.Ino}
		if ever.Gone != 0 {
			k.at = ever.Gone - 1
		}
		return k, true, nil
	}
	return k, false, nil
}

// lookupEver finds a name in a directory of .share/versions.
func (e *edge) lookupEver(dir sharefs.Ino, name string, out *fuse.EntryOut) fuse.Status {
	ever, err := e.tree.NameEver(dir, name)
	if err != nil {
		return status(err)
	}
	k, ok, err := e.everKey(dir, &ever)
	switch {
	case err != nil:
		return status(err)
	case !ok:
		return fuse.ENOENT
	}
	return e.enter(k, out)
}

// listEver lists a directory of .share/versions.
func (e *edge) listEver(k nodeKey, in *fuse.ReadIn, add func(name string, off uint64, k nodeKey) bool) fuse.Status {
	from := in.Offset
	if from <= offDotDot {
		from = 0
	}
	names := make([]versions.Ever, 0, listPiece)
	for {
		names = names[:0]
		err := e.tree.NamesEver(k.ino, from, func(ever versions.Ever) bool {
			names = append(names, ever)
			return len(names) < listPiece
		})
		if err != nil {
			return status(err)
		}
		for i := range names {
			if sharefs.IsLimbo(k.ino, names[i].Name) {
				continue
			}
			child, ok, err := e.everKey(k.ino, &names[i])
			if err != nil || ok && !add(names[i].Name, names[i].Cookie, child) {
				return status(err)
			}
		}
		if len(names) < listPiece {
			return fuse.OK
		}
		from = names[len(names)-1].Cookie
	}
}

// everLinkTarget returns where it leads.
func (e *edge) everLinkTarget(k nodeKey) (string, error) {
	if k.at == 0 {
		return e.tree.Readlink(k.ino)
	}
	return e.readlinkAt(k)
}
