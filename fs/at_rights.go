package fs

import (
	"encoding/binary"
	"hash/fnv"
	"slices"
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"

	"sharefs"
	"sharefs/versions"
)

// Who may read what is in a view of the past: whoever could then, and may now. The kernel checks the first by itself, for a view has the modes, owners and access
// control lists of then. The second is checked here: each user who looks up the top of a view where others may come in too gets nodes of their own (viewer),
// whose modes lack what that user may not do with the file or directory now. So what everybody sees is exact but for what is closed to them.
//
// What is no more nobody may read now; it shows itself to its owner of then. But where another file has its name, one that continues its history as that of
// every editor does, that one's rights count (heir).
//
// Root and the owner of the mount see all as it was. So does everybody where nobody else may come in.

// viewer is a user with their groups, as a place in the table of viewers; 0 is whoever sees all as it was.
type viewer uint32

// viewers knows the users who look at the past. They are never forgotten, for nodes name them.
type viewers struct {
	several bool   // the kernel lets several users in and checks what they may do; fixed before the first request
	owner   uint32 // of the mount

	mu    sync.Mutex // guards what follows
	known map[string]viewer
	list  []*looker
}

type looker struct {
	uid    uint32
	groups []uint32 // their own first
	hash   uint64
}

func (w *looker) in(gid uint32) bool { return slices.Contains(w.groups, gid) }

// maxViewers bounds the table, some 100 bytes each.
const maxViewers = 1 << 20

// of returns who makes a request.
func (t *viewers) of(h *fuse.InHeader) (viewer, error) {
	if !t.several || h.Uid == 0 || h.Uid == t.owner {
		return 0, nil
	}
	who := caller(h)
	more, _ := who.Groups() // whose groups cannot be told has their own alone
	slices.Sort(more)
	groups := append([]uint32{who.GID}, more...)
	key := binary.BigEndian.AppendUint32(nil, who.UID)
	for _, g := range groups {
		key = binary.BigEndian.AppendUint32(key, g)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if v, ok := t.known[string(key)]; ok {
		return v, nil
	}
	if len(t.list) >= maxViewers {
		return 0, sharefs.KindAgain
	}
	if t.known == nil {
		t.known = map[string]viewer{}
	}
	sum := fnv.New64a()
	sum.Write(key)
	t.list = append(t.list, &looker{uid: who.UID, groups: groups, hash: sum.Sum64()})
	v := viewer(len(t.list))
	t.known[string(key)] = v
	return v, nil
}

func (t *viewers) get(v viewer) *looker {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.list[v-1]
}

// hash tells viewers apart in the numbers of nodes, the same after a remount.
func (t *viewers) hash(v viewer) uint64 {
	if v == 0 {
		return 0
	}
	return t.get(v).hash
}

// narrow takes from the attributes that something had then what its viewer may not do with it now, and returns for how many seconds they hold.
func (e *edge) narrow(k nodeKey, a *sharefs.Attr) (uint64, error) {
	if k.who == 0 {
		return cacheSeconds, nil
	}
	who := e.viewers.get(k.who)
	may, err := e.mayNow(k, who, a)
	if err != nil {
		return 0, err
	}
	for _, bit := range [...]uint32{permRead, permExec} {
		if may&bit == 0 {
			a.Mode &^= bit * 0o111
		}
	}
	switch a.Mode & sharefs.ModeType {
	case sharefs.ModeRegular:
		// A program that was set aside for its faults must not lend the rights of others for ever.
		if who.uid != a.UID {
			a.Mode &^= sharefs.ModeSetuid
		}
		if !who.in(a.GID) {
			a.Mode &^= sharefs.ModeSetgid
		}
	case sharefs.ModeChar, sharefs.ModeBlock:
		a.Rdev = 0 // no device
	}
	return changingSeconds, nil
}

// entrance returns which directories a caller may enter, as they were at a moment: those that let in then and do so now.
func (e *edge) entrance(h *fuse.InHeader) (versions.Entrance, error) {
	v, err := e.viewers.of(h)
	if err != nil || v == 0 {
		return nil, err
	}
	who := e.viewers.get(v)
	return func(then *sharefs.Attr, acl []byte, read bool) bool {
		need := uint32(permExec)
		if read {
			need |= permRead
		}
		now, err := e.mayNow(nodeKey{ino: then.Ino}, who, then)
		return err == nil && now&permits(then, acl, who.uid, who.in)&need == need
	}, nil
}

// mayNow returns what the viewer of a node may do now with what had the attributes then.
func (e *edge) mayNow(k nodeKey, who *looker, then *sharefs.Attr) (uint32, error) {
	ino := k.ino
	live, err := e.tree.Getattr(ino)
	if gone(&live, err) && k.heir != 0 {
		ino = k.heir
		live, err = e.tree.Getattr(ino)
	}
	switch {
	case gone(&live, err):
		if who.uid == then.UID {
			return permRead | permWrite | permExec, nil
		}
		return 0, nil
	case err != nil:
		return 0, err
	case who.uid == live.UID:
		return permRead | permWrite | permExec, nil // who may open it at any time
	}
	acl, err := e.tree.Getxattr(ino, aclAccess)
	if err != nil && sharefs.KindOf(err) != sharefs.KindNoAttr && sharefs.KindOf(err) != sharefs.KindStale {
		return 0, err
	}
	return permits(&live, acl, who.uid, who.in), nil
}

// gone reports whether an inode has no name any more.
func gone(a *sharefs.Attr, err error) bool {
	if err != nil {
		return sharefs.KindOf(err) == sharefs.KindStale || missing(err)
	}
	return a.Nlink == 0
}

// heirOf returns the file that has the place of one that is no more and continues its history, 0 where there is none.
func (e *edge) heirOf(dir sharefs.Ino, name string, ino sharefs.Ino) sharefs.Ino {
	if live, err := e.tree.Getattr(ino); !gone(&live, err) {
		return 0
	}
	heir, err := e.tree.Past(dir, name)
	if err != nil || heir == ino {
		return 0
	}
	if continues, err := e.tree.Continues(heir, ino); err != nil || !continues {
		return 0
	}
	return heir
}

// hidden reports whether an extended attribute of then is not to be had: capabilities that a program had are like the setuid bit.
func hidden(k nodeKey, attr string) bool { return k.who != 0 && attr == attrCaps }

// attrCaps is the attribute that holds a program's capabilities.
const attrCaps = "security.capability"
