package dbhold

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// variable in the environment makes this program one that holds a database; see [Serve]. It holds the root's device and the length of its path, each
// followed by a blank, that path and the one below it.
const variable = "SHAREFS_HOLD_DATABASE"

// Child is a process that holds a database in the place of this one, which must not touch the mount that it serves.
type Child struct {
	Ino, Log uint64 // as in Database

	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *bufio.Reader
	limit *time.Timer // kills it
}

// startPatience is how long a child is waited for in all until it holds the database, or says that it cannot.
const startPatience = Patience + 8*time.Second

// Start has a child hold a database, for Limit at the most. The running program must call [Serve] first thing in main.
func Start(p Place) (*Child, error) {
	c := &Child{cmd: exec.Command("/proc/self/exe")}
	c.cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %d %s%s", variable, p.Dev, len(p.Root), p.Root, p.Rel))
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("hold a database: %w", err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("hold a database: %w", err)
	}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("hold a database: %w", err)
	}
	c.out = bufio.NewReader(out)
	line, err := c.line(startPatience)
	if err == nil {
		if _, err = fmt.Sscanf(line, "held %d %d", &c.Ino, &c.Log); err == nil {
			// It ends by itself at Limit, unless somebody has stopped it.
			c.limit = time.AfterFunc(Limit+time.Second, func() { _ = c.cmd.Process.Kill() })
			return c, nil
		}
		err = fmt.Errorf("%s", strings.TrimSpace(line))
	}
	c.end()
	return nil, fmt.Errorf("hold a database: %w", err)
}

// Release lets the database go, and reports whether it was held until now. The child has no file open any more then.
func (c *Child) Release() bool {
	_, err := c.in.Write([]byte{'.'})
	line := ""
	if err == nil {
		line, err = c.line(Limit + startPatience)
	}
	c.end()
	return err == nil && line == "still\n"
}

// line reads what the child says next, and kills it if it takes too long.
func (c *Child) line(patience time.Duration) (string, error) {
	type answer struct {
		line string
		err  error
	}
	got := make(chan answer, 1)
	go func() {
		line, err := c.out.ReadString('\n')
		got <- answer{line, err}
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case a := <-got:
		return a.line, a.err
	case <-timer.C:
		_ = c.cmd.Process.Kill()
		return "", os.ErrDeadlineExceeded
	}
}

// end ends the child. One that hangs in the kernel is not waited for to the end: it ends when the kernel lets it go.
func (c *Child) end() {
	_ = c.in.Close()
	_ = c.cmd.Process.Kill()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = c.cmd.Wait()
		if c.limit != nil {
			c.limit.Stop()
		}
	}()
	timer := time.NewTimer(Patience)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
	}
}

// Serve makes the process one that holds a database, and does not return, when [Start] started it for that.
func Serve() {
	text, ok := os.LookupEnv(variable)
	if !ok {
		return
	}
	serve(text)
	os.Exit(0)
}

func serve(text string) {
	p := Place{}
	size := 0
	fields := strings.SplitN(text, " ", 3)
	if len(fields) == 3 {
		_, err := fmt.Sscan(fields[0], &p.Dev)
		_, err2 := fmt.Sscan(fields[1], &size)
		if err != nil || err2 != nil || size < 0 || size > len(fields[2]) {
			fields = nil
		}
	}
	if len(fields) != 3 {
		fmt.Println("no paths")
		return
	}
	p.Root, p.Rel = fields[2][:size], fields[2][size:]
	// Whatever happens: the end of the process ends the locks.
	time.AfterFunc(startPatience+Limit, func() { os.Exit(1) })
	d, err := Take(p, Patience)
	if err != nil {
		fmt.Println(strings.ReplaceAll(err.Error(), "\n", " "))
		return
	}
	time.AfterFunc(Limit, func() { os.Exit(1) })
	fmt.Printf("held %d %d\n", d.Ino, d.Log)
	n, err := os.Stdin.Read(make([]byte, 1))
	still := n == 1 && err == nil && d.Still()
	d.Close() // whoever is told can unmount at once
	if still {
		fmt.Println("still")
	}
}
