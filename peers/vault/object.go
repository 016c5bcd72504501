package vault

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"time"

	"sharefs"
)

const (
	objectMagic = "sharefsV"
	footerLen   = 80
	charge      = 4096 // an object counts as much more than its length, so that small ones do not fill a disk
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// object is what is known of one.
type object struct {
	size    int64
	sum     [32]byte
	written time.Time
	damaged bool // it does not read back
}

func (o *object) tag() string    { return hex.EncodeToString(o.sum[:]) }
func (o *object) charge() uint64 { return uint64(o.size) + charge }

// nameOf is the file of an object, below the directory of its giver.
func nameOf(key string) string {
	sum := sha256.Sum256([]byte(key))
	name := hex.EncodeToString(sum[:])
	return filepath.Join(name[:2], name)
}

// encodeEnd is what stands behind the bytes of an object.
func encodeEnd(key string, o *object) []byte {
	b := make([]byte, len(key)+footerLen)
	copy(b, key)
	f := b[len(key):]
	copy(f, objectMagic)
	binary.BigEndian.PutUint16(f[8:], 1)
	binary.BigEndian.PutUint16(f[10:], uint16(len(key)))
	binary.BigEndian.PutUint64(f[16:], uint64(o.size))
	binary.BigEndian.PutUint64(f[24:], uint64(o.written.UnixNano()))
	copy(f[32:], o.sum[:])
	binary.BigEndian.PutUint32(f[76:], crc32.Checksum(b[:len(b)-4], castagnoli))
	return b
}

var errObject = &sharefs.Error{Op: "read what is kept for a peer", Kind: sharefs.KindCorrupt, Detail: "an object is damaged"}

// decodeEnd reads it back from a file of some length. Errors: KindCorrupt, those of reading.
func decodeEnd(r io.ReaderAt, length int64) (key string, o object, err error) {
	b := make([]byte, min(length, maxKey+footerLen))
	if len(b) < footerLen {
		return "", o, errObject
	}
	if n, err := r.ReadAt(b, length-int64(len(b))); n < len(b) {
		return "", o, errors.Join(errObject, err)
	}
	f := b[len(b)-footerLen:]
	n := int(binary.BigEndian.Uint16(f[10:]))
	if string(f[:8]) != objectMagic || binary.BigEndian.Uint16(f[8:]) != 1 || n > len(b)-footerLen {
		return "", o, errObject
	}
	b = b[len(b)-footerLen-n:]
	o.size = int64(binary.BigEndian.Uint64(f[16:]))
	if crc32.Checksum(b[:len(b)-4], castagnoli) != binary.BigEndian.Uint32(f[76:]) || o.size < 0 || o.size != length-int64(len(b)) {
		return "", o, errObject
	}
	o.written = time.Unix(0, int64(binary.BigEndian.Uint64(f[24:])))
	o.sum = [32]byte(f[32:64])
	if key = string(b[:n]); !validKey(key) {
		return "", o, errObject
	}
	return key, o, nil
}

// incoming is an object that is being received. It is one goroutine's.
type incoming struct {
	v    *Vault
	key  string
	want object
	only condition
	file *os.File
	sum  hash.Hash
	have int64
	held uint64 // of the quota
}

// condition says when an object may take the place of another one.
type condition struct {
	absent bool
	tag    string
}

func (c condition) holds(o *object) bool {
	switch {
	case c.absent:
		return o == nil
	case c.tag != "":
		return o != nil && o.tag() == c.tag
	}
	return true
}

// Write takes the next bytes.
func (in *incoming) Write(b []byte) (int, error) {
	if in.have+int64(len(b)) > in.want.size {
		return 0, &sharefs.Error{Op: "keep", Path: in.key, Kind: sharefs.KindInvalid, Detail: "more bytes come than were said"}
	}
	in.sum.Write(b)
	n, err := in.file.Write(b)
	in.have += int64(n)
	return n, in.v.store.failed("keep", in.key, err)
}

// end gives up what was received. It is called once, also behind commit.
func (in *incoming) end() {
	in.file.Close()
	_ = os.Remove(in.file.Name()) // it has another name by now if it was kept
	in.v.release(in.held)
}

// commit makes it an object that survives the loss of power.
func (in *incoming) commit() (*object, error) {
	o := in.want
	if in.have != o.size || [32]byte(in.sum.Sum(nil)) != o.sum {
		return nil, &sharefs.Error{Op: "keep", Path: in.key, Kind: sharefs.KindInvalid, Detail: "other bytes came than were said"}
	}
	o.written = time.Now()
	_, err := in.file.Write(encodeEnd(in.key, &o))
	if err == nil {
		err = in.file.Sync()
	}
	if err != nil {
		return nil, in.v.store.failed("keep", in.key, err)
	}
	return &o, in.v.enter(in, &o)
}

// syncDir makes names in a directory survive the loss of power.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// replace writes a small file whole or not at all.
func replace(path string, b []byte) error {
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}
