package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// backups measures what people use to keep the past of their files: restic and borg, each with what it does by itself, beside ShareFS, which keeps it
// anyhow. The same releases are made for all. What the others back up lies on the disk; what ShareFS keeps lies in the mount, and its save begins
// when the change is made and ends when all of it is in packs.
func backups(ctx context.Context, o options, _ []*subject, t *tables) error {
	names := []string{"first save", "save after a change", "change and save", "restore the first release", "one file of the first release", "size of the history"}
	wanted := false
	for _, n := range names {
		wanted = wanted || o.match.MatchString("backup: "+n)
	}
	if !wanted {
		return nil
	}
	for _, program := range []string{"restic", "borg"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%s is missing: apt install restic borgbackup", program)
		}
	}
	count, pages, media, last := 5000, 16<<10, 12, 20
	if o.quick {
		count, pages, media, last = 500, 2<<10, 2, 4
	}
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("go env GOROOT: %w", err)
	}
	data, err := newReleases(filepath.Join(strings.TrimSpace(string(root)), "src"), count, pages, media)
	if err != nil {
		return err
	}
	table := t.table("Backups", fmt.Sprintf(`%d releases of %d files of source, a database file of %d MiB of which each writes 1 %% anew, and %d media files of %d MiB that do not compress.
restic %s and borg %s with their defaults, on the same disk. ShareFS saves while the change is made: its save is what is left to wait for.`,
		last+1, count, pages*pageSize>>20, media, mediaSize>>20, version(ctx, "restic", "version"), version(ctx, "borg", "--version")))
	table.names = []string{"restic", "borg", "ShareFS"}
	faster := []gate{{against: "restic", atLeast: 1}, {against: "borg", atLeast: 1}}
	rows := map[string]*row{}
	for _, n := range names[:5] {
		rows[n] = table.row(n, "ms", false, faster...)
	}
	size := table.row(names[5], "MB", false, gate{against: "restic", atMost: 1.1}, gate{against: "borg", atMost: 1.1})
	for range min(o.rounds, 3) {
		if err := backupRound(ctx, o, data, last, rows, size); err != nil {
			return err
		}
	}
	return nil
}

func version(ctx context.Context, argv ...string) string {
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).Output()
	words := strings.Fields(string(out))
	if err != nil || len(words) < 2 {
		return "(unknown)"
	}
	return words[1]
}

// keeper is one of the programs compared.
type keeper interface {
	name() string
	dir() string // where the data is changed
	save(ctx context.Context, release int) error
	restore(ctx context.Context, release int, to string) error
	read(ctx context.Context, release int, path, to string) error
	stored() []string // the directories that hold the history
}

func backupRound(ctx context.Context, o options, data *releases, last int, rows map[string]*row, size *row) error {
	work, err := os.MkdirTemp(o.dir, "sharefs-bench-backups-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	plain := filepath.Join(work, "data")
	if err := os.Mkdir(plain, 0o755); err != nil {
		return err
	}
	restic, borg := &resticKeeper{plain, filepath.Join(work, "restic")}, &borgKeeper{plain, filepath.Join(work, "borg")}
	share, down, err := newShareKeeper(ctx, work)
	defer down()
	if err != nil {
		return err
	}
	if err := errors.Join(restic.init(ctx), borg.init(ctx)); err != nil {
		return err
	}
	keepers := []keeper{restic, borg, share}
	for n := range last + 1 {
		changed := map[string]time.Duration{}
		for _, dir := range []string{plain, share.dir()} {
			syscall.Sync()
			start := time.Now()
			if err := data.apply(dir, n); err != nil {
				return err
			}
			changed[dir] = time.Since(start)
			if dir != plain {
				// In turn with the change: nothing else is at work while ShareFS has something left to do.
				if err := timeSave(ctx, share, n, changed[dir], rows); err != nil {
					return err
				}
			}
		}
		for i := range 2 {
			if err := timeSave(ctx, keepers[(i+n)%2], n, changed[plain], rows); err != nil {
				return err
			}
		}
	}
	old := filepath.Join("source", data.names[len(data.names)/2])
	for i, k := range keepers {
		out := filepath.Join(work, fmt.Sprintf("out%d", i))
		if err := dropCaches("3"); err != nil {
			return err
		}
		start := time.Now()
		if err := k.restore(ctx, 0, out); err != nil {
			return fmt.Errorf("%s: %w", k.name(), err)
		}
		rows["restore the first release"].add(k.name(), ms(time.Since(start)))
		if err := data.verify(out, k.name()); err != nil {
			return err
		}
		if err := os.RemoveAll(out); err != nil {
			return err
		}
		if err := dropCaches("3"); err != nil {
			return err
		}
		start = time.Now()
		if err := k.read(ctx, 0, old, out); err != nil {
			return fmt.Errorf("%s: %w", k.name(), err)
		}
		rows["one file of the first release"].add(k.name(), ms(time.Since(start)))
		if got, err := os.ReadFile(out); err != nil || string(got) != string(data.files[data.names[len(data.names)/2]]) {
			return fmt.Errorf("%s: %s comes back wrong (%v)", k.name(), old, err)
		}
		held, err := diskUsage(k.stored()...)
		if err != nil {
			return err
		}
		size.add(k.name(), float64(held)/1e6)
	}
	return nil
}

func timeSave(ctx context.Context, k keeper, n int, change time.Duration, rows map[string]*row) error {
	start := time.Now()
	if err := k.save(ctx, n); err != nil {
		return fmt.Errorf("%s, release %d: %w", k.name(), n, err)
	}
	took := time.Since(start)
	if n == 0 {
		rows["first save"].add(k.name(), ms(took))
		return nil
	}
	rows["save after a change"].add(k.name(), ms(took))
	rows["change and save"].add(k.name(), ms(took+change))
	return nil
}

// verify sees that a restored first release is what it was.
func (r *releases) verify(dir, who string) error {
	for _, name := range r.names {
		got, err := os.ReadFile(filepath.Join(dir, "source", name))
		if err != nil || string(got) != string(r.files[name]) {
			return fmt.Errorf("%s: %s comes back wrong (%v)", who, name, err)
		}
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }

// diskUsage adds up what lies below some paths, in bytes of the disk.
func diskUsage(paths ...string) (n int64, err error) {
	for _, p := range paths {
		err = errors.Join(err, filepath.WalkDir(p, func(path string, _ os.DirEntry, err error) error {
			var st unix.Stat_t
			if os.IsNotExist(err) {
				return nil
			}
			if err != nil {
				return err
			}
			if err := unix.Lstat(path, &st); err == nil {
				n += st.Blocks * 512
			}
			return nil
		}))
	}
	return n, err
}

func command(ctx context.Context, dir string, env []string, argv ...string) error {
	c := exec.CommandContext(ctx, argv[0], argv[1:]...)
	c.Dir, c.Env = dir, append(os.Environ(), env...)
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w: %s", argv, err, out)
	}
	return nil
}

// into runs a command whose output goes into a file.
func into(ctx context.Context, file string, env []string, argv ...string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	c := exec.CommandContext(ctx, argv[0], argv[1:]...)
	c.Env, c.Stdout = append(os.Environ(), env...), f
	if err := c.Run(); err != nil {
		return fmt.Errorf("%v: %w", argv, err)
	}
	return f.Close()
}

type resticKeeper struct{ data, repo string }

func (k *resticKeeper) env() []string {
	return []string{"RESTIC_PASSWORD=bench", "RESTIC_REPOSITORY=" + k.repo, "RESTIC_CACHE_DIR=" + k.repo + ".cache"}
}
func (k *resticKeeper) name() string     { return "restic" }
func (k *resticKeeper) dir() string      { return k.data }
func (k *resticKeeper) stored() []string { return []string{k.repo} }
func (k *resticKeeper) init(ctx context.Context) error {
	return command(ctx, k.data, k.env(), "restic", "init", "-q", "--repository-version", "2")
}
func (k *resticKeeper) save(ctx context.Context, n int) error {
	return command(ctx, k.data, k.env(), "restic", "backup", "-q", "--tag", fmt.Sprintf("r%d", n), ".")
}
func (k *resticKeeper) restore(ctx context.Context, n int, to string) error {
	return command(ctx, k.data, k.env(), "restic", "restore", "-q", "--tag", fmt.Sprintf("r%d", n), "--target", to, "latest")
}
func (k *resticKeeper) read(ctx context.Context, n int, path, to string) error {
	return into(ctx, to, k.env(), "restic", "dump", "-q", "--tag", fmt.Sprintf("r%d", n), "latest", "/"+path)
}

type borgKeeper struct{ data, repo string }

func (k *borgKeeper) env() []string {
	return []string{"BORG_PASSPHRASE=bench", "BORG_REPO=" + k.repo, "BORG_BASE_DIR=" + k.repo + ".base"}
}
func (k *borgKeeper) name() string     { return "borg" }
func (k *borgKeeper) dir() string      { return k.data }
func (k *borgKeeper) stored() []string { return []string{k.repo} }
func (k *borgKeeper) init(ctx context.Context) error {
	return command(ctx, k.data, k.env(), "borg", "init", "--encryption=repokey-blake2")
}
func (k *borgKeeper) save(ctx context.Context, n int) error {
	return command(ctx, k.data, k.env(), "borg", "create", fmt.Sprintf("::r%d", n), ".")
}
func (k *borgKeeper) restore(ctx context.Context, n int, to string) error {
	if err := os.Mkdir(to, 0o755); err != nil {
		return err
	}
	return command(ctx, to, k.env(), "borg", "extract", fmt.Sprintf("::r%d", n))
}
func (k *borgKeeper) read(ctx context.Context, n int, path, to string) error {
	return into(ctx, to, k.env(), "borg", "extract", "--stdout", fmt.Sprintf("::r%d", n), path)
}

// shareKeeper is a mount of its own, with a store that holds nothing else.
type shareKeeper struct {
	*subject
	store, tool string
}

func newShareKeeper(ctx context.Context, work string) (*shareKeeper, func(), error) {
	if err := command(ctx, "", nil, "go", "build", "-o", work+"/", "sharefs/cmd/sharefs-mount", "sharefs/cmd/sharefs"); err != nil {
		return nil, func() {}, err
	}
	k := &shareKeeper{store: filepath.Join(work, "store"), tool: filepath.Join(work, "sharefs")}
	point := filepath.Join(work, "share")
	k.subject = &subject{name: "ShareFS", dir: point, root: point}
	if err := errors.Join(os.Mkdir(k.store, 0o755), os.Mkdir(point, 0o755)); err != nil {
		return nil, func() {}, err
	}
	k.mountBy(work, "sharefs-mount", "-f", "--store", k.store, point)
	return k, func() { k.down() }, k.up()
}

func (k *shareKeeper) name() string { return "ShareFS" }
func (k *shareKeeper) dir() string  { return k.root }

// stored leaves out live/, which is the data itself.
func (k *shareKeeper) stored() []string {
	var all []string
	for _, part := range []string{"packs", "checkpoints", "meta.db", "journal", "aside"} {
		all = append(all, filepath.Join(k.store, part))
	}
	return all
}

func (k *shareKeeper) save(ctx context.Context, n int) error {
	if err := unix.Setxattr(k.root, "user.sharefs.snapshot", fmt.Appendf(nil, "r%d", n), 0); err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	return k.captured(ctx)
}

func (k *shareKeeper) at(n int) string {
	return filepath.Join(k.root, ".share/at", fmt.Sprintf("r%d", n))
}

func (k *shareKeeper) restore(ctx context.Context, n int, to string) error {
	return command(ctx, k.root, nil, k.tool, "restore", fmt.Sprintf(".@@r%d", n), "--to", to)
}

func (k *shareKeeper) read(ctx context.Context, n int, path, to string) error {
	return into(ctx, to, nil, "cat", filepath.Join(k.at(n), path))
}
