package udpio

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSegmentationRefused lets the kernel refuse segmentation for one destination.
func TestSegmentationRefused(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EIO, syscall.EINVAL} {
		a, b := one(t, "udp4", "127.0.0.1:0").(*conn), one(t, "udp4", "127.0.0.1:0")
		b2 := one(t, "udp4", "127.0.0.2:0")
		if !a.gso {
			t.Skip("this kernel has no UDP_SEGMENT")
		}
		write, refused := a.write, 0
		a.write = func(p, oob []byte, to netip.AddrPort) (int, int, error) {
			if to == b.LocalAddr() && len(oob) > 0 {
				refused++
				return 0, 0, errno
			}
			return write(p, oob, to)
		}
		buf := datagrams(10, 1000, 10)
		for range 2 {
			if err := a.Send(b.LocalAddr(), netip.Addr{}, buf, 1000); err != nil {
				t.Fatal(err)
			}
			if got, sizes := gather(t, b, len(buf), nil); !bytes.Equal(got, buf) || len(sizes) != 10 {
				t.Errorf("%v: sizes %v", errno, sizes)
			}
		}
		if n, m := a.MaxSegments(b.LocalAddr(), 1000), a.MaxSegments(b2.LocalAddr(), 1000); refused != 1 || n != 1 || m != 64 {
			t.Errorf("%v: refused %d times; MaxSegments %d there, %d elsewhere", errno, refused, n, m)
		}
		if s := a.Stats(); s.GSOFallbacks != 1 || s.SentDatagrams != 20 {
			t.Errorf("%v: %+v", errno, s)
		}
		if err := a.Send(b2.LocalAddr(), netip.Addr{}, buf, 1000); err != nil || a.Stats().SentDatagrams != 30 {
			t.Errorf("%v: elsewhere: %v, %+v", errno, err, a.Stats())
		}
		gather(t, b2, len(buf), nil)
	}
}

// TestTooBigIsNotARefusal: where single datagrams fail too, segmentation is not to blame.
func TestTooBigIsNotARefusal(t *testing.T) {
	a := one(t, "udp4", "127.0.0.1:0").(*conn)
	a.write = func(p, oob []byte, to netip.AddrPort) (int, int, error) {
		if len(oob) > 0 {
			return 0, 0, syscall.EINVAL
		}
		return 0, 0, syscall.EMSGSIZE
	}
	a.gso = true
	to := netip.MustParseAddrPort("127.0.0.1:9")
	if err := a.Send(to, netip.Addr{}, make([]byte, 3000), 1000); !IsTooBig(err) || a.MaxSegments(to, 1000) != 64 {
		t.Errorf("%v, MaxSegments %d", err, a.MaxSegments(to, 1000))
	}
}

func TestMaxSegments(t *testing.T) {
	a := one(t, "udp4", "127.0.0.1:0").(*conn)
	a.gso = true
	for seg, want := range map[int]int{1: 64, 1023: 64, 1400: 46, 8900: 7, 32753: 2, 40000: 1, 65000: 1, 70000: 1, 0: 1, -1: 1} {
		if got := a.MaxSegments(netip.AddrPort{}, seg); got != want {
			t.Errorf("MaxSegments of %d bytes is %d, want %d", seg, got, want)
		}
	}
}

func TestControlOnTheWire(t *testing.T) {
	if cmsgLenBytes != 8 || unix.CmsgSpace(2) != 24 {
		t.Skip("the literals below are those of 64-bit systems")
	}
	want := "1200000000000000" + "11000000" + "67000000" + "7805000000000000" // len 18, SOL_UDP, UDP_SEGMENT, 1400
	if got := hex.EncodeToString(newSendControl(netip.Addr{}, 1400, false).oob); got != want {
		t.Errorf("segment: %s, want %s", got, want)
	}
	want = "1c00000000000000" + "00000000" + "08000000" + "00000000" + "7f000002" + "00000000" + "00000000"
	if got := hex.EncodeToString(newSendControl(netip.MustParseAddr("127.0.0.2"), 0, false).oob); got != want {
		t.Errorf("source: %s, want %s", got, want)
	}
}

func FuzzControl(f *testing.F) {
	f.Add(newSendControl(netip.MustParseAddr("::1"), 1200, true).oob)
	f.Add(newSendControl(netip.MustParseAddr("127.0.0.1"), 1200, false).oob)
	f.Add(appendControl(nil, unix.IPPROTO_UDP, unix.UDP_GRO, []byte{0x78, 5, 0, 0}))
	f.Fuzz(func(t *testing.T, b []byte) { parseControl(b) })
}

func TestParseControl(t *testing.T) {
	b := appendControl(nil, unix.IPPROTO_UDP, unix.UDP_GRO, []byte{0x78, 5, 0, 0})
	b = appendControl(b, unix.SOL_SOCKET, 99, []byte("unknown"))
	b = append(b, newSendControl(netip.MustParseAddr("fe80::1"), 0, true).oob...)
	if seg, to := parseControl(b); seg != 1400 || to != netip.MustParseAddr("fe80::1") {
		t.Errorf("%d, %v", seg, to)
	}
	b = append([]byte(nil), newSendControl(netip.MustParseAddr("10.1.2.3"), 0, true).oob...)
	if _, to := parseControl(b); to != netip.MustParseAddr("10.1.2.3") {
		t.Errorf("mapped: %v", to)
	}
}
