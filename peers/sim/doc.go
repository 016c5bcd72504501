// Package sim simulates peers: two to eight hosts, each with a real replica (package replica) over a model of a tree, of a disk, and of the network between them. It
// consists of tests alone.
//
// # A history
//
// A history is a list of numbers. Each is a step, and all that happens in a step follows from its number and the seed of the history: what a program does to a tree, that a
// file comes to rest, that a replica authors, applies, sends or hears, that a host crashes, is restored or has another time, that somebody hostile speaks. So a seed makes the
// same history each time, and a history without some of its steps is one too: where one fails, steps are left out as long as it fails in the same way, and what
// is left is shown.
//
//   - tree: what package versions promises of a tree, in memory, slow and obvious: slots in which names collide, settled and captured versions, the marks of the feed, operations
//     that do nothing unless all is as the caller says. What was not synced is lost at a loss of power.
//   - disk: a database whose commits are lost from some moment on at a loss of power, apart from what the tree loses, and that fails now and then. A host ends at any call of tree or
//     disk, with a loss of power or without; it is put back from an image of its disk, which may have been made at any moment; its database is taken away.
//   - session: what one host sends another, in order, cut anywhere, from the cursor that the other one has. Beside it hosts hear items of each other in any order, twice, and without
//     those before them.
//   - intruder: a peer that says what cannot be (names like "..", setuid, other types of files, endless lists, the names and signatures of others, times far
//     ahead), and, where it may write, what nobody would: circles, other types for what is there, removals of what it never saw, two histories.
//
// # What holds
//
// Three times in a history, everybody stops, hosts reach each other, and all goes on until nothing moves. Then (the numbers are those of the design of peers):
//
//   - all hosts have the same records and the same tree, with the times of files (1, 4), which is that of the specification, converge.Whole (2, 9), with no circle, and without orphans where nobody is
//     hostile;
//   - a version comes from what its author saw in the file, if his host had a record of that, whoever told it and however often;
//   - nothing that no record told was taken away by one, at any step (2);
//   - it came to an end (10), and nothing changes when all of it comes again, when a host is put back from an image that was made when all had been told, or when it loses power
//     (3, 10);
//   - no name, mode or attribute that must not come from a peer came into a tree, at any step;
//   - in two worlds, in one of which somebody of low trust is silent, all trees are the same after each step (6, of trees).
//
// In other histories hosts know each other in part, and some hold what others remove in bulk: then each has the tree that the specification makes of what counts there, without orphans; and
// one tree with the others, once all know each other and have decided.
//
// And in others some hosts read or write a part of the tree: each record that they are told is of that part, as the tree of the teller is, what they are told makes the part as it is there, and
// they have all of it, also after rules were taken away and given again; the parts are the same on all hosts where nothing is moved over their borders, and the whole is on those that have it.
//
// And in others all hosts but one revoke that one, each at a moment of its own, while all of the above goes on: when each has heard of the others' cuts, they have one tree, in which no content,
// name or attributes are shown that are past the lowest cut alone, be it that somebody said them again to take something else back (1, 7), also after another start; no batch was taken after the revocation;
// nothing of others is lost (2). In every second one the one who is revoked and an intruder sign cuts: too low, too high, of themselves, of honest hosts, of nobody, and such as take others back; in some
// of those the hosts trust the intruder no more from some moment on. Histories are too sparse to have two cuts heeded one after the other: TestALowerCutComesLater in package replica/host.
//
// A host that counts nowhere from some moment on changes nothing after it (7): two worlds, in one of which nobody does anything there from then on, have the same trees on all others.
//
// # Where each property is checked
//
// By the numbers of the design of peers; what this package cannot break is checked where it can be broken.
//
//	 1 equal records, equal trees        check, at each rest of each history; package converge at random, against its slow whole
//	 2 what is acknowledged stays        told, at each step (host_test.go); replaced (check_test.go); retention: package versions
//	 3 nothing removed comes back        aftermath; TestLostRecordsBringNothingBack; TestCrashBetweenTreeAndAccount; TestReadersWhoseRulesComeAndGo; that a directory is empty tells of no removal: only what the tree has marked does (replica, slotChanged)
//	 4 equal conflict heads              check, by the records that all have; no host comes to rest that authors (quiesce); which version is live: right
//	 5 whole old or whole new content    not here, for the model adopts in one piece: TestAdoptInPlaceCutShort and TestAdoptionModel in package versions, TestKilledAtAdoption on real mounts
//	 6 noninterference                   TestLowTrustChangesNothing (trees); bytes to a peer with a part: mayTell here, TestScopeTellsNothingOfTheRest in package replica
//	 7 nothing is accepted after a cut   TestNothingCountsAfterARevocation, where all revoke at one moment; TestRevokedAtDifferentMoments, by signed cuts
//	 8 the minimum of copies             not here, for nothing is dropped in the model: TestDropsLeaveCopies and TestReleasesLeaveCopies in package replica/host, TestFreeIsOfWhatWasPromised in package versions
//	 9 no circles, no orphans            right, and walk at each step
//	10 again, in any order, and it ends  gossip at any step; aftermath; quiesce
//	11 undo restores the view            not here: TestUndoWhatAPeerDid on real mounts, integration/cmdtest, package internal/restore
//
// Not true: an image that was made before something was told tells it again as new, so what others removed since comes back; so does what others removed while a host
// was away that lost its database. Such hosts come to one tree all the same, and that is held. Of two histories that somebody tells who may write, each host counts the one that came first,
// so trees differ there.
package sim
