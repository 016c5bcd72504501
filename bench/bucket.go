package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sharefs/versions/tier"
	"sharefs/versions/tier/s3"
)

// The server's credentials and region.
const (
	bucketUser   = "bench"
	bucketSecret = "not-a-secret"
	bucketRegion = "us-east-1"
)

// bucketRows measures a store's way into its bucket and back, beside plain copying of the same objects by the same client to the same server, one at a time and as
// many at once as a recovery fetches. A plain copy ends with a sync, too; what a recovery takes holds the making of meta.db and of the live files as well.
func bucketRows(ctx context.Context, o options, _ []*subject, t *tables) error {
	const up, down = "upload", "fetch or recover"
	if !o.match.MatchString("bucket: "+up) && !o.match.MatchString("bucket: "+down) {
		return nil
	}
	large, small := 16, 5000
	if o.quick {
		large, small = 2, 500
	}
	table := t.table("Bucket", fmt.Sprintf(`A store of %d files of 16 MiB that do not compress and %d of 4 KiB; the server is versitygw on the same machine, with its data on the same disk.
Of ShareFS the upload is from the mount until the bucket is complete, and the recovery is all of it, until the store can be mounted.`, large, small))
	table.names = []string{"1 at a time", "6 at a time", "ShareFS"}
	rows := map[string]*row{}
	for _, n := range []string{up, down} {
		rows[n] = table.row(n, "MB/s", true)
	}
	for range min(o.rounds, 3) {
		if err := bucketRound(ctx, o, large, small, rows[up], rows[down]); err != nil {
			return err
		}
	}
	return nil
}

func bucketRound(ctx context.Context, o options, large, small int, up, down *row) error {
	work, err := os.MkdirTemp(o.dir, "sharefs-bench-bucket-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	host, stop, err := startServer(ctx, work)
	defer stop()
	if err != nil {
		return err
	}
	share, end, err := newShareKeeper(ctx, work)
	defer end()
	if err != nil {
		return err
	}
	if err := fillStore(ctx, share, large, small); err != nil {
		return err
	}
	share.down()
	credentials := filepath.Join(work, "credentials")
	if err := os.WriteFile(credentials, []byte("[default]\naws_access_key_id = "+bucketUser+"\naws_secret_access_key = "+bucketSecret+"\n"), 0o600); err != nil {
		return err
	}
	config, err := os.OpenFile(filepath.Join(share.store, "share.toml"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(config, "\n[tier]\nurl = \"s3://%s/bench/store\"\nregion = %q\ncredentials = %q\n", host, bucketRegion, credentials)
	if err := errors.Join(err, config.Close()); err != nil {
		return err
	}
	unix.Sync()
	began := time.Now()
	if err := share.up(); err != nil {
		return err
	}
	total, err := untilKept(ctx, share)
	if err != nil {
		return err
	}
	up.add("ShareFS", rate(total, began))
	sheet := filepath.Join(work, "sheet")
	if err := into(ctx, sheet, nil, share.tool, "recovery", "--store", share.store, "--no-code"); err != nil {
		return err
	}
	share.down()
	if err := plainCopies(ctx, work, host, credentials, share.store, up, down); err != nil {
		return err
	}
	if err := dropCaches("3"); err != nil {
		return err
	}
	began = time.Now()
	again := filepath.Join(work, "again")
	if err := command(ctx, work, nil, share.tool, "recover", "--store", again, "--sheet", sheet, "--credentials", credentials); err != nil {
		return err
	}
	unix.Sync()
	down.add("ShareFS", rate(total, began))
	return nil
}

func rate(bytes int64, since time.Time) float64 {
	return float64(bytes) / 1e6 / time.Since(since).Seconds()
}

func fillStore(ctx context.Context, share *shareKeeper, large, small int) error {
	noise := rand.NewChaCha8([32]byte{1})
	body := make([]byte, 16<<20)
	for i := range large {
		noise.Read(body)
		if err := os.WriteFile(filepath.Join(share.root, fmt.Sprintf("large%d", i)), body, 0o644); err != nil {
			return err
		}
	}
	for i := range small {
		dir := filepath.Join(share.root, fmt.Sprintf("dir%d", i/100))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("small%d", i)), body[i*512:i*512+4096], 0o644); err != nil {
			return err
		}
	}
	_, err := share.settle(ctx)
	return err
}

// untilKept waits until the bucket is complete and returns the bytes in it.
func untilKept(ctx context.Context, share *shareKeeper) (int64, error) {
	for {
		state, err := share.state()
		if err == nil && state.Tier.Error != "" {
			err = errors.New(state.Tier.Error)
		}
		if err != nil || !state.Tier.Complete.IsZero() && state.Tier.Backlog == 0 {
			return state.Tier.Bytes, err
		}
		select {
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// plainCopies puts the files of a store into the bucket, and gets them from there, as a program does that copies directories.
func plainCopies(ctx context.Context, work, host, credentials, store string, up, down *row) error {
	b, err := s3.Open(s3.Config{Host: host, Plain: true, Bucket: "bench", Prefix: "plain/", Region: bucketRegion, Credentials: credentials})
	if err != nil {
		return err
	}
	defer b.Close()
	sizes := map[string]int64{}
	total := int64(0)
	for _, part := range []string{"packs", "checkpoints"} {
		if err := filepath.WalkDir(filepath.Join(store, part), func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			if err == nil {
				name, _ := filepath.Rel(store, path)
				sizes[name] = info.Size()
				total += info.Size()
			}
			return err
		}); err != nil {
			return err
		}
	}
	for _, n := range []int{1, 6} {
		who := fmt.Sprintf("%d at a time", n)
		prefix := fmt.Sprint(n, "/")
		unix.Sync()
		began := time.Now()
		if err := each(n, sizes, func(name string, size int64) error {
			f, err := os.Open(filepath.Join(store, name))
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = b.Put(ctx, prefix+name, f, size, tier.Condition{})
			return err
		}); err != nil {
			return err
		}
		up.add(who, rate(total, began))
		if err := dropCaches("3"); err != nil {
			return err
		}
		to := filepath.Join(work, "plain"+fmt.Sprint(n))
		began = time.Now()
		if err := each(n, sizes, func(name string, size int64) error {
			body := make([]byte, size)
			if _, _, err := b.ReadAt(ctx, prefix+name, body, 0); err != nil && size > 0 {
				return err
			}
			if err := os.MkdirAll(filepath.Dir(filepath.Join(to, name)), 0o700); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(to, name), body, 0o600)
		}); err != nil {
			return err
		}
		unix.Sync()
		down.add(who, rate(total, began))
		if err := os.RemoveAll(to); err != nil {
			return err
		}
	}
	return nil
}

// each calls fn for all files, n at once.
func each(n int, sizes map[string]int64, fn func(name string, size int64) error) error {
	var workers sync.WaitGroup
	var mu sync.Mutex // guards bad
	var bad error
	names := make(chan string)
	for range n {
		workers.Go(func() {
			for name := range names {
				if err := fn(name, sizes[name]); err != nil {
					mu.Lock()
					bad = errors.Join(bad, err)
					mu.Unlock()
				}
			}
		})
	}
	for name := range sizes {
		names <- name
	}
	close(names)
	workers.Wait()
	return bad
}

// startServer starts versitygw with an empty bucket.
func startServer(ctx context.Context, work string) (host string, stop func(), err error) {
	stop = func() {}
	path := os.Getenv("SHAREFS_TEST_VERSITYGW")
	if path == "" {
		root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
		if err != nil {
			return "", stop, fmt.Errorf("go list: %w", err)
		}
		out, err := exec.CommandContext(ctx, "go", "-C", filepath.Join(strings.TrimSpace(string(root)), "integration", "versitygw"), "tool", "-n", "github.com/versity/versitygw/cmd/versitygw").Output()
		if err != nil {
			return "", stop, fmt.Errorf("building versitygw: %w", err)
		}
		path = strings.TrimSpace(string(out))
	}
	sidecar, data := filepath.Join(work, "sidecar"), filepath.Join(work, "data")
	if err := errors.Join(os.Mkdir(sidecar, 0o755), os.MkdirAll(filepath.Join(data, "bench"), 0o755)); err != nil {
		return "", stop, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", stop, err
	}
	host = l.Addr().String()
	l.Close()
	c := exec.Command(path, "--port", host, "--access", bucketUser, "--secret", bucketSecret, "--region", bucketRegion, "--quiet", "posix", "--sidecar", sidecar, data)
	if err := c.Start(); err != nil {
		return "", stop, err
	}
	gone := make(chan struct{})
	go func() { c.Wait(); close(gone) }()
	stop = func() {
		c.Process.Kill()
		<-gone
	}
	for {
		if conn, err := net.Dial("tcp", host); err == nil {
			return host, stop, conn.Close()
		}
		select {
		case <-ctx.Done():
			return "", stop, context.Cause(ctx)
		case <-gone:
			return "", stop, errors.New("versitygw ended")
		case <-time.After(10 * time.Millisecond):
		}
	}
}
