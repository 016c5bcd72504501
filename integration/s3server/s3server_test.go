package s3server_test

import (
	"bytes"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"sharefs"
	"sharefs/integration/s3server"
	"sharefs/versions/tier"
	"sharefs/versions/tier/s3"
	"sharefs/versions/tier/tiertest"
)

// open returns what is below a prefix of a bucket of the server.
func open(t *testing.T, s *s3server.Server, bucket, prefix string) *s3.Bucket {
	t.Helper()
	b, err := s3.Open(s3.Config{Host: s.Host, Plain: true, Bucket: bucket, Prefix: prefix, Region: s3server.Region, Credentials: s.Credentials(), Stall: s3server.Patience})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func TestBucket(t *testing.T) {
	s := s3server.Start(t, "bucket")
	var n atomic.Int64
	tiertest.Bucket(t, func(t *testing.T) tier.Bucket { return open(t, s, "bucket", fmt.Sprintf("some/where/%d/", n.Add(1))) })
}

func TestNoSuchBucket(t *testing.T) {
	b := open(t, s3server.Start(t, "bucket"), "other", "")
	_, err := b.Put(t.Context(), "a", strings.NewReader("x"), 1, tier.Condition{})
	if sharefs.KindOf(err) != sharefs.KindNoDevice || !strings.Contains(err.Error(), "other") {
		t.Errorf("put: %v", err)
	}
	if _, _, err := b.ReadAt(t.Context(), "a", make([]byte, 1), 0); sharefs.KindOf(err) != sharefs.KindNoDevice {
		t.Errorf("read: %v", err)
	}
	if err := b.List(t.Context(), "", "", func(tier.Info) bool { return true }); sharefs.KindOf(err) != sharefs.KindNoDevice {
		t.Errorf("list: %v", err)
	}
}

func TestOutages(t *testing.T) {
	s := s3server.Start(t, "bucket")
	b := open(t, s, "bucket", "")
	body := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	put := func() error {
		_, err := b.Put(t.Context(), "a", bytes.NewReader(body), int64(len(body)), tier.Condition{})
		return err
	}
	fails := func(what string) {
		t.Helper()
		if err := put(); err == nil || !tier.Passing(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
	s.Shut(true)
	fails("shut")
	s.Shut(false)
	s.CutAfter(300 << 10)
	fails("cut")
	s.CutAfter(0)
	s.Stop()
	fails("stopped")
	s.Run()
	if _, _, err := b.ReadAt(t.Context(), "a", make([]byte, 1), 0); sharefs.KindOf(err) != sharefs.KindNotExist {
		t.Fatalf("something has come of what failed: %v", err)
	}
	if err := put(); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(body))
	if n, _, err := b.ReadAt(t.Context(), "a", got, 0); err != nil || !bytes.Equal(got[:n], body) {
		t.Fatalf("%d bytes, %v", n, err)
	}
}
