// Package writers knows when a file changed while the kernel tells nothing.
//
// Under FUSE passthrough the daemon sees neither write(2) nor a store through a mapping, and RELEASE comes when the last
// descriptor is closed, not when the last mapping is gone: a mapping goes on writing after it. A killed daemon leaves behind
// descriptors and mappings that work on with nobody at the other end. A [Tracker] joins what can be known into one verdict
// for each backing file:
//
//   - Handles. Whoever opens a backing file for writing says so with [Tracker.Hold] before and [Tracker.Release] after. While one
//     is held nothing need be asked: the file is being written.
//   - Lease probe. F_SETLEASE with F_RDLCK fails with EAGAIN while an open file description that may write, or a mapping
//     made through one, lives anywhere on this host (check_conflicting_open in fs/locks.c reads i_writecount). The lease is taken
//     back at once; about 2 µs. Held handles exclude the probe, so that it never stands in the way of an open which the tracker knows
//     of; one it does not know of (there is none under the rules below) waits microseconds, or gets EAGAIN with O_NONBLOCK.
//   - inotify. IN_CLOSE_WRITE comes with the last reference of a description, mappings included, but a moment before i_writecount
//     falls; so an event asks for a new probe and is never itself the answer. Events may be lost (queue overflow) or not to be had
//     (max_user_watches): probes with back-off then find the same truth later.
//   - Stamp. Size, mtime and ctime of the backing file before and after. ctime moves with every write and with the first store to
//     each clean mapped page, and no program can set it. A second store to a page that is still dirty moves nothing: a stamp that
//     was taken while somebody could write proves a change, never the absence of one.
//
// A file's way through the tracker:
//
//	        Hold               last Release              Settle over
//	(none) ──────▶ held ─────────────────▶ settling ──────────────▶ probe ──▶ nobody: [Quiet], forgotten
//	                ▲                         │ Hold                  │
//	                ├─────────────────────────┘                       ▼ somebody: [StillHeld] once
//	                └───────────── Hold ──────────────────────────lingering ──▶ probes with back-off, hurried by inotify;
//	                                                                            [Changed] when the stamp moves, [Quiet] at the end
//
// [Tracker.ReleaseBy] makes the settle time of one close shorter.
//
// [Tracker.Adopt] enters a file that a daemon before this one had open: it starts with the probe.
//
// Rules for the caller. The descriptor registered for passthrough is O_PATH or O_RDONLY: one that can write would itself count as a
// writer. Every open of a backing file for writing, the daemon's own too, lies between Hold and Release. Which files were held must
// be on disk before they are (the marks of package versions), for a tracker lives in memory.
//
// Where leases are not to be had (leases-enable=0, some network filesystems), a file whose handles could not be mapped is
// quiet at its last Release, any other one when its stamp has stood still for [BlindSteady].
package writers
