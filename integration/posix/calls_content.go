package posix

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

func (m *Machine) openFile(a []string) (int, error) {
	how, err := flags(a[1], openFlags)
	if err != nil {
		return -1, err
	}
	var mode uint32
	if len(a) > 2 {
		if mode, err = octal(a[2]); err != nil {
			return -1, err
		}
	}
	return open(dash(a[0]), how, mode)
}

func (m *Machine) open(a []string) (values, error) {
	fd, err := m.openFile(a)
	if err != nil {
		return nil, err
	}
	return nil, unix.Close(fd)
}

func (m *Machine) hold(a []string) (values, error) {
	fd, err := m.openFile(a[1:])
	if err != nil {
		return nil, err
	}
	if old, ok := m.fds[a[0]]; ok {
		unix.Close(old)
	}
	m.fds[a[0]] = fd
	return nil, nil
}

func (m *Machine) close(a []string) (values, error) {
	fd, err := m.held(a[0])
	if err != nil {
		return nil, err
	}
	delete(m.fds, a[0])
	return nil, unix.Close(fd)
}

func (m *Machine) fsync(a []string) (values, error) {
	fd, err := m.held(a[0])
	if err != nil {
		return nil, err
	}
	return nil, unix.Fsync(fd)
}

func put(name, text string, how int) error {
	fd, err := open(name, unix.O_WRONLY|how, 0)
	if err != nil {
		return err
	}
	_, err = unix.Write(fd, []byte(dash(text)))
	if err2 := unix.Close(fd); err == nil {
		err = err2
	}
	return err
}

func read(m *Machine, a []string) (values, error) {
	var text []byte
	err := m.withFD(a[0], unix.O_RDONLY, func(fd int) error {
		buf := make([]byte, 4096)
		for {
			n, err := unix.Pread(fd, buf, int64(len(text)))
			if n <= 0 {
				return err
			}
			text = append(text, buf[:n]...)
		}
	})
	return one(visible(text)), err
}

// visible writes zero bytes as dots, so that holes can be told in a script.
func visible(b []byte) string { return strings.ReplaceAll(string(b), "\x00", ".") }

func (m *Machine) pwrite(a []string) (values, error) {
	fd, err := m.held(a[0])
	if err != nil {
		return nil, err
	}
	off, err := number(a[1], 10)
	if err != nil {
		return nil, err
	}
	_, err = unix.Pwrite(fd, []byte(a[2]), off)
	return nil, err
}

func (m *Machine) pread(a []string) (values, error) {
	fd, err := m.held(a[0])
	if err != nil {
		return nil, err
	}
	n, err := numbers(a[1:]...)
	if err != nil {
		return nil, err
	}
	buf := make([]byte, n[1])
	got, err := unix.Pread(fd, buf, n[0])
	return one(visible(buf[:max(got, 0)])), err
}

func truncate(m *Machine, a []string) (values, error) {
	n, err := number(a[1], 10)
	if err != nil {
		return nil, err
	}
	return nil, unix.Truncate(dash(a[0]), n)
}

func (m *Machine) ftruncate(a []string) (values, error) {
	n, err := number(a[1], 10)
	if err != nil {
		return nil, err
	}
	return nil, m.withFD(a[0], unix.O_WRONLY, func(fd int) error { return unix.Ftruncate(fd, n) })
}

func (m *Machine) fallocate(a []string) (values, error) {
	mode, err := flags(a[1], map[string]int{
		"ALLOC": 0, "KEEP": unix.FALLOC_FL_KEEP_SIZE, "PUNCH": unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE,
		"ZERO": unix.FALLOC_FL_ZERO_RANGE, "COLLAPSE": unix.FALLOC_FL_COLLAPSE_RANGE, "INSERT": unix.FALLOC_FL_INSERT_RANGE,
	})
	if err != nil {
		return nil, err
	}
	n, err := numbers(a[2:]...)
	if err != nil {
		return nil, err
	}
	return nil, m.withFD(a[0], unix.O_RDWR, func(fd int) error { return unix.Fallocate(fd, uint32(mode), n[0], n[1]) })
}

func (m *Machine) seek(a []string) (values, error) {
	fd, err := m.held(a[0])
	if err != nil {
		return nil, err
	}
	off, err := number(a[1], 10)
	if err != nil {
		return nil, err
	}
	whence, err := flags(a[2], map[string]int{"SET": unix.SEEK_SET, "CUR": unix.SEEK_CUR, "END": unix.SEEK_END, "DATA": unix.SEEK_DATA, "HOLE": unix.SEEK_HOLE})
	if err != nil {
		return nil, err
	}
	at, err := unix.Seek(fd, off, whence)
	return one(fmt.Sprint(at)), err
}
