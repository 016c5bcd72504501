package esp

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"sharefs/esp/internal/interval"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestVarintOnTheWire pins the examples of RFC 9000 appendix A.1 and the limits.
func TestVarintOnTheWire(t *testing.T) {
	for _, c := range []struct {
		v uint64
		b string
	}{
		{0, "00"}, {37, "25"}, {63, "3f"}, {64, "4040"}, {15293, "7bbd"}, {16383, "7fff"}, {16384, "80004000"},
		{494878333, "9d7f3e7d"}, {1<<30 - 1, "bfffffff"}, {1 << 30, "c000000040000000"}, {151288809941952652, "c2197c5eff14e88c"},
		{maxVarint, "ffffffffffffffff"},
	} {
		b := appendVarint(nil, c.v)
		if hex.EncodeToString(b) != c.b || varintLen(c.v) != len(b) {
			t.Errorf("%d: %x (%d), want %s", c.v, b, varintLen(c.v), c.b)
		}
		if v, n := readVarint(append(b, 0xaa)); v != c.v || n != len(b) {
			t.Errorf("%s: read %d, %d", c.b, v, n)
		}
		if _, n := readVarint(b[:len(b)-1]); n != 0 {
			t.Errorf("%s cut: read %d", c.b, n)
		}
	}
}

// TestHeadersOnTheWire pins the clear part of packets and records.
func TestHeadersOnTheWire(t *testing.T) {
	b := make([]byte, headerSize)
	putHeader(b, 6, 0x1122334455667788, 0xa1a2a3a4a5a6)
	if got := hex.EncodeToString(b); got != "021122334455667788a1a2a3a4a5a6" {
		t.Errorf("data packet: %s", got)
	}
	h, ok := parseHeader(append(b, make([]byte, tagSize)...))
	if !ok || h != (header{epoch: 2, cid: 0x1122334455667788, pn: 0xa1a2a3a4a5a6}) {
		t.Errorf("parsed %+v, %v", h, ok)
	}
	if _, ok := parseHeader(append(b, make([]byte, tagSize-1)...)); ok {
		t.Error("a packet without room for a tag was taken")
	}
	b[0] = 0x04
	if _, ok := parseHeader(append(b, make([]byte, tagSize)...)); ok {
		t.Error("a reserved bit was taken")
	}
	r := make([]byte, recordHeader)
	putRecordHeader(r, 7, 0x12345)
	if got := hex.EncodeToString(r); got != "c12345" {
		t.Errorf("record: %s", got)
	}
	if e, n := parseRecordHeader(r); e != 3 || n != 0x12345 {
		t.Errorf("parsed %d, %#x", e, n)
	}
}

// TestFramesOnTheWire pins every frame, and reads each back.
func TestFramesOnTheWire(t *testing.T) {
	ctl := func(c ctrl) []byte { return c.append(nil) }
	tok := unhex(t, "000102030405060708090a0b0c0d0e0f")
	key := bytes.Repeat([]byte{0x42}, 32)
	v4 := candidateAddr{addr: netip.MustParseAddrPort("192.0.2.1:7000")}
	v6 := candidateAddr{addr: netip.MustParseAddrPort("[2001:db8::1]:7001"), tcp: true}
	addrs := appendAddr(appendAddr(appendVarint(nil, 2), v4), v6)
	const v4hex, v6hex = "04c00002011b58", "1620010db80000000000000000000000011b59"
	for _, c := range []struct {
		name string
		b    []byte
		hex  string
		want frame
	}{
		{"PING", ctl(ctrl{typ: framePing}), "01", frame{typ: framePing}},
		{"ACK one range", appendAck(nil, 3, 250*time.Microsecond, []interval.Range{{Start: 5, End: 9}}, 100),
			"020340fa000803", frame{typ: frameAck, id: 3, delay: 250 * time.Microsecond, ranges: []interval.Range{{Start: 5, End: 9}}}},
		{"ACK three ranges", appendAck(nil, 0, 0, []interval.Range{{Start: 1, End: 2}, {Start: 4, End: 8}, {Start: 100, End: 300}}, 100),
			"02000002412b40c7405b030100", frame{typ: frameAck, ranges: []interval.Range{{Start: 1, End: 2}, {Start: 4, End: 8}, {Start: 100, End: 300}}}},
		{"ACK without room for the oldest", appendAck(nil, 0, 0, []interval.Range{{Start: 1, End: 2}, {Start: 4, End: 8}, {Start: 100, End: 300}}, 12),
			"02000001412b40c7405b03", frame{typ: frameAck, ranges: []interval.Range{{Start: 4, End: 8}, {Start: 100, End: 300}}}},
		{"CLOSE", ctl(ctrl{typ: frameClose, a: 3, data: []byte("no")}), "0303026e6f", frame{typ: frameClose, code: 3, data: []byte("no")}},
		{"MAX_DATA", ctl(ctrl{typ: frameMaxData, a: 1 << 20}), "0480100000", frame{typ: frameMaxData, off: 1 << 20}},
		{"MAX_STREAM_DATA", ctl(ctrl{typ: frameMaxStreamData, id: 4, a: 65536}), "050480010000", frame{typ: frameMaxStreamData, id: 4, off: 65536}},
		{"MAX_STREAMS", ctl(ctrl{typ: frameMaxStreams, a: 4096}), "065000", frame{typ: frameMaxStreams, off: 4096}},
		{"OPEN", ctl(ctrl{typ: frameOpen, id: 2, a: 1 << 20}), "070280100000", frame{typ: frameOpen, id: 2, off: 1 << 20}},
		{"OPEN_ACK", ctl(ctrl{typ: frameOpenAck, id: 2, a: 16384}), "080280004000", frame{typ: frameOpenAck, id: 2, off: 16384}},
		{"RESET", ctl(ctrl{typ: frameReset, id: 1, a: 8, b: 70000}), "09010880011170", frame{typ: frameReset, id: 1, code: 8, off: 70000}},
		{"STOP_SENDING", ctl(ctrl{typ: frameStopSending, id: 1, a: 6}), "0a0106", frame{typ: frameStopSending, id: 1, code: 6}},
		{"PATH_CHALLENGE", ctl(ctrl{typ: framePathChallenge, data: tok[:8]}), "0b0001020304050607", frame{typ: framePathChallenge, data: tok[:8]}},
		{"PATH_RESPONSE", ctl(ctrl{typ: framePathResponse, data: tok[:8]}), "0c0001020304050607", frame{typ: framePathResponse, data: tok[:8]}},
		{"PATH_STATUS", ctl(ctrl{typ: framePathStatus, id: 2, a: 9, b: statusActive}), "0d020901", frame{typ: framePathStatus, id: 2, off: 9, code: statusActive}},
		{"PATH_ABANDON", ctl(ctrl{typ: framePathAbandon, id: 2, a: 0}), "0e0200", frame{typ: framePathAbandon, id: 2}},
		{"NEW_CID", ctl(ctrl{typ: frameNewCID, id: 5, a: 0x1122334455667788, data: tok}), "0f051122334455667788000102030405060708090a0b0c0d0e0f",
			frame{typ: frameNewCID, id: 5, cid: 0x1122334455667788, data: tok}},
		{"RETIRE_CID", ctl(ctrl{typ: frameRetireCID, id: 5}), "1005", frame{typ: frameRetireCID, id: 5}},
		{"ADDRS", ctl(ctrl{typ: frameAddrs, a: 1, data: addrs}), "110102" + v4hex + v6hex, frame{typ: frameAddrs, off: 1, addrs: []candidateAddr{v4, v6}}},
		{"OBSERVED_ADDR", ctl(ctrl{typ: frameObservedAddr, id: 0, data: appendAddr(nil, v4)}), "1200" + v4hex, frame{typ: frameObservedAddr, addrs: []candidateAddr{v4}}},
		{"KEYEX", ctl(ctrl{typ: frameKeyEx, a: 1, b: 5, data: key}), "130105" + hex.EncodeToString(key), frame{typ: frameKeyEx, off: 1, code: 5, data: key}},
		{"STREAM", append(appendStreamHeader(nil, 6, 300, 3, false), "abc"...), "1a06412c03616263", frame{typ: frameStream | streamLen, id: 6, off: 300, data: []byte("abc")}},
		{"STREAM with FIN", appendStreamHeader(nil, 6, 300, 0, true), "1b06412c00", frame{typ: frameStream | streamLen | streamFin, id: 6, off: 300, fin: true, data: []byte{}}},
		{"STREAM to the end", unhex(t, "1806412c616263"), "1806412c616263", frame{typ: frameStream, id: 6, off: 300, data: []byte("abc")}},
		{"unknown, ignorable", unhex(t, "404202ffff"), "404202ffff", frame{typ: 0x42, data: []byte{0xff, 0xff}}},
	} {
		if got := hex.EncodeToString(c.b); got != c.hex {
			t.Errorf("%s: %s, want %s", c.name, got, c.hex)
		}
		var fr frameReader
		var f frame
		fr.reset(append([]byte{framePadding, framePadding}, c.b...))
		ok, err := fr.next(&f)
		if !ok || err != nil {
			t.Errorf("%s: %v, %v", c.name, ok, err)
			continue
		}
		if !reflect.DeepEqual(f, c.want) {
			t.Errorf("%s: read %+v, want %+v", c.name, f, c.want)
		}
		if ok, err := fr.next(&f); ok || err != nil {
			t.Errorf("%s: something is left: %v, %v", c.name, ok, err)
		}
		if len(c.b) > 1 && c.b[0]&^3 != frameStream {
			fr.reset(c.b[:len(c.b)-1])
			if _, err := fr.next(&f); !errors.Is(err, errFrame) {
				t.Errorf("%s cut: %v", c.name, err)
			}
		}
	}
}

func TestBadFrames(t *testing.T) {
	for name, h := range map[string]string{
		"unknown critical type":         "14",
		"unknown critical type 3f":      "3f00",
		"ACK with too many ranges":      "02000040400a00",
		"ACK below zero":                "020000000506",
		"ACK gap below zero":            "02000001050300" + "0a",
		"ACK of a number over 48 bits":  "02000000c00100000000000000",
		"STREAM offset overflow":        "1a00ffffffffffffffff0161",
		"STREAM shorter than it says":   "1a00000561",
		"CLOSE with an endless reason":  "0300c0ffffffffffffff",
		"ADDRS with too many":           "11014041",
		"ADDRS of an unknown family":    "1101010500000000",
		"path id over 32 bits":          "10c000000100000000",
		"ignorable, longer than it is":  "40420a00",
		"ignorable with a huge length":  "4042ffffffffffffffff",
		"varint that ends early":        "04c0",
		"reason that ends early":        "03000561",
		"PATH_CHALLENGE of three bytes": "0b000102",
	} {
		var fr frameReader
		var f frame
		fr.reset(unhex(t, h))
		ok, err := fr.next(&f)
		if ok || err == nil {
			t.Errorf("%s was taken: %+v", name, f)
		}
	}
}

// frameSeeds are the packets that the fuzz targets begin with.
func frameSeeds() [][]byte {
	var out [][]byte
	all := (&ctrl{typ: frameOpen, id: 2, a: 1 << 20}).append(nil)
	all = appendAck(all, 0, time.Millisecond, []interval.Range{{Start: 1, End: 2}, {Start: 4, End: 8}}, 100)
	all = append(appendStreamHeader(all, 2, 0, 5, true), "hello"...)
	out = append(out, all, []byte{0x40, 0x42, 0x02, 0xff, 0xff, 0x01}, []byte{0, 0, 0, 1})
	all = (&ctrl{typ: frameAddrs, a: 1, data: appendAddr(appendVarint(nil, 1), candidateAddr{addr: netip.MustParseAddrPort("[::1]:9")})}).append(nil)
	return append(out, (&ctrl{typ: frameKeyEx, a: 1, b: 1, data: make([]byte, 32)}).append(all))
}

// FuzzFrames reads arbitrary packets: never a panic, never more memory than the packet warrants, and what was read
// can be written again.
func FuzzFrames(f *testing.F) {
	for _, s := range frameSeeds() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var fr frameReader
		var fm frame
		fr.reset(b)
		for n := 0; ; n++ {
			ok, err := fr.next(&fm)
			if err != nil && ok {
				t.Fatal("both a frame and an error")
			}
			if !ok {
				break
			}
			if n > len(b) {
				t.Fatal("more frames than bytes")
			}
			if fm.typ == frameAck {
				for i, r := range fm.ranges {
					if r.Start >= r.End || i > 0 && r.Start <= fm.ranges[i-1].End {
						t.Fatalf("ranges %v", fm.ranges)
					}
				}
				again := appendAck(nil, uint32(fm.id), fm.delay, fm.ranges, 1<<20)
				var fr2 frameReader
				var fm2 frame
				fr2.reset(again)
				if ok, err := fr2.next(&fm2); !ok || err != nil || !reflect.DeepEqual(fm.ranges, fm2.ranges) || fm.delay != fm2.delay {
					t.Fatalf("%+v became %+v (%v)", fm, fm2, err)
				}
			}
			if fm.typ&^3 == frameStream && fm.off+uint64(len(fm.data)) > maxVarint {
				t.Fatal("offset overflow")
			}
		}
	})
}

// FuzzPacket parses the clear part of packets and handshake packets.
func FuzzPacket(f *testing.F) {
	b := make([]byte, headerSize+tagSize)
	putHeader(b, 1, 2, 3)
	f.Add(b)
	in, err := newInitiator(PrivateKey{0, 1}, PrivateKey{0, 2}.Public(), suiteAESGCM, 7, params{maxData: 1}, bytes.NewReader(make([]byte, 64)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(in.packet)
	f.Add(appendVersions(nil, 9))
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, ok := parseHeader(b); ok {
			again := make([]byte, headerSize)
			putHeader(again, uint64(h.epoch), h.cid, h.pn)
			if !bytes.Equal(again, b[:headerSize]) {
				t.Fatalf("%x became %x", b[:headerSize], again)
			}
		}
		if typ, _, _, ok := parseHandshake(b); ok && typ&flagHandshake == 0 {
			t.Fatal("a handshake packet without its bit")
		}
		if p, ok := parseInit(b); ok {
			if len(p.clear)+len(p.msg)+2 > len(b)-macsSize {
				t.Fatal("INIT parts overlap")
			}
			if _, err := readInit(p, PrivateKey{0, 2}, bytes.NewReader(make([]byte, 64))); err == nil && p.pattern == patternIK && !bytes.Equal(p.msg, in.packet[len(in.clear)+2:len(in.clear)+2+len(p.msg)]) {
				t.Fatal("a forged INIT opened")
			}
		}
		versionsOffer(append(make([]byte, hsHeader), b...), Version)
	})
}

// TestParamsOnWire pins the parameters of the handshake.
func TestParamsOnWire(t *testing.T) {
	for _, c := range []struct {
		p    params
		want string
	}{
		{params{cid: 1, maxData: 63, maxStreams: 64, idleTimeout: time.Second, ackDelay: time.Millisecond, earlyWindow: 16 << 10},
			"01080000000000000001" + "03013f" + "04024040" + "050243e8" + "060243e8" + "080480004000"},
		{params{maxData: 1, maxStreams: 2}, "030101" + "040102" + "050100" + "060100"},
		{params{hasToken: true, resetToken: [16]byte{15: 7}, earlyWindow: 5, refused: true, reason: "no"},
			"0210" + "00000000000000000000000000000007" + "0703016e6f"},
	} {
		if got := hex.EncodeToString(c.p.append(nil)); got != c.want {
			t.Errorf("%+v is\n%s, not\n%s", c.p, got, c.want)
		}
	}
}

// FuzzParams parses handshake parameters.
func FuzzParams(f *testing.F) {
	p := params{cid: 1, hasToken: true, maxData: 1 << 20, maxStreams: 10, idleTimeout: time.Second, ackDelay: time.Millisecond, earlyWindow: 16 << 10}
	f.Add(p.append(nil))
	f.Add((&params{refused: true, reason: "no"}).append(nil))
	f.Add([]byte{paramEarlyWindow, 1, 0x40}) // a varint of two bytes in one
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parseParams(b)
		if err != nil {
			return
		}
		if len(p.reason) > maxReason {
			t.Fatal("endless reason")
		}
		q, err := parseParams(p.append(nil))
		if err != nil || !p.refused && (p.maxData != q.maxData || p.earlyWindow != q.earlyWindow) {
			t.Fatalf("%+v became %+v: %v", p, q, err)
		}
	})
}
