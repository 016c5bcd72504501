package daemon

import (
	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/internal/dbhold"
	"sharefs/versions"
)

// heldDatabase is an SQLite database that a child process holds.
type heldDatabase struct{ *dbhold.Child }

func (h heldDatabase) Files() (file, log sharefs.Ino) { return sharefs.Ino(h.Ino), sharefs.Ino(h.Log) }

// hold has a child process hold the SQLite database at a path in the mount.
func (d *Daemon) hold(path string) (versions.Hold, error) {
	m := d.mount.Load()
	if m == nil {
		return nil, &sharefs.Error{Op: "hold a database", Path: path, Kind: sharefs.KindNoDevice, Detail: "the mount is not in the table of mounts"}
	}
	child, err := dbhold.Start(dbhold.Place{Root: d.point, Dev: unix.Mkdev(m.Major, m.Minor), Rel: path})
	if err != nil {
		return nil, err
	}
	return heldDatabase{child}, nil
}
