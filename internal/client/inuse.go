package client

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/internal/mountinfo"
	"sharefs/internal/term"
)

// companions are what SQLite adds to the name of a database for its log, the index of that, and its rollback journal.
var companions = []string{"-wal", "-shm", "-journal"}

// unused reports an error of KindBusy where a file is an SQLite database, or by its name or content one's log, index or journal, that somebody has open for
// writing. path may be a link of /proc/self/fd.
func unused(path string) error {
	if isInUse(path) {
		return &sharefs.Error{Kind: sharefs.KindBusy, Detail: inUse(path)}
	}
	name := path
	if strings.HasPrefix(path, "/proc/self/fd/") {
		var err error
		if name, err = os.Readlink(path); err != nil {
			return err
		}
	}
	for _, c := range companions {
		if db, ok := strings.CutSuffix(name, c); ok && isInUse(db) {
			return &sharefs.Error{Kind: sharefs.KindBusy, Detail: inUse(db)}
		}
	}
	return nil
}

func isInUse(path string) bool {
	var b [8]byte
	n, err := unix.Getxattr(path, "user.sharefs.inuse", b[:])
	return err == nil && n == 1
}

// inUse says who has a database open, as far as /proc shows that to the user.
func inUse(path string) string {
	who := "another program"
	var st unix.Statx_t
	if unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_INO|unix.STATX_MNT_ID, &st) == nil && st.Mask&unix.STATX_MNT_ID != 0 {
		for _, w := range mountinfo.Writers(int(st.Mnt_id), st.Ino) {
			if w.PID != os.Getpid() {
				who = fmt.Sprintf("process %d (%s)", w.PID, term.Clean(w.Command))
				break
			}
		}
	}
	return "the database is open for writing by " + who + ": end that first"
}
