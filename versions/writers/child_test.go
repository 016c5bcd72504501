package writers

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A child is a process of its own that opens, writes and maps files as it is told, so that what is tracked is the kernel's truth about
// other processes and not this one's idea of it. It connects to the test's socket and answers each command with one line.

const childEnv = "SHAREFS_WRITERS_CHILD"

func TestMain(m *testing.M) {
	if addr := os.Getenv(childEnv); addr != "" {
		os.Exit(childMain(addr))
	}
	os.Exit(m.Run())
}

// childMain runs commands until the connection ends:
//
//	open PATH rw|wo   → descriptor        map FD    → number of the mapping
//	write FD          → ok                store MAP → ok
//	dup FD            → descriptor        unmap MAP → ok
//	close FD          → ok                die       (by SIGKILL)
//	spawn FD          → ok; a child of this child connects, having inherited FD as its descriptor 3
func childMain(addr string) int {
	c, err := net.Dial("unix", addr)
	if err != nil {
		return 1
	}
	fmt.Fprintf(c, "%d\n", os.Getpid())
	maps := map[int][]byte{}
	lines := bufio.NewScanner(c)
	for n := 1; lines.Scan(); n++ {
		w := strings.Fields(lines.Text())
		arg := 0
		if w[0] != "open" && len(w) > 1 {
			arg, _ = strconv.Atoi(w[1])
		}
		answer, err := "ok", error(nil)
		switch w[0] {
		case "open":
			flags := unix.O_WRONLY
			if w[2] == "rw" {
				flags = unix.O_RDWR
			}
			var fd int
			fd, err = unix.Open(w[1], flags|unix.O_CLOEXEC, 0)
			answer = strconv.Itoa(fd)
		case "write":
			_, err = unix.Pwrite(arg, []byte(strconv.Itoa(n)), int64(n))
		case "dup":
			var fd int
			fd, err = unix.FcntlInt(uintptr(arg), unix.F_DUPFD_CLOEXEC, 0)
			answer = strconv.Itoa(fd)
		case "close":
			err = unix.Close(arg)
		case "map":
			maps[n], err = unix.Mmap(arg, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			answer = strconv.Itoa(n)
		case "store":
			maps[arg][n%4096]++
		case "unmap":
			err = unix.Munmap(maps[arg])
			delete(maps, arg)
		case "spawn":
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = append(os.Environ(), childEnv+"="+addr)
			var fd int
			if fd, err = unix.FcntlInt(uintptr(arg), unix.F_DUPFD_CLOEXEC, 0); err == nil {
				f := os.NewFile(uintptr(fd), "")
				cmd.ExtraFiles = []*os.File{f}
				if err = cmd.Start(); err == nil {
					go cmd.Wait()
				}
				f.Close()
			}
		case "die":
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		if err != nil {
			answer = "error " + err.Error()
		}
		fmt.Fprintln(c, answer)
	}
	return 0
}

// child is the test's end of one.
type child struct {
	pid  int
	conn net.Conn
	in   *bufio.Reader
}

// nursery starts children and lets them connect.
type nursery struct {
	t    *testing.T
	l    net.Listener
	addr string
}

// hang bounds what should take milliseconds; it only ends a test that would hang.
const hang = 2 * time.Minute

func newNursery(t *testing.T) *nursery {
	// The name of a socket is limited to 107 bytes: not below t.TempDir.
	dir, err := os.MkdirTemp("", "w")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("unix", dir+"/s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return &nursery{t: t, l: l, addr: dir + "/s"}
}

// start runs a new child.
func (n *nursery) start() *child {
	n.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		n.t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childEnv+"="+n.addr)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	c := n.accept()
	n.t.Cleanup(func() { c.conn.Close(); <-ended })
	return c
}

// accept waits for a child that was started, by whomever.
func (n *nursery) accept() *child {
	n.t.Helper()
	n.l.(*net.UnixListener).SetDeadline(time.Now().Add(hang))
	conn, err := n.l.Accept()
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { conn.Close() })
	c := &child{conn: conn, in: bufio.NewReader(conn)}
	conn.SetDeadline(time.Now().Add(hang))
	line, err := c.in.ReadString('\n')
	if err != nil {
		n.t.Fatal(err)
	}
	c.pid, _ = strconv.Atoi(strings.TrimSpace(line))
	return c
}

// do has the child execute a command and returns the number that it answers.
func (n *nursery) do(c *child, format string, args ...any) int {
	n.t.Helper()
	c.conn.SetDeadline(time.Now().Add(hang))
	cmd := fmt.Sprintf(format, args...)
	fmt.Fprintln(c.conn, cmd)
	line, err := c.in.ReadString('\n')
	if cmd == "die" && (err == io.EOF || err != nil && strings.Contains(err.Error(), "reset")) {
		return 0
	}
	if err != nil || strings.HasPrefix(line, "error") {
		n.t.Fatalf("child %d: %s: %s%v", c.pid, cmd, line, err)
	}
	v, _ := strconv.Atoi(strings.TrimSpace(line))
	return v
}
