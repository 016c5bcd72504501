package tier

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"sharefs/integration/s3server"
	"sharefs/internal/status"
)

// What reading costs of a version of 256 MiB whose packs the bucket alone has, beside the plain fetching of the same objects:
//
//	SHAREFS_BENCH_NEAR=1 go test ./integration/tier -run TestMeasureReadingFromTheBucket -v
func TestMeasureReadingFromTheBucket(t *testing.T) {
	if os.Getenv("SHAREFS_BENCH_NEAR") == "" {
		t.Skip("it measures: SHAREFS_BENCH_NEAR=1")
	}
	const size = 256 << 20
	server := s3server.Start(t, "bucket")
	section := func(cache string) string {
		return fmt.Sprintf("%s\ncache = %q", server.Section("bucket/near"), cache)
	}
	m := mount(t, section("64MiB"))
	if err := os.WriteFile(m.Path("large"), noise(1, size), 0o644); err != nil {
		t.Fatal(err)
	}
	m.InBucket()
	write(t, m, "large", "now it is short")
	m.Settled()
	m.UntilTier("packs leave", func(s *status.Tier) bool { return s.Cache.HeldBytes <= s.Cache.BudgetBytes })
	again := func(cache string) {
		t.Helper()
		m.Unmount()
		m.Tier(section(cache))
		m.Mount()
	}
	rate := func(what string, bytes int64, took time.Duration) {
		t.Logf("%-86s %7.0f MB/s", what, float64(bytes)/1e6/took.Seconds())
	}
	sequential := func(what string) {
		t.Helper()
		before := m.Status().Tier.Cache
		began := time.Now()
		f, err := os.Open(m.Path("large@@", "1"))
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{f}, make([]byte, 1<<20))
		if f.Close(); err != nil || n != size {
			t.Fatal(n, err)
		}
		took, after := time.Since(began), m.Status().Tier.Cache
		rate(fmt.Sprintf("%s (%d MiB fetched by %d requests)", what, (after.FetchedBytes-before.FetchedBytes)>>20, after.Fetches-before.Fetches), size, took)
	}

	client, err := minio.New(server.Host, &minio.Options{Creds: credentials.NewStaticV4(s3server.User, s3server.Secret, ""), Region: s3server.Region})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	total := int64(0)
	began := time.Now()
	for o := range client.ListObjectsIter(ctx, "bucket", minio.ListObjectsOptions{Prefix: "near/packs/", Recursive: true}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		body, err := client.GetObject(ctx, "bucket", o.Key, minio.GetObjectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, body)
		if body.Close(); err != nil {
			t.Fatal(err)
		}
		total += n
	}
	rate(fmt.Sprintf("minio-go: GET of all packs, %d MiB", total>>20), total, time.Since(began))

	random := func(what string) {
		t.Helper()
		f, err := os.Open(m.Path("large@@", "1"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		r := rand.New(rand.NewPCG(1, 2))
		var took []time.Duration
		for range 200 {
			began := time.Now()
			if _, err := f.ReadAt(make([]byte, 4096), r.Int64N(size/4096)*4096); err != nil {
				t.Fatal(err)
			}
			took = append(took, time.Since(began))
		}
		slices.Sort(took)
		t.Logf("%-86s median %v, 99 %% below %v", what, took[100].Round(10*time.Microsecond), took[198].Round(10*time.Microsecond))
	}

	again("64MiB")
	sequential("in order, packs for the most part in the bucket alone")
	again("64MiB")
	random("4 KiB at random, packs for the most part in the bucket alone")
	again("1GiB")
	sequential("in order, what is fetched stays")
	again("1GiB")
	sequential("in order, kept here")
	again("1GiB")
	random("4 KiB at random, kept here")
}
