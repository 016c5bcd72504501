package past

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs/integration/mounttest"
)

func TestMain(m *testing.M) { mounttest.Main(m) }

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// command runs a program where it is installed; it returns what it wrote on standard output.
func command(t *testing.T, dir, name string, args ...string) (out string, err error) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("%s is not installed", name)
	}
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	text, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, text, stderr.String())
	}
	return string(text), err
}

func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	out, err := command(t, dir, name, args...)
	ok(t, err)
	return out
}

// moment fixes the present.
func moment(t *testing.T, m *mounttest.Mount) string {
	t.Helper()
	buf := make([]byte, 100)
	n, err := unix.Getxattr(m.Dir, "user.sharefs.moment", buf)
	ok(t, err)
	return string(buf[:n])
}

// copied is a copy that was taken at a moment.
type copied struct{ moment, dir string }

// take copies the tree as it is, and says when that was. Nobody changes anything meanwhile.
func take(t *testing.T, m *mounttest.Mount) copied {
	t.Helper()
	m.Closed()
	c := copied{moment(t, m), filepath.Join(mounttest.TempDir(t), "copy")}
	run(t, m.Dir, "cp", "-a", m.Dir+"/.", c.dir)
	return c
}

// same holds a view against the copy that was taken.
func (c copied) same(t *testing.T, view string) {
	t.Helper()
	if d := Differences(view, c.dir); len(d) > 0 {
		t.Errorf("%s and the copy of the time differ:\n%s", view, strings.Join(d, "\n"))
	}
}

// grow changes a tree a number of times, as many ways as a user without powers can.
func grow(t *testing.T, root string, rnd *rand.Rand, changes int) {
	t.Helper()
	var dirs, files []string
	ok(t, filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		} else if err == nil && d.Type()&os.ModeNamedPipe == 0 { // whoever writes to one waits for a reader
			files = append(files, path)
		}
		return err
	}))
	names := []string{"a", "with space", "größe", "日本", "-dash", "new\nline", "dot.", strings.Repeat("long", 50), "x@@1"}
	content := func() []byte { return []byte(strings.Repeat(fmt.Sprintln(rnd.Uint64()), rnd.IntN(4000))) }
	for range changes {
		dir := dirs[rnd.IntN(len(dirs))]
		fresh := filepath.Join(dir, fmt.Sprint(names[rnd.IntN(len(names))], rnd.IntN(20)))
		file := fresh
		if len(files) > 0 {
			file = files[rnd.IntN(len(files))]
		}
		var err error
		switch rnd.IntN(14) {
		case 0, 1:
			if err = os.Mkdir(fresh, 0o755); err == nil {
				dirs = append(dirs, fresh)
			}
		case 2, 3, 4:
			if err = os.WriteFile(fresh, content(), 0o644); err == nil {
				files = append(files, fresh)
			}
		case 5, 6:
			err = os.WriteFile(file, content(), 0o600)
		case 7:
			if err = os.Link(file, fresh); err == nil {
				files = append(files, fresh)
			}
		case 8:
			err = os.Symlink("../"+names[rnd.IntN(len(names))], fresh)
		case 9:
			if err = os.Rename(file, fresh); err == nil {
				files = append(files, fresh)
			}
		case 10:
			err = os.Remove(file)
		case 11:
			err = os.Chmod(file, 0o600|os.FileMode(rnd.IntN(0o100)))
		case 12:
			err = unix.Setxattr(file, "user.mark", []byte(fmt.Sprint(rnd.Uint64())), 0)
		case 13:
			at := time.Unix(int64(rnd.IntN(1_000_000_000)), int64(rnd.IntN(1_000_000_000)))
			err = os.Chtimes(file, at, at)
		}
		// What was gone or there already is as good a change.
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, os.ErrExist) && !errors.Is(err, unix.EISDIR) &&
			!errors.Is(err, unix.ENOTDIR) && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ELOOP) && !errors.Is(err, unix.ENOTEMPTY) {
			t.Fatal(err)
		}
	}
	if rnd.IntN(2) == 0 && len(dirs) > 3 {
		ok(t, os.RemoveAll(dirs[1+rnd.IntN(len(dirs)-1)]))
	}
}

func TestViewsAgainstCopies(t *testing.T) {
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		rnd := rand.New(rand.NewPCG(7, 1))
		var copies []copied
		ok(t, unix.Mkfifo(m.Path("fifo"), 0o640))
		for range 4 {
			grow(t, m.Dir, rnd, 70)
			copies = append(copies, take(t, m))
		}
		check := func() {
			t.Helper()
			for _, c := range copies {
				c.same(t, m.Path(".share/at", c.moment))
			}
		}
		check()
		copies[2].same(t, m.Path(".@@"+copies[2].moment))
		m.Settled()
		m.Remount()
		check()
		grow(t, m.Dir, rnd, 70)
		copies = append(copies, take(t, m))
		m.Kill()
		m.Mount()
		check()
		// Nothing is left of the tree but its past.
		entries, err := os.ReadDir(m.Dir)
		ok(t, err)
		for _, e := range entries {
			ok(t, os.RemoveAll(m.Path(e.Name())))
		}
		check()
	})
}

// The programs that people read trees with read those of the past.
func TestProgramsInViews(t *testing.T) {
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		ok(t, os.MkdirAll(m.Path("src/deep er"), 0o755))
		for i := range 50 {
			ok(t, os.WriteFile(m.Path(fmt.Sprintf("src/deep er/file %d.txt", i)), []byte(strings.Repeat(fmt.Sprintf("line %d\n", i), 1+i*40)), 0o644))
		}
		ok(t, os.WriteFile(m.Path("src/Makefile"), []byte("$(OUT)/all: in.txt\n\tcat in.txt > $@\nhere: in.txt\n\tcp in.txt here\n"), 0o644))
		ok(t, os.WriteFile(m.Path("src/in.txt"), []byte("then\n"), 0o644))
		ok(t, os.Link(m.Path("src/in.txt"), m.Path("src/also.txt")))
		c := take(t, m)
		ok(t, os.WriteFile(m.Path("src/in.txt"), []byte("now\n"), 0o644))
		ok(t, os.Rename(m.Path("src/deep er"), m.Path("src/moved")))
		ok(t, os.WriteFile(m.Path("src/moved/file 7.txt"), nil, 0o644))
		view := m.Path(".share/at", c.moment)
		out := mounttest.TempDir(t)
		for _, program := range []struct {
			name string
			do   func(t *testing.T)
		}{
			{"diff", func(t *testing.T) { run(t, out, "diff", "-r", view, c.dir) }},
			{"rsync", func(t *testing.T) {
				if got := run(t, out, "rsync", "-aHAXn", "--delete", "--itemize-changes", view+"/", c.dir+"/"); got != "" {
					t.Error(got)
				}
			}},
			{"tar", func(t *testing.T) {
				run(t, out, "tar", "-C", view, "--format=posix", "-cf", filepath.Join(out, "t.tar"), ".")
				ok(t, os.Mkdir(filepath.Join(out, "tar"), 0o755))
				run(t, filepath.Join(out, "tar"), "tar", "--atime-preserve", "-xpf", filepath.Join(out, "t.tar"))
				if d := Differences(filepath.Join(out, "tar"), c.dir); len(d) > 0 {
					t.Error(strings.Join(d, "\n"))
				}
			}},
			{"cp", func(t *testing.T) {
				run(t, out, "cp", "-a", view, filepath.Join(out, "cp"))
				c.same(t, filepath.Join(out, "cp"))
			}},
			{"grep", func(t *testing.T) {
				// In the order of the directory, which each filesystem has its own of.
				here, there := run(t, view, "sh", "-c", "grep -rc 'line 4' . | sort"), run(t, c.dir, "sh", "-c", "grep -rc 'line 4' . | sort")
				if here != there {
					t.Errorf("%s\n%s", here, there)
				}
			}},
			{"find", func(t *testing.T) {
				const list = `find . -type f -printf '%p %M %n %s %TY-%Tm-%Td %TT\n' | sort`
				if here, there := run(t, view, "sh", "-c", list), run(t, c.dir, "sh", "-c", list); here != there {
					t.Errorf("%s\n%s", here, there)
				}
				run(t, view, "find", ".", "-ls")
			}},
			{"du", func(t *testing.T) { run(t, view, "du", "-a", "--apparent-size") }},
			{"make", func(t *testing.T) {
				run(t, view+"/src", "make", "OUT="+out)
				if b, err := os.ReadFile(filepath.Join(out, "all")); err != nil || string(b) != "then\n" {
					t.Errorf("it made %q, %v", b, err)
				}
				if _, err := command(t, view+"/src", "make", "here"); err == nil || !strings.Contains(err.Error(), "Read-only file system") {
					t.Errorf("making a file in the past: %v", err)
				}
			}},
			{"git", func(t *testing.T) {
				run(t, view, "git", "diff", "--no-index", "--exit-code", "--", "src/deep er", c.dir+"/src/deep er")
			}},
		} {
			t.Run(program.name, func(t *testing.T) { program.do(t) })
		}
		for what, err := range map[string]error{
			"write":   os.WriteFile(view+"/src/in.txt", nil, 0o644),
			"create":  os.WriteFile(view+"/src/new", nil, 0o644),
			"mkdir":   os.Mkdir(view+"/new", 0o755),
			"remove":  os.Remove(view + "/src/in.txt"),
			"rename":  os.Rename(view+"/src", view+"/other"),
			"chmod":   os.Chmod(view+"/src", 0o700),
			"symlink": os.Symlink("x", view+"/link"),
		} {
			if !errors.Is(err, unix.EROFS) {
				t.Errorf("%s: %v", what, err)
			}
		}
		c.same(t, view)
	})
}

// A view can be a mount of its own.
func TestMountedView(t *testing.T) {
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		rnd := rand.New(rand.NewPCG(7, 2))
		grow(t, m.Dir, rnd, 100)
		c := take(t, m)
		ok(t, unix.Setxattr(m.Dir, "user.sharefs.snapshot", []byte("my one, or not"), 0))
		grow(t, m.Dir, rnd, 50)
		now := take(t, m)
		m.Unmount()
		for _, view := range []string{c.moment, "my one, or not"} {
			ok(t, m.TryMount(`view="at:`+view+`"`))
			c.same(t, m.Dir)
			now.same(t, m.Path(".share/at", now.moment))
			for what, err := range map[string]error{
				"create": os.WriteFile(m.Path("new"), nil, 0o644), "mkdir": os.Mkdir(m.Path("new"), 0o755), "symlink": os.Symlink("x", m.Path("new")),
				"chmod": os.Chmod(m.Dir, 0o700), "remove": os.Remove(m.Path("none")), "xattr": unix.Setxattr(m.Dir, "user.a", nil, 0),
			} {
				if !errors.Is(err, unix.EROFS) && (what != "remove" || !errors.Is(err, os.ErrNotExist)) {
					t.Errorf("%s: %v", what, err)
				}
			}
			if s := m.Status(); s == nil {
				t.Error("no status")
			}
			m.Unmount()
		}
		for _, view := range []string{"at:1980-01-01", "at:nonsense"} {
			if err := m.TryMount("view=" + view); !errors.Is(err, mounttest.ErrNotMounted) {
				t.Errorf("%s: %v", view, err)
			}
		}
		ok(t, m.TryMount("view=all"))
		list := run(t, m.Dir, "ls")
		for _, name := range []string{"at\n", "ctl\n", "versions\n"} {
			if !strings.Contains(list, name) {
				t.Errorf("%q is not in\n%s", name, list)
			}
		}
		c.same(t, m.Path("at", c.moment))
		if err := os.Mkdir(m.Path("at"), 0o755); !errors.Is(err, os.ErrExist) {
			t.Errorf("mkdir at: %v", err)
		}
		m.Unmount()
		m.Mount()
		now.same(t, m.Path(".share/at", now.moment))
		ok(t, os.Mkdir(m.Path("at"), 0o755)) // an ordinary name
		ok(t, os.WriteFile(m.Path("at/mine"), nil, 0o644))
		m.Unmount()
		ok(t, m.TryMount("view=all"))
		if got := run(t, m.Path("at"), "ls"); got != "mine\n" {
			t.Errorf("at lists %s", got)
		}
		if got := run(t, m.Dir, "ls"); strings.Count(got, "at\n") != 1 {
			t.Errorf("at is listed otherwise than once:\n%s", got)
		}
	})
}
