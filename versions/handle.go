package versions

import "sharefs"

// Space is what statfs(2) tells; sizes in bytes.
type Space struct {
	BlockSize              uint32
	Total, Free, Available uint64
	Inodes, InodesFree     uint64
}

// Handle is one open file of the live tree.
type Handle struct {
	ino sharefs.Ino
}

// Ino returns the inode that the handle is open on.
func (h *Handle) Ino() sharefs.Ino { return h.ino }
