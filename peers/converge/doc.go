// Package converge makes the live tree out of records: a pure function of the set of records that a host has and counts. Hosts that count the same records
// have the same tree, whatever the order in which they came and however often.
//
// [Whole] is the specification, slow and short: read it beside this page. [Tree] does the same bit by bit and says what changed, as operations that can be carried out
// one after the other. Neither asks for time, chance, order of arrival or order of a map.
//
// # What goes in
//
// Records whose signature, chain, cut and trust somebody has checked, each with a [Standing]: [Merged] ones take part; [Known] ones are versions by authors
// whose trust does not reach into the live tree, and count only as what lies between merged ones: when somebody who is trusted goes on from a version, all that
// lies before it is superseded, whoever wrote it.
//
// All records have one order: by time, author, id ([record.Order]). Times come from hybrid clocks, and what replaces something is later than it.
//
// # Types
//
// A file is for ever what its first placement in that order says. Placements of another type, versions that do not fit it and versions of
// directories are not in effect.
//
// # Where files are
//
// The names of a file are registers: one for each (file, link), written by placements. A placement is possible if its parent is the root or known to be a
// directory. A removal is always possible.
//
// Regular files and symlinks: the last possible placement that is not a removal is the name's place. If a removal comes after it, the name is removed.
//
// Directories can be moved into each other, so their placements are carried out in order, as in Kleppmann et al., "A highly-available move operation for
// replicated trees" (IEEE TPDS 33(7), 2021): one that would make a directory its own ancestor is not in effect, and the directory stays where the placements before put it. A removal is a mark that
// the next placement in effect takes away; it does not move the directory, so what comes back comes back where it was, and ancestry never has a circle.
//
// # What a removal cannot remove
//
// A removed directory in which anything is that is not removed is not removed. Whoever removes a directory removes what is in it first, so this is something that
// the remover did not know.
//
// A removed file with a version that the remover did not know is not removed. Exactly: a removal names what its author had seen, heads of the file and removals
// of its other names; it has seen all before those, too. Let all names of a file be removed. Take the removals of one name that come after its
// place, and all removals of the file that have seen one of them (or one that has seen one, and so on). If there is a head that none of these has seen, the name is
// there: it has come back. So whoever removes the last name speaks for all names that he knew to be removed, and a version that nobody saw who
// removed keeps what it was written to.
//
// # Content
//
// The versions of a file form a graph: each comes from its parents, as far as they are here and earlier. Those of which no merged one comes are the heads, if they are merged
// themselves. Ranked by causal depth (the longest way to a version that comes from none), then order, the first one is live; the others are conflicts, except those whose content is that of a higher one.
//
// A version waits for nothing: its parents may never come, since their author does not count here. Who wrote it knew what he himself had written before, so one of whose parents some are not
// here as merged comes also from all earlier merged versions of its author. And an author names, beside what he replaces, the last versions before that of other authors.
//
// # Names
//
// Where several files have one name in one directory, compared by bytes:
//
//   - Directories are one directory, in which the content of all of them is shown. The one that was placed first is its identity, so later ones join it; but one all of whose placements
//     are by authors whom it only leads to where they may write ([Leads]) is never the identity of one that somebody has placed whose trust reaches there.
//   - Otherwise one name is shown, and the others are conflicts: first those that have not come back, then by the live version as above, then by the order of their
//     placement. Two names of one file are no conflict, nor is equal content.
//   - A directory is shown before files and symlinks, which are conflicts.
//
// No conflict ever adds a name to the tree. What has no place below the root, because a directory above it is not known, is an orphan: kept, and not shown.
//
// # Cost
//
// A record of a file costs what its own names and heads cost. The first placement of a directory costs about the same, whatever its time. Any later one carries out anew all placements of
// directories that come after it in order, which are none as long as clocks agree. Directories that become one or two cost what is in the smaller one. A file whose type a late record changes costs a look at all records, and what was in it.
package converge
