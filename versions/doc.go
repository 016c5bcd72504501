// Package versions is the tree that remembers: names, inodes and content of the live files, and every state they were in.
//
// # The live tree
//
// [Tree] keeps names and inodes as rows of a key-value store (package kv) and the content of each regular inode in a backing
// file of its own. Inodes are named by number, so that no operation depends on how deep a file lies or what it is called.
//
//   - A row that readers can see is never changed (inode.go). An operation that changes something holds [Tree]'s mutex, copies the rows
//     concerned, commits the copies together with the names as one batch, and puts them in place of the old ones after that (tx.go).
//     Lookups and attributes take no lock but that of a cache shard; a commit that fails leaves nothing to undo.
//   - A name lies in a slot that the keyed hash of it points to (dentry.go), so that a directory is listed in an order that no change
//     of other names disturbs.
//   - Backing files and inode numbers are prepared before they are asked for (stock.go) and removed after they are of no use (orphan.go), for
//     both cost a disk more than all else that an operation does.
//   - While somebody may write to a file, its backing file tells size and times, for under FUSE passthrough nobody tells the
//     daemon of writes. A mark row says so to a start after a crash. When nobody can write any more (package writers), the
//     row is brought up to date (mark.go, settle.go) and the content counts as a version.
//   - An instant ends when nothing has changed for a moment (instant.go): changes within it are one state of the past.
//
// Permission is the kernel's business (default_permissions with POSIX access control lists); what hangs on owners and modes otherwise
// (inheritance, setuid, lists that follow chmod) is done here, as ext4 does it.
//
// # The past
//
// hooks.go is the seam: where a name changes hands, where content is about to change or to be lost, where a file has come to rest.
//
// A [View] is the tree as it was at a moment: rows as they were, and of a file the last version that was closed by then. What has been looked at never changes
// (view_look.go); moments may have names (moment.go).
//
// checkpoint.go keeps all rows a second time, from which rebuild.go makes meta.db anew.
//
// # Locks
//
// file.content, then Tree.mu, then the mutexes of caches, tables and queues, none of which is held while another one is taken but for
// file.mu, under which a descriptor may be opened. No hook and no commit runs under the latter.
package versions
