package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"sharefs/internal/daemon"
	"sharefs/internal/term"
)

// daemonVariable in the environment makes the program the daemon that background starts: the descriptor that it names takes one
// message, in JSON, when the mount can be used or has failed.
const daemonVariable = "SHAREFS_DAEMON_FD"

// reportFD is where the child finds the pipe: the first of exec.Cmd.ExtraFiles.
const reportFD = 3

// report is that message.
type report struct {
	Error    string   `json:"error,omitempty"`
	Exit     int      `json:"exit"`
	Warnings []string `json:"warnings,omitempty"`
}

func isDaemon() bool { return os.Getenv(daemonVariable) != "" }

// background starts this program once more, in a session of its own, and waits until it says that the mount can be used.
func background(c *call) int {
	r, w, err := os.Pipe()
	if err != nil {
		complain(err)
		return exitSystem
	}
	child := exec.Command("/proc/self/exe", os.Args[1:]...)
	child.Args[0] = os.Args[0]
	child.Env = append(os.Environ(), fmt.Sprintf("%s=%d", daemonVariable, reportFD))
	child.ExtraFiles = []*os.File{w}
	child.Stderr = os.Stderr // until the daemon has opened its log
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	if err := child.Start(); err != nil {
		complain(fmt.Errorf("start the daemon: %w", err))
		return exitSystem
	}
	w.Close()
	go func() {
		for s := range signals { // whoever gives up waiting does not want the mount
			_ = child.Process.Signal(s)
		}
	}()
	line, err := bufio.NewReader(r).ReadString('\n')
	var got report
	if err != nil || json.Unmarshal([]byte(line), &got) != nil {
		complain(deathOf(child.Wait(), err))
		return exitFailed
	}
	for _, text := range got.Warnings {
		warn(text)
	}
	if got.Error != "" {
		complain(errors.New(got.Error))
		_ = child.Wait() // so that its lock and its mount are gone when the next attempt comes
	}
	return got.Exit
}

// deathOf says how a daemon ended that reported nothing.
func deathOf(wait, read error) error {
	var exit *exec.ExitError
	if errors.As(wait, &exit) {
		if s, ok := exit.Sys().(syscall.WaitStatus); ok && s.Signaled() {
			return fmt.Errorf("the daemon was ended by a signal (%v) before the mount could be used", s.Signal())
		}
		return fmt.Errorf("the daemon ended (%v) before the mount could be used; its log, daemon.log in the store, may say why", exit)
	}
	if errors.Is(read, io.EOF) || read == nil {
		return errors.New("the daemon ended before the mount could be used")
	}
	return read
}

// daemonMain is the life of the daemon.
func daemonMain(c *call) int {
	pipe := os.NewFile(reportFD, "report")
	syscall.CloseOnExec(reportFD)
	os.Unsetenv(daemonVariable)
	send := func(m report) {
		if text, err := json.Marshal(m); err == nil {
			_, _ = pipe.Write(append(text, '\n'))
		}
		pipe.Close()
	}
	// The kernel names a process for the file that was executed, here "exe". It is but what ps shows.
	_ = os.WriteFile("/proc/self/comm", []byte("sharefs-mount"), 0)
	if err := os.Chdir("/"); err != nil { // so that no disk is kept from being unmounted
		send(report{Error: err.Error(), Exit: exitSystem})
		return exitSystem
	}
	reported := false
	err := serve(c, func(d *daemon.Daemon) {
		reported = true
		closeTerminal()
		send(report{Exit: exitMounted, Warnings: d.Warnings})
	})
	if !reported {
		send(report{Error: term.Clean(strings.TrimSpace(err.Error())), Exit: exitStatus(err)})
	}
	return exitStatus(err)
}

// closeTerminal lets go of a standard error stream that is not the log: a store on a read-only disk has none.
func closeTerminal() {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer null.Close()
	_ = syscall.Dup3(int(null.Fd()), 0, 0)
	if info, err := os.Stderr.Stat(); err == nil && !info.Mode().IsRegular() {
		_ = syscall.Dup3(int(null.Fd()), 1, 0)
		_ = syscall.Dup3(int(null.Fd()), 2, 0)
	}
}
