package frame

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"sharefs"
)

type message struct {
	A string `json:"a"`
	B []byte `json:"b,omitempty"`
}

func TestMessages(t *testing.T) {
	var b bytes.Buffer
	want := message{A: "x\x1b", B: []byte{1, 2}}
	if err := Write(&b, want); err != nil {
		t.Fatal(err)
	}
	if text := b.String(); text[4:] != `{"a":"x\u001b","b":"AQI="}` || text[:4] != "\x00\x00\x00\x1a" {
		t.Fatalf("%q", text)
	}
	var got message
	if err := Read(&b, &got); err != nil || got.A != want.A || !bytes.Equal(got.B, want.B) {
		t.Fatalf("%+v, %v", got, err)
	}
	if err := Read(&b, &got); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	if err := Write(&b, message{A: strings.Repeat("x", Max)}); !errors.Is(err, sharefs.KindTooBig) || b.Len() > 0 {
		t.Errorf("too long: %v", err)
	}
	for text, want := range map[string]error{
		"\x00\x00\x00\x02{":          io.ErrUnexpectedEOF,
		"\x00\x00\x00\x02":           io.ErrUnexpectedEOF,
		"\x00\x00":                   io.ErrUnexpectedEOF,
		"\xff\xff\xff\xff{}":         sharefs.KindInvalid,
		"\x00\x00\x00\x02[]":         sharefs.KindInvalid,
		"\x00\x00\x00\x08{\"a\":11}": sharefs.KindInvalid,
	} {
		if err := Read(strings.NewReader(text), &got); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", text, err, want)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x02{}"))
	f.Add([]byte("\x00\x01\x00\x01{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var m message
		_ = Read(bytes.NewReader(data), &m)
	})
}
