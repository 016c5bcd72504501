// Package logfile keeps the daemon's log: text lines of log/slog in a file that does not grow without end, with the standard error
// stream in the same file, so that what the Go runtime says last (a panic, a data race) is there too.
package logfile

import (
	"log/slog"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"sharefs"
)

// DefaultLimit is how many bytes the file may have; its predecessor, FILE.1, may have as many.
const DefaultLimit = 4 << 20

// File is an io.Writer for one log.
type File struct {
	path     string
	limit    int64
	redirect bool // standard output and error go here too

	mu   sync.Mutex // guards what follows
	f    *os.File
	size int64
}

// Open opens the log for appending. With redirect, file descriptors 1 and 2 of the process become the log.
func Open(path string, limit int64, redirect bool) (*File, error) {
	l := &File{path: path, limit: limit, redirect: redirect}
	if err := l.open(); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *File) open() error {
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
	if err == nil {
		var info os.FileInfo
		if info, err = f.Stat(); err == nil {
			l.size = info.Size()
		}
	}
	if err == nil && l.redirect {
		for fd := 1; fd <= 2 && err == nil; fd++ {
			err = unix.Dup3(int(f.Fd()), fd, 0)
		}
	}
	if err != nil {
		if f != nil {
			f.Close()
		}
		return &sharefs.Error{Op: "open log", Path: l.path, Kind: sharefs.KindOf(err), Err: err}
	}
	if l.f != nil {
		l.f.Close()
	}
	l.f = f
	return nil
}

// Write appends one record. When the file is full it becomes FILE.1, the one before is dropped, and a new one is begun. A log that
// cannot be written is no reason to stop the daemon, so the error is only reported.
func (l *File) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size > 0 && l.size+int64(len(p)) > l.limit {
		if os.Rename(l.path, l.path+".1") == nil {
			_ = l.open() // on failure the old file goes on being written
		}
	}
	n, err := l.f.Write(p)
	l.size += int64(n)
	return n, err
}

// Close closes the log; descriptors 1 and 2 stay on it.
func (l *File) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.f.Close()
}

// Logger writes records of level and above to l.
func (l *File) Logger(level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: level}))
}
