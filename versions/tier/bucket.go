// Package tier keeps what a store holds a second time, in a bucket of an object store. It knows objects alone; what they hold is the business of
// whoever keeps them there. The bucket itself is reached through [Bucket], which has an implementation for S3 (package s3) and one in memory for tests
// (package membucket); package tiertest holds what both have to do.
package tier

import (
	"context"
	"io"
)

// Bucket is a bucket, or what is below one prefix in it. Keys are valid UTF-8, 1 to 512 bytes, parts between slashes as in a path without "." and "..".
// All methods may be called from several goroutines. They end early with the context's error.
//
// Errors are [sharefs.Error]: KindNotExist, there is no such object; KindStale, the condition of a Put does not hold; KindAccess, the credentials are
// wrong or not enough; KindRange, there is nothing at that offset; KindNoDevice, there is no such bucket; KindNotSupported, the server does not know
// what is asked of it. Of all others it can be hoped that they pass: the server or the network has failed, and a Put may have been carried out nevertheless.
type Bucket interface {
	// Put makes an object of the first size bytes of body, whole or not at all, in the place of one with that key if the condition allows it. It
	// returns the object's new tag.
	Put(ctx context.Context, key string, body io.ReaderAt, size int64, only Condition) (etag string, err error)
	// ReadAt reads from an offset of an object into dst and returns how much: less than len(dst) only where the object ends. Info is that of the whole object.
	ReadAt(ctx context.Context, key string, dst []byte, off int64) (n int, info Info, err error)
	// List calls fn for all objects whose key begins with prefix and comes behind after, in the order of their keys, until it returns false.
	List(ctx context.Context, prefix, after string, fn func(Info) bool) error
	// Delete removes an object. One that is not there is no error.
	Delete(ctx context.Context, key string) error
}

// Info tells of an object.
type Info struct {
	Key  string
	Size int64  // bytes
	ETag string // another one for every other content
}

// Condition says when a Put is to be carried out; the zero value: always. Bucket and condition together are a compare-and-swap: of several who put
// under the same condition one succeeds (RFC 9110, section 13.1; Amazon S3 knows both headers for PUT since 2024).
type Condition struct {
	Absent bool   // there is no such object (If-None-Match: *)
	ETag   string // where not empty: the object has this tag (If-Match)
}
