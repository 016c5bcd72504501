// Package device carries the FUSE protocol between the kernel and a [fuse.RawFileSystem]: it mounts, agrees on the
// protocol, reads requests from /dev/fuse, hands each to the filesystem and writes the reply. It knows nothing of
// ShareFS.
//
// go-fuse's own Server does the same. This one exists for its reader loop, which halves the cost of a request, and
// because a mount must be reported as ready without the daemon ever touching it (go-fuse opens a file of its own in
// the mount, under a name that then hides a user's).
//
// # What a request costs, and the polling reader
//
// A program's system call queues a request and sleeps; a reader of /dev/fuse wakes, handles it, writes the reply, and
// the program wakes again. Both wake-ups go from one CPU to another, where the sleeper's CPU has usually gone idle:
// on a virtual machine 3 to 10 µs each, several times what the filesystem itself needs. So a reader that has just
// served a request does not go to sleep at once: it polls for the next one, at most 50 µs, and gives its CPU to
// anyone who wants it between two looks (sched_yield(2)). That saves one wake-up of two: measured with stat(2) on a
// file without cached attributes, 4.7 µs against 9 to 17 µs with go-fuse's Server.
//
// The polling pays for itself or stops: it is begun only when a request came within 50 µs after a reader went to
// sleep, halved at each vain attempt, and given up for some milliseconds where the yielded CPU did not come back
// soon, for then others need it more.
//
// # Readers
//
// At any time at most one worker polls. It handles what it has read by itself, with nobody reading meanwhile: on few
// CPUs a second reader would only take time from the program that waits. Others join in three cases:
//
//  1. before a request that is known to be slow (fsync, copies, allocation: the table in dispatch.go says which);
//  2. when requests pile up: a worker that found the next request waiting several times in a row wakes another;
//  3. when the watchdog finds that nobody has read for a millisecond, because a request that is fast as a rule is stuck.
//
// Case 3 is also what makes the loop free of deadlock. A handler may wait for something that itself needs a request
// served: a notification waits for the lock of a directory whose holder waits for a reply. As long as some worker
// reads in the end, each such chain ends.
//
// # Interruption
//
// The kernel passes on signals as INTERRUPT requests. Only the opcodes of case 1 can be interrupted, as on a disk:
// their handlers get a channel that is closed then. For all others the channel is nil and the interruption has no
// effect.
package device
