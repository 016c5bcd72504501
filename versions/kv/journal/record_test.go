package journal

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"
)

var testSalt = [8]byte{1, 2, 3, 4, 5, 6, 7, 8}

// The formats, byte for byte.
func TestFormat(t *testing.T) {
	rec := append(make([]byte, HeaderSize), "payload"...)
	seal(rec, &testSalt, 0x1122, 0x1121)
	for _, c := range []struct {
		what string
		got  []byte
		want string
	}{
		{"segment header", segmentHeader(0x0102, testSalt), "5346534a524e4c31 0000000000000102 0102030405060708 00000000 5399c18a"},
		{"record", rec, "00000007 01a0ba80 0000000000001122 0000000000001121 7061796c6f6164"},
	} {
		if got, want := hex.EncodeToString(c.got), strings.ReplaceAll(c.want, " ", ""); got != want {
			t.Errorf("%s: %s, want %s", c.what, got, want)
		}
	}
	if segmentName(0xabc) != "0000000000000abc.wal" {
		t.Error(segmentName(0xabc))
	}
	for _, name := range []string{"", "x", "0000000000000abc", "0000000000000ABC.wal", "0000000000000abc.wal~", "+000000000000abc.wal"} {
		if _, ok := parseName(name); ok {
			t.Errorf("%q passes for a segment", name)
		}
	}
	if n, ok := parseName("0000000000000abc.wal"); n != 0xabc || !ok {
		t.Error(n, ok)
	}
}

func segment1(payloads ...string) []byte {
	data := segmentHeader(1, testSalt)
	for i, p := range payloads {
		rec := append(make([]byte, HeaderSize), p...)
		seal(rec, &testSalt, uint64(i+1), uint64(i))
		data = append(data, rec...)
	}
	return data
}

// Whatever the bytes, parsing ends, stays within them, and what it delivers are whole records in a row.
func FuzzParseSegment(f *testing.F) {
	whole := segment1("a", "bb", "ccc")
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add(whole[:SegmentHeaderSize])
	f.Add([]byte(magic))
	f.Add(append(segment1("x"), whole[SegmentHeaderSize:]...))
	f.Fuzz(func(t *testing.T, data []byte) {
		orig := bytes.Clone(data)
		// Give mutations behind the header a chance to be read.
		if len(data) >= SegmentHeaderSize {
			copy(data, segmentHeader(1, testSalt))
		}
		size, prev := 0, uint64(0)
		end := ParseSegment(1, data, func(r Record) {
			if len(r.Payload) == 0 || len(r.Payload) > MaxPayload || prev != 0 && r.Seq != prev+1 {
				t.Fatalf("record %d of %d bytes behind %d", r.Seq, len(r.Payload), prev)
			}
			size += HeaderSize + len(r.Payload)
			prev = r.Seq
		})
		if end > len(data) || end != 0 && end != SegmentHeaderSize+size {
			t.Fatalf("ends at %d of %d, records have %d", end, len(data), size)
		}
		durableBehind(1, data, end)
		// The same without a checksum in the way: whole records come out.
		if len(orig) > 0 {
			data = segment1(string(orig), "end")
			n := 0
			if end := ParseSegment(1, data, func(Record) { n++ }); n != 2 || end != len(data) {
				t.Fatalf("%d records, end %d of %d", n, end, len(data))
			}
		}
	})
}

// Behind a tear, whole records are found wherever they lie, and content made to look like them costs no more than
// allowed.
func TestDurableBehind(t *testing.T) {
	data := segment1("aaaa", "bbbb", "cccc")
	data[SegmentHeaderSize+HeaderSize] ^= 1
	end := ParseSegment(1, data, func(Record) { t.Error("a record out of a broken one") })
	if got := durableBehind(1, data, end); got != 2 {
		t.Errorf("durable to %d, want 2", got)
	}
	// Every position a plausible header of a megabyte.
	evil := segmentHeader(1, testSalt)
	for len(evil) < 4<<20 {
		evil = binary.BigEndian.AppendUint32(evil, 0x00010101)
	}
	if got := durableBehind(1, evil, SegmentHeaderSize); got != 0 {
		t.Errorf("durable to %d", got)
	}
}
