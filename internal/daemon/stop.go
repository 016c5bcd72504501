package daemon

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"sharefs/internal/mountinfo"
	"sharefs/internal/mountpoint"
)

// Stop unmounts, which makes Wait return. Where the mount is in use (programs have files open, it is bound to a second place, or
// another mount namespace has a copy of it) it goes out of sight at once, and they get a little time to let go of it; a second call
// cuts that short.
func (d *Daemon) Stop() {
	if d.stops.Add(1) > 1 {
		d.stopOnce.Do(func() { close(d.stopNow) })
		return
	}
	d.detach()
	timer := time.NewTimer(programsPatience)
	defer timer.Stop()
	select {
	case <-d.edge.Done():
		return
	case <-timer.C:
	case <-d.stopNow:
	}
	d.log.Warn("the mount is still in use; programs lose what they have open in it")
	if m := d.mount.Load(); m != nil {
		// A notification that waits for a page keeps the device open, and would keep the connection from ending with it.
		_ = mountpoint.Abort(m.Minor)
	}
	if err := d.edge.Abort(); err != nil && !errors.Is(err, unix.ENODEV) { // which says that it has ended by now
		d.log.Warn("abort", "error", err)
	}
}

// detach takes the mount away from its place, unless something else is mounted over it: that is somebody else's.
func (d *Daemon) detach() {
	mount := d.mount.Load()
	if table, err := mountinfo.Read(); err == nil && mount != nil {
		m := mountinfo.At(table, d.point)
		if m == nil {
			return // it is gone already, or going
		}
		if m.Major != mount.Major || m.Minor != mount.Minor {
			d.log.Warn("something else is mounted over it, and a dead mount will be left below", "type", m.Type, "source", m.Source)
			return
		}
	}
	err := d.edge.Unmount()
	if err == nil {
		return
	}
	d.log.Warn("unmount", "error", err)
	if err := mountpoint.Detach(d.point, os.Geteuid() == 0); err != nil {
		d.log.Warn("detach", "error", err)
	}
}
