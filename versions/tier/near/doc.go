// Package near lets the packs of a store take more room than its disk has: packs that a bucket holds may leave the disk, and what is read of them is fetched
// again and kept as far as there is room.
//
// [FS] is the [pack.FS] of the directory of packs. A pack is *local*, its file lies there as ever, or *remote*: then there is a note of it in another directory,
// in the same place, HH/ID, and its file is gone. What is fetched of a remote pack is kept behind its note. All integers are big endian, all checksums
// CRC-32C.
//
//	note                                     behind it
//	  0  magic "sharefsN"    8                4096  tail: the last bytes of the pack, to a multiple of 4096 bytes
//	  8  format, 1           2                      a checksum for each block of the pack that is here, 4 bytes, never 0;
//	 10  length of the tag   2                      0: it is not here. To a multiple of 4096 bytes
//	 12  length of the URL   2                      the blocks, each in its place
//	 14  reserved, 0         2
//	 16  id of the pack     16
//	 32  length of the pack  8
//	 40  where the tail      8
//	     begins in the pack
//	 48  CRC of the tail     4
//	 52  reserved, 0         8
//	 60  CRC of 0–59 and     4
//	     64–4095
//	 64  the pack's header  64
//	128  tag, URL of the bucket, zeros
//
// The tail is the pack's index and footer, so that garbage collection, checks and rebuilds see what is in a pack without the bucket. It and the header stay
// when the blocks are given up.
//
// # What a crash leaves
//
// A pack leaves the disk in this order: the note is written under another name, synced, renamed, its directory synced; then the file is removed. It does so only if the
// bucket has it whole and the bucket's root names it ([FS.Named]), and its end is read there at that moment, so before the pack was uploaded there is no note of it, and after its file is gone there is one. A start
// that finds both takes the file, which is whole: files of packs are never cut. Blocks are written without any order and never synced. A block counts if it has the
// checksum that is written for it, looked at once for each time that the pack is opened; whatever a crash or a disk has made of it, it is fetched again then. What was fetched needs no
// trust: package pack checks and unseals each record, and has it fetched once more where it does not read ([pack.Remote]).
//
// # Reading
//
// Blocks have 64 KiB. Of several readers of a missing block one fetches it and the others wait. A reader that goes through a pack in order has up to 4 MiB fetched at
// a time, the next of them while it reads the last; what it fetches ahead grows only as long as that takes less than a second.
//
// # When the bucket does not answer
//
// A read waits for it at most [Config].Patience. Then all reads of what is not here fail at once, with kind unreachable, and something asks for one byte now and then, until there
// is an answer. What the bucket does not have, or has too short, is corruption.
//
// # Room
//
// The budget counts the files of local packs and of what is kept of remote ones. What was not read for the longest time goes first: the blocks of remote packs,
// and local packs that the bucket has. What goes is what is over the budget and a twentieth of it more. Of packs that were not read since the start, the times of their
// files tell when they were.
package near
