// Package replica keeps a tree and the records about it the same: what changes in the tree it writes down as records of this host, and what records of
// others say it does to the tree. It knows no network: [Replica.Since] gives what others lack, [Replica.Take] takes what they sent, and the chunks of a content come
// through [Config.Fetch].
//
// # The account
//
// Between tree and records stands an account: what of the tree is written down, name by name and inode by inode. So two questions are asked apart: what did
// somebody do here that nobody has written down (tree against account), and what do the records say that has not been done here (account against the tree that
// package converge makes of them).
//
//	tree ── author: marks of the feed, compared ──▶ account, records ──▶ converge
//	tree ◀─ apply: operations, each under conditions ── account ◀── what differs ──┘
//
// Both are free to be interrupted anywhere. The author goes by the tree's feed, whose marks stay until what they lead to is on disk, and it writes nothing where tree
// and records agree, so that what was applied is not written down a second time, even if the account had no time to learn of it. An operation is carried
// out only on what the account says is there; otherwise somebody was faster, the author comes first, and the rest is planned anew. What a file held that the account had no time to learn of,
// the tree's own versions tell: whoever wrote to it then has seen that.
//
// # Identity
//
// A file has one [sharefs.FileID] on all hosts: that of the inode with which it began. Another inode that takes the name of one that is no more continues that file, as saving with
// most programs does. An inode that is made here for a file of another host gets its id.
//
// # What an author writes
//
// One file after the other, each record later than what it replaces, and the place of a directory later than those of the directories that it is put into: so what happened one
// after the other is in that order for everybody, whatever clocks say. New names first, then what changed in inodes, then names that are gone, so that a removal names the
// versions that its author knew. A name that is gone while the inode has names of which nobody told yet is loose: it waits for them, across restarts, for then it was
// moved. Until then nothing is done to it for others, nor what hangs on that ([converge.World.Leave]); all else goes on. Only what differs is written: a mark that leads to nothing new is dropped. A new file is not told of before somebody has written it and its content is kept, so that
// nobody sees it empty; its mark stays until then.
//
// # Where not all authors count everywhere
//
// A record can lean on what another author wrote: a version on the place of its file, a place on the directory that it is put into. Where the other one does not count, it would be for
// nothing. So whoever writes about a file tells once what others wrote of it and of the directories above it ([record.Told]), which is as old as it was: told twice it is the same
// record, and it takes nothing back that was said since. And versions, and removals, name beside what they replace the last versions before that of other authors, for each of them may be
// the one that counts.
//
// # Nothing is lost
//
// A file whose present content no record tells is neither rewritten nor removed ([Tree.Adopt], [Tree.Take]): first it comes to rest and is written down. What is
// rewritten stays a version of the tree.
//
// Tree and database lose what was not synced at a loss of power each for itself. What the account says of the tree is synced there first; what the tree has beyond the
// account its marks tell of.
//
// # What counts
//
// What a record counts is asked of [Config] when it is taken, kept with it, and changed by an explicit decision alone, so that a grant does not bring what it did not speak of, nor a
// restart ([Standing]). Where an author may not do the same everywhere it hangs on what the record speaks of, as the tree is at that moment (where.go). Only merged records make the live tree. Those that are proposed, held or passed over are in the log as all others are, so that they reach hosts where they count
// more. [Replica.Aside] lists them by author, [Replica.View] is the tree in which an author's count, [Replica.Decide] has them count.
//
// What somebody proposes is shown as his tree ([Replica.Find], [Replica.List]), a second one beside that of the records, which is there as long as somebody looks, and as what differs in it
// ([Replica.Changes]). Taking it is telling it as this host's own ([Replica.Accept]): versions that come from his, and places. So nobody else has to trust him, and he is told of it in the
// only way that there is. What is refused ([Replica.Refuse]) is proposed again as soon as he says more of the same file.
//
// Of authors of whom nothing counts here nothing is kept; how many records that are is remembered ([Replica.PassedOver]). When they come to count, all is asked for again
// ([Replica.Reconsider]).
//
// # Log
//
// What a host has taken or written stands in its log, in the order of arrival: batches with their records, so that one signature serves thousands of records, and single
// records. A log has an id, made at random with the database, so that a peer's cursor, which is a number of arrival, is not taken for one in a log that is
// another. What is written here is synced before it is told, what is taken before it is acknowledged. Whenever a log is opened, numbers go on from the time, so that what
// a host that was put back from a copy of its disk gives out is not taken for what it gave out before; where its clock or a peer tells that this does not hold, the log gets another id.
//
// A host whose state was lost or restored learns so from peers that have more of its chain than it has, or another one: it begins a new incarnation, and tells
// in it what it wrote after the copy, for nobody took that. A new database begins with an incarnation that is a time, so that it does not go on with a chain of a lost one.
// When another share comes into use, a new incarnation begins as well, since a chain is of one share.
//
// # Scopes
//
// A peer that may read a part of the tree only has a log of its own ([Replica.ScopeSince], scope.go), of single records: what it is sent, and the numbers of it, do not change with what
// happens outside of that part.
//
// # Waiting
//
// Nothing here waits for the network. [Replica.Wanted] lists versions whose content is to be in the tree and is not here yet; whoever fetches it has [Replica.Apply] go on, which
// leaves aside what is not here. So one file that cannot be had keeps no other back. A file appears with its content, and one that nobody has open changes from the old to the new
// content at once: both are readied beside it, many at a time, and synced together. That takes as long as the disk does, so it is done without the lock: records are taken, read and
// written meanwhile, and what is ready then is used as far as it still fits.
//
// # Database
//
// Integers are big endian. Rows by space:
//
//	1 global  "log" → id of the log (16); "self" → share (16), incarnation, number (8 each), hash of the last batch (32); "walk" → inode, cookie (8 each): the tree was
//	          looked at up to there; "walked" → nothing: all of it was
//	2 record  id → what it counts (1, see Standing), the record
//	3 log     number of arrival (8) → key of a batch (48), or id of a single record (32)
//	4 batch   author (32), incarnation, number (8 each) → the batch
//	5 name    directory (inode, 8), cookie (8) → file (16), link (8), name
//	6 inode   inode (8) → file (16), type (1), id of the last record of its attributes (32), of its version (32), number of the tree's version that this is (8)
//	7 loose   file (16), link (8) → nothing
//	8 cursor  peer (32) → id of its log (16), the last number of arrival of it that is here (8)
//	9 fork    author (32), incarnation (8) → a batch that the author signed beside one that was taken
//	10 passed author (32), incarnation (8) → the last batch of which was counted, how many records (8 each), who brought it (32); or author (32), id (32) of a single
//	          record → who brought it (32)
//	11 bulk   author (32), file (16), link (8) of a name that he removed or renamed lately → when (8, nanoseconds), and if that counted 1, or if something that counted was renamed
//	          over it 2, then the directory (16) and name that it had;
//	          author (32) → since when something of him is held (8)
//	12 scope  peer (32) → id of the log of what it may read (16), the last number that was given (8);
//	          peer (32), number (8) → id of a record (32), of a removal the path that it took away
//	13 promise version (32) → 2, then all peers (32 each) to whom; of an older build: 1, then some of them, or none
//	14 making file (16) that is about to be made here → link (8) of its name, the inode (8) that it is made as, 1; of an older build: link (8), the highest inode before (8)
//	15 unsigned record (32) whose signature is not its author's → nothing
//	16 away   peer (32), file (16), link (8) of a name that it was told and may not read where it is now → the path of that when it went, or when it was removed
//
// # What is not here
//
// All records and the account are in memory while the replica is open; how many an author may have is bounded (bound.go). Times of directories and symlinks, and attributes of the root, do not travel.
// A name that stands for something else than a file, directory or symlink stays where it is, and what has the same name waits.
package replica
