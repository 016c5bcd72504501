package discover

import (
	"net/netip"
	"testing"
	"time"
)

func TestAFloodIsHeldOff(t *testing.T) {
	var f flood
	a, at := netip.MustParseAddr("192.0.2.1"), time.Unix(1000, 0)
	taken := 0
	for range 1000 {
		if f.take(a, at) {
			taken++
		}
	}
	if taken != ratePerHost {
		t.Errorf("%d of one host in a second", taken)
	}
	if !f.take(netip.MustParseAddr("192.0.2.2"), at) {
		t.Error("one host's flood holds off another")
	}
	if !f.take(a, at.Add(time.Second)) {
		t.Error("nothing is heard in the next second")
	}
	taken = 0
	for i := range 4 * rateOfAll {
		if f.take(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), at.Add(2*time.Second)) {
			taken++
		}
	}
	if taken > rateOfAll || len(f.hosts) > hostsKept {
		t.Errorf("%d of many hosts in a second, %d kept", taken, len(f.hosts))
	}
}
