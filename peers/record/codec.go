package record

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"strconv"

	"sharefs"
)

// reader takes an encoding apart. The first thing that is wrong is kept, and everything after it reads as zero.
type reader struct {
	b   []byte
	err error
}

// opened begins to read what is signed, whose fields up to its lists take header bytes, and returns what the signature stands behind. Errors are as those of [Decode].
func opened(op string, raw []byte, header int) (signed []byte, r reader, err error) {
	switch {
	case len(raw) > 0 && raw[0] != Format:
		return nil, r, &sharefs.Error{Op: op, Kind: sharefs.KindNotSupported,
			Detail: fmt.Sprintf("format %d; this version of ShareFS knows format %d: update it, or ask the peer's owner", raw[0], Format)}
	case len(raw) < header+ed25519.SignatureSize:
		return nil, r, invalid(op, fmt.Errorf("%d bytes are too few", len(raw)))
	}
	signed = raw[:len(raw)-ed25519.SignatureSize]
	return signed, reader{b: signed[1:]}, nil
}

// end says what is wrong with what was read, and with the value if nothing is.
func (r *reader) end(check func() error) error {
	if len(r.b) > 0 {
		r.refuse("%d bytes after its end", len(r.b))
	}
	if r.err != nil {
		return r.err
	}
	return check()
}

func (r *reader) refuse(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

func (r *reader) take(n int, what string) []byte {
	if r.err == nil && n > len(r.b) {
		r.refuse("it ends within its %s", what)
	}
	if r.err != nil {
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) array(dst []byte, what string) { copy(dst, r.take(len(dst), what)) }

func (r *reader) u8(what string) uint8 {
	if b := r.take(1, what); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u16(what string) uint16 {
	if b := r.take(2, what); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) u64(what string) uint64 {
	if b := r.take(8, what); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// varint reads one in its shortest form.
func (r *reader) varint(what string) uint64 {
	if r.err != nil {
		return 0
	}
	v, n := binary.Uvarint(r.b)
	switch {
	case n == 0:
		r.refuse("it ends within its %s", what)
		return 0
	case n < 0:
		r.refuse("%s of more than 64 bits", what)
		return 0
	case n > 1 && r.b[n-1] == 0:
		r.refuse("%s that is not in its shortest form", what)
		return 0
	}
	r.b = r.b[n:]
	return v
}

// count reads the length of a list whose elements have at least size bytes, so that no more is made room for than what is there.
func (r *reader) count(most, size int, what string) int {
	n := r.varint("number of " + what)
	switch {
	case n > uint64(most):
		r.refuse("%d %s, allowed are %d", n, what, most)
	case n > uint64(len(r.b)/size):
		r.refuse("it ends within its %s", what)
	}
	if r.err != nil {
		return 0
	}
	return int(n)
}

// ids reads a list of ids; nil where there are none.
func (r *reader) ids(most int, what string) []ID {
	n := r.count(most, len(ID{}), what)
	if n == 0 {
		return nil
	}
	ids := make([]ID, n)
	for i := range ids {
		r.array(ids[i][:], what)
	}
	return ids
}

func appendIDs(b []byte, ids []ID) []byte {
	b = binary.AppendUvarint(b, uint64(len(ids)))
	for i := range ids {
		b = append(b, ids[i][:]...)
	}
	return b
}

func checkIDs(ids []ID, most int, what string) error {
	if len(ids) > most {
		return fmt.Errorf("%d %s, allowed are %d", len(ids), what, most)
	}
	for i := 1; i < len(ids); i++ {
		if bytes.Compare(ids[i-1][:], ids[i][:]) >= 0 {
			return fmt.Errorf("%s that do not rise", what)
		}
	}
	return nil
}

// invalid is what a record of others is refused with.
func invalid(op string, err error) error {
	return &sharefs.Error{Op: op, Kind: sharefs.KindInvalid, Err: err}
}

// quote makes bytes of others fit for a terminal.
func quote(s string) string {
	const most = 80
	if len(s) > most {
		return strconv.QuoteToASCII(s[:most]) + "…"
	}
	return strconv.QuoteToASCII(s)
}
