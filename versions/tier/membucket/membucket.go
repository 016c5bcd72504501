// Package membucket is a bucket in memory for the tests of whatever keeps objects. It fails when it is told to.
package membucket

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"sharefs"
	"sharefs/versions/tier"
)

// Bucket implements [tier.Bucket]. The zero value is an empty one.
type Bucket struct {
	// Before, where not nil, is called before each operation ("put", "read", "list", "delete"), without a lock, and fails it with what it returns. Set
	// it before use.
	Before func(op, key string) error
	// After is the same behind each, when it has been carried out: the answer is lost.
	After func(op, key string) error
	// Sums: the tag of an object is the SHA-256 of its bytes, in hexadecimal.
	Sums bool

	mu      sync.Mutex // guards what follows
	objects map[string]object
	tags    uint64
}

type object struct {
	data []byte
	etag string
}

// begin is called first in each operation.
func (b *Bucket) begin(ctx context.Context, op, key string) error {
	if b.Before != nil {
		if err := b.Before(op, key); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (b *Bucket) end(op, key string) error {
	if b.After != nil {
		return b.After(op, key)
	}
	return nil
}

// Put implements [tier.Bucket].
func (b *Bucket) Put(ctx context.Context, key string, body io.ReaderAt, size int64, only tier.Condition) (string, error) {
	if err := b.begin(ctx, "put", key); err != nil {
		return "", err
	}
	data := make([]byte, size)
	if n, err := body.ReadAt(data, 0); int64(n) < size {
		return "", &sharefs.Error{Op: "put", Path: key, Err: err}
	}
	b.mu.Lock()
	old, there := b.objects[key]
	if only.Absent && there || only.ETag != "" && only.ETag != old.etag {
		b.mu.Unlock()
		return "", &sharefs.Error{Op: "put", Path: key, Kind: sharefs.KindStale}
	}
	b.tags++
	o := object{data, strconv.FormatUint(b.tags, 10)}
	if b.Sums {
		o.etag = fmt.Sprintf("%x", sha256.Sum256(data))
	}
	if b.objects == nil {
		b.objects = map[string]object{}
	}
	b.objects[key] = o
	b.mu.Unlock()
	return o.etag, b.end("put", key)
}

// Spoil changes the bytes of an object, which keeps its tag.
func (b *Bucket) Spoil(key string, change func(data []byte)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	o := b.objects[key]
	o.data = slices.Clone(o.data)
	change(o.data)
	b.objects[key] = o
}

// ReadAt implements [tier.Bucket].
func (b *Bucket) ReadAt(ctx context.Context, key string, dst []byte, off int64) (int, tier.Info, error) {
	if err := b.begin(ctx, "read", key); err != nil {
		return 0, tier.Info{}, err
	}
	b.mu.Lock()
	o, there := b.objects[key]
	b.mu.Unlock()
	if !there {
		return 0, tier.Info{}, &sharefs.Error{Op: "read", Path: key, Kind: sharefs.KindNotExist}
	}
	if off >= int64(len(o.data)) {
		return 0, tier.Info{}, &sharefs.Error{Op: "read", Path: key, Kind: sharefs.KindRange}
	}
	return copy(dst, o.data[off:]), tier.Info{Key: key, Size: int64(len(o.data)), ETag: o.etag}, b.end("read", key)
}

// List implements [tier.Bucket].
func (b *Bucket) List(ctx context.Context, prefix, after string, fn func(tier.Info) bool) error {
	if err := b.begin(ctx, "list", prefix); err != nil {
		return err
	}
	b.mu.Lock()
	var all []tier.Info
	for _, key := range slices.Sorted(maps.Keys(b.objects)) {
		if o := b.objects[key]; strings.HasPrefix(key, prefix) && key > after {
			all = append(all, tier.Info{Key: key, Size: int64(len(o.data)), ETag: o.etag})
		}
	}
	b.mu.Unlock()
	for _, i := range all {
		if !fn(i) {
			break
		}
	}
	return b.end("list", prefix)
}

// Delete implements [tier.Bucket].
func (b *Bucket) Delete(ctx context.Context, key string) error {
	if err := b.begin(ctx, "delete", key); err != nil {
		return err
	}
	b.mu.Lock()
	delete(b.objects, key)
	b.mu.Unlock()
	return b.end("delete", key)
}

// Keys lists all keys.
func (b *Bucket) Keys() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Sorted(maps.Keys(b.objects))
}
