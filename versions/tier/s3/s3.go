// Package s3 reaches a bucket by the protocol of Amazon S3, which most object stores speak. It asks for little of it: objects are put whole in one request
// of at most 1 GiB with their MD5, which the server checks, conditions of a Put are If-Match and If-None-Match, and lists are ListObjectsV2. Nothing is
// tried again here; [tier.Retry] does that.
package s3

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"sharefs"
	"sharefs/versions/tier"
)

// Config says where a bucket is and who asks.
type Config struct {
	Host   string // and port where it is not the usual one
	Plain  bool   // http: keys of objects, their sizes and how they change can be read on the way, their content is sealed anyhow
	Bucket string
	Prefix string // before each key, with its slash; may be empty
	Region string // empty: the server is asked
	// Credentials is a file as ~/.aws/credentials; empty: those of the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or else of that file.
	Credentials string
	Rate        int64         // bytes sent in a second, at most; 0: no bound
	Stall       time.Duration // a connection on which nothing moves for so long is given up; 0: a minute
}

// Bucket implements [tier.Bucket].
type Bucket struct {
	core   minio.Core
	cfg    Config
	client *http.Transport
}

// Open makes a client. It connects to nobody, so the only errors are of what is said in the configuration (KindInvalid), and of credentials that are
// nowhere (KindAccess).
func Open(cfg Config) (*Bucket, error) {
	const op = "open bucket"
	creds := credentials.NewChainCredentials([]credentials.Provider{&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}})
	if cfg.Credentials != "" {
		creds = credentials.NewFileAWSCredentials(cfg.Credentials, "")
	}
	if v, err := creds.GetWithContext(&credentials.CredContext{Client: http.DefaultClient}); err != nil || v.AccessKeyID == "" || v.SecretAccessKey == "" {
		detail := "there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write them to ~/.aws/credentials"
		if cfg.Credentials != "" {
			detail = "there are no credentials in " + cfg.Credentials
		}
		return nil, &sharefs.Error{Op: op, Path: cfg.Bucket, Kind: sharefs.KindAccess, Detail: detail, Err: err}
	}
	if cfg.Stall <= 0 {
		cfg.Stall = time.Minute
	}
	transport := newTransport(cfg.Stall, cfg.Rate)
	client, err := minio.New(cfg.Host, &minio.Options{Creds: creds, Secure: !cfg.Plain, Transport: transport, Region: cfg.Region, MaxRetries: 1})
	if err != nil {
		return nil, &sharefs.Error{Op: op, Path: cfg.Host, Kind: sharefs.KindInvalid, Err: err}
	}
	return &Bucket{core: minio.Core{Client: client}, cfg: cfg, client: transport}, nil
}

// Close closes connections that nobody uses at present.
func (b *Bucket) Close() { b.client.CloseIdleConnections() }

// Put implements [tier.Bucket].
func (b *Bucket) Put(ctx context.Context, key string, body io.ReaderAt, size int64, only tier.Condition) (string, error) {
	opts := minio.PutObjectOptions{SendContentMd5: true, DisableMultipart: true, ContentType: "application/octet-stream"}
	switch {
	case only.Absent:
		opts.SetMatchETagExcept("*")
	case only.ETag != "":
		opts.SetMatchETag(only.ETag)
	}
	// Its length is compared with what the server was promised, so a body that ends early makes the request fail.
	info, err := b.core.Client.PutObject(ctx, b.cfg.Bucket, b.cfg.Prefix+key, io.NewSectionReader(body, 0, size), size, opts)
	if err != nil {
		err = b.failed(ctx, "put", key, err)
		if only.ETag != "" && sharefs.KindOf(err) == sharefs.KindNotExist {
			return "", &sharefs.Error{Op: "put", Path: key, Kind: sharefs.KindStale, Err: err}
		}
		return "", err
	}
	return info.ETag, nil
}

// ReadAt implements [tier.Bucket].
func (b *Bucket) ReadAt(ctx context.Context, key string, dst []byte, off int64) (int, tier.Info, error) {
	const op = "read"
	var opts minio.GetObjectOptions
	if err := opts.SetRange(off, off+int64(len(dst))-1); err != nil {
		return 0, tier.Info{}, &sharefs.Error{Op: op, Path: key, Kind: sharefs.KindInvalid, Err: err}
	}
	body, object, header, err := b.core.GetObject(ctx, b.cfg.Bucket, b.cfg.Prefix+key, opts)
	if err != nil {
		return 0, tier.Info{}, b.failed(ctx, op, key, err)
	}
	defer body.Close()
	first, total, ok := parseContentRange(header.Get("Content-Range"))
	if !ok || first != off {
		return 0, tier.Info{}, &sharefs.Error{Op: op, Path: key, Kind: sharefs.KindNotSupported, Detail: "the server does not send a part of an object"}
	}
	want := min(int64(len(dst)), total-off)
	n, err := io.ReadFull(body, dst[:want])
	if err != nil {
		return 0, tier.Info{}, b.failed(ctx, op, key, err)
	}
	return n, tier.Info{Key: key, Size: total, ETag: object.ETag}, nil
}

// parseContentRange reads "bytes FIRST-LAST/TOTAL" (RFC 9110, section 14.4).
func parseContentRange(s string) (first, total int64, ok bool) {
	s, ok = strings.CutPrefix(s, "bytes ")
	if !ok {
		return 0, 0, false
	}
	span, all, _ := strings.Cut(s, "/")
	from, to, _ := strings.Cut(span, "-")
	first, err := strconv.ParseInt(from, 10, 64)
	last, err2 := strconv.ParseInt(to, 10, 64)
	total, err3 := strconv.ParseInt(all, 10, 64)
	return first, total, errors.Join(err, err2, err3) == nil && 0 <= first && first <= last && last < total
}

// List implements [tier.Bucket].
func (b *Bucket) List(ctx context.Context, prefix, after string, fn func(tier.Info) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	opts := minio.ListObjectsOptions{Prefix: b.cfg.Prefix + prefix, Recursive: true}
	if after != "" {
		opts.StartAfter = b.cfg.Prefix + after
	}
	for o := range b.core.Client.ListObjectsIter(ctx, b.cfg.Bucket, opts) {
		if o.Err != nil {
			return b.failed(ctx, "list", prefix, o.Err)
		}
		if !fn(tier.Info{Key: strings.TrimPrefix(o.Key, b.cfg.Prefix), Size: o.Size, ETag: strings.Trim(o.ETag, `"`)}) {
			return nil
		}
	}
	if err := ctx.Err(); err != nil {
		return b.failed(ctx, "list", prefix, err)
	}
	return nil
}

// Delete implements [tier.Bucket].
func (b *Bucket) Delete(ctx context.Context, key string) error {
	err := b.core.Client.RemoveObject(ctx, b.cfg.Bucket, b.cfg.Prefix+key, minio.RemoveObjectOptions{})
	if err == nil {
		return nil
	}
	if err = b.failed(ctx, "delete", key, err); sharefs.KindOf(err) == sharefs.KindNotExist {
		return nil
	}
	return err
}

// failed gives an error its kind. Codes are those of the Amazon S3 API reference, section "Error responses".
func (b *Bucket) failed(ctx context.Context, op, key string, err error) error {
	e := &sharefs.Error{Op: op, Path: key, Err: err}
	if cause := ctx.Err(); cause != nil {
		e.Err = cause
		return e
	}
	var answer minio.ErrorResponse
	if !errors.As(err, &answer) {
		return e
	}
	switch {
	case answer.Code == "NoSuchBucket":
		e.Path, e.Kind, e.Detail = b.cfg.Bucket, sharefs.KindNoDevice, "there is no such bucket at "+b.cfg.Host
	case answer.Code == "NoSuchKey" || answer.StatusCode == http.StatusNotFound:
		e.Kind = sharefs.KindNotExist
	case answer.StatusCode == http.StatusPreconditionFailed || answer.Code == "PreconditionFailed":
		e.Kind = sharefs.KindStale
	case answer.StatusCode == http.StatusConflict: // ConditionalRequestConflict: others are at it
		e.Kind = sharefs.KindAgain
	case answer.StatusCode == http.StatusRequestedRangeNotSatisfiable || answer.Code == "InvalidRange":
		e.Kind = sharefs.KindRange
	case answer.StatusCode == http.StatusNotImplemented:
		e.Kind = sharefs.KindNotSupported
	case answer.StatusCode == http.StatusForbidden || answer.StatusCode == http.StatusUnauthorized:
		e.Kind = sharefs.KindAccess
	}
	return e
}
