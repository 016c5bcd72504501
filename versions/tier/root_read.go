package tier

import (
	"context"
	"errors"

	"sharefs"
)

// ReadRoot reads the root of a bucket. It errors with KindNotExist where there is none; with KindAccess where it is another store's, and then with its tag.
func ReadRoot(ctx context.Context, b Bucket, key [32]byte) (*Root, string, error) {
	for range attempts {
		body, etag, err := readWhole(ctx, b, RootKey, maxRoot)
		if errors.Is(err, errReplaced) {
			continue
		}
		if err != nil {
			return nil, "", err
		}
		root, err := decodeRoot(&key, body)
		return root, etag, err
	}
	return nil, "", errReplaced
}

var errReplaced = &sharefs.Error{Op: "read", Path: RootKey, Kind: sharefs.KindAgain, Detail: "it was replaced while it was read"}

// readWhole reads a small object.
func readWhole(ctx context.Context, b Bucket, key string, most int64) ([]byte, string, error) {
	body := make([]byte, 64<<10)
	n, info, err := b.ReadAt(ctx, key, body, 0)
	if err != nil {
		return nil, "", err
	}
	if info.Size > most {
		return nil, "", &sharefs.Error{Op: "read", Path: key, Kind: sharefs.KindTooLarge}
	}
	body = body[:n]
	if rest := info.Size - int64(n); rest > 0 {
		body = append(body, make([]byte, rest)...)
		m, again, err := b.ReadAt(ctx, key, body[n:], int64(n))
		if err != nil {
			return nil, "", err
		}
		if again.ETag != info.ETag || int64(m) != rest {
			return nil, "", errReplaced
		}
	}
	return body, info.ETag, nil
}
