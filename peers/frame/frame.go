// Package frame carries messages over a stream: the length in bytes as a big-endian 32-bit number, then JSON. It is what peers say to each other
// beside data: who they are, how they pair, where they are.
package frame

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"

	"sharefs"
)

// Max is the longest message, in bytes.
const Max = 64 << 10

// Encode returns one message as it is sent.
func Encode(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	if len(text) > Max {
		return nil, &sharefs.Error{Op: "send message", Kind: sharefs.KindTooBig}
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...), nil
}

// Write sends one message in one write.
func Write(w io.Writer, v any) error {
	b, err := Encode(v)
	if err == nil {
		_, err = w.Write(b)
	}
	return err
}

// Read receives one message; members that v does not know are skipped. An error of KindInvalid means that the peer does not speak so.
func Read(r io.Reader, v any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > Max {
		return &sharefs.Error{Op: "read message", Kind: sharefs.KindInvalid, Detail: fmt.Sprintf("%d bytes, more than %d", n, Max)}
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(r, text); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	if err := json.Unmarshal(text, v); err != nil {
		return &sharefs.Error{Op: "read message", Kind: sharefs.KindInvalid, Err: err}
	}
	return nil
}
