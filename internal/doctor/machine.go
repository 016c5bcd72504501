package doctor

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"sharefs/internal/term"
)

// Kernel releases from which something works: passthrough was merged in 6.9 (fs/fuse/passthrough.c); 5.15 is the oldest on which
// the served path was designed to run.
const (
	passthroughMajor, passthroughMinor = 6, 9
	oldestMajor, oldestMinor           = 5, 15
)

func kernel() Finding {
	const what = "kernel"
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return wrong(what, "", "uname: %v", err)
	}
	release := unix.ByteSliceToString(u.Release[:])
	major, minor, ok := parseKernel(release)
	atLeast := func(wantMajor, wantMinor int) bool {
		return major > wantMajor || major == wantMajor && minor >= wantMinor
	}
	switch {
	case !ok:
		return notice(what, "", "Linux %s, a release that cannot be read", release)
	case atLeast(passthroughMajor, passthroughMinor):
		return good(what, "Linux %s, which has FUSE passthrough", release)
	case atLeast(oldestMajor, oldestMinor):
		return notice(what, "Linux 6.9 or later lets content bypass the daemon.", "Linux %s has no FUSE passthrough: content goes through the daemon", release)
	}
	return wrong(what, "Use Linux 5.15 or later, best 6.9 or later.", "Linux %s is older than what ShareFS was made for", release)
}

func device() Finding {
	const what = "/dev/fuse"
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	switch {
	case err == nil:
		unix.Close(fd)
		return good(what, "it can be opened")
	case errors.Is(err, unix.ENOENT):
		return wrong(what, "Run modprobe fuse as root; in a container, start it with --device /dev/fuse.", "it is missing")
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return wrong(what, "Run chmod 666 /dev/fuse as root, which is its usual mode; in a container, allow the device.", "you may not open it")
	}
	return wrong(what, "Run modprobe fuse as root.", "%v", err)
}

// isRoot reports whether mount(2) is ours to call.
func isRoot() bool { return os.Geteuid() == 0 }

func helper() Finding {
	const what = "fusermount3"
	path, err := exec.LookPath("fusermount3")
	if err != nil {
		if isRoot() {
			return notice(what, "Run apt install fuse3.", "it is missing: ordinary users cannot mount")
		}
		return wrong(what, "Run apt install fuse3 as root.", "it is missing: only root can mount without it")
	}
	info, err := os.Stat(path)
	if err == nil && info.Mode()&os.ModeSetuid == 0 {
		grade := wrong
		if isRoot() {
			grade = notice
		}
		return grade(what, "Run chmod u+s "+path+" as root.", "%s is not setuid: ordinary users cannot mount", path)
	}
	return good(what, "%s", path)
}

func privileges() Finding {
	const what = "privileges"
	if isRoot() && hasSysAdmin() {
		return good(what, "root: mounts get passthrough where the kernel has it")
	}
	if isRoot() {
		return notice(what, "Give the container CAP_SYS_ADMIN (--cap-add SYS_ADMIN).", "root without CAP_SYS_ADMIN: mounting may fail, content goes through the daemon")
	}
	return notice(what, "Mount as root (sudo sharefs-mount …) for passthrough.", "an ordinary user: content goes through the daemon, with the same semantics")
}

func hasSysAdmin() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	return unix.Capget(&header, &data[0]) == nil && data[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0
}

func others() Finding {
	const what = "allow_other"
	if isRoot() {
		return good(what, "root may always mount with it")
	}
	conf, err := os.ReadFile("/etc/fuse.conf")
	if err == nil && allowsOther(string(conf)) {
		return good(what, "user_allow_other stands in /etc/fuse.conf")
	}
	return good(what, "off: only you can enter your mounts (user_allow_other in /etc/fuse.conf would allow the option)")
}

// wantFiles is how many open files a busy mount may need at once; the daemon raises its soft limit to the hard one.
const wantFiles = 65536

func openFiles() Finding {
	const what = "open files"
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return notice(what, "", "the limit cannot be read: %v", err)
	}
	if limit.Max < wantFiles {
		return notice(what, "Set a hard limit of 65536 or more (LimitNOFILE= of the unit, or limits.conf(5)).",
			"at most %s for each process: programs that open very many files at once may be refused", term.Count(limit.Max))
	}
	return good(what, "at most %s for each process", term.Count(limit.Max))
}

func watches() Finding {
	const what = "inotify"
	instances, err1 := readNumber("/proc/sys/fs/inotify/max_user_instances")
	watches, err2 := readNumber("/proc/sys/fs/inotify/max_user_watches")
	switch {
	case err1 != nil || err2 != nil:
		return notice(what, "", "its limits cannot be read")
	case instances < 16 || watches < 8192:
		return notice(what, "Run sysctl fs.inotify.max_user_instances=128 fs.inotify.max_user_watches=65536 as root.",
			"%s instances, %s watches: files that stay mapped are then looked at less often", term.Count(instances), term.Count(watches))
	}
	return good(what, "%s instances, %s watches", term.Count(instances), term.Count(watches))
}

func readNumber(path string) (uint64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
}
