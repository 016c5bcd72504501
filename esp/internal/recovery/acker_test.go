package recovery

import (
	"slices"
	"testing"
	"time"

	"sharefs/esp/internal/interval"
)

func TestAckerEverySecond(t *testing.T) {
	a := NewAcker(0, 0)
	if _, ok := a.Deadline(); ok || a.Due(0) || a.Pending() {
		t.Fatal("nothing was received, and yet it is due")
	}
	a.Received(10*ms, 0, true)
	if at, ok := a.Deadline(); !ok || at != 15*ms || a.Due(14*ms) || !a.Due(15*ms) || !a.Pending() {
		t.Fatalf("one packet: due at %v, %v", at, ok)
	}
	a.Received(11*ms, 1, true)
	if !a.Due(11 * ms) {
		t.Fatal("two packets, and it is not due")
	}
	if d := a.Delay(13 * ms); d != 2*ms {
		t.Errorf("delay %v", d)
	}
	a.Sent()
	if a.Due(time.Hour) || a.Pending() {
		t.Error("it is due again")
	}
	a.Received(20*ms, 2, false)
	if a.Due(time.Hour) || a.Pending() {
		t.Error("a packet that asks for nothing makes it due")
	}
	if got := a.Ranges(); !slices.Equal(got, []interval.Range{{Start: 0, End: 3}}) {
		t.Errorf("%v", got)
	}
}

func TestAckerAtOnce(t *testing.T) {
	a := NewAcker(0, 0)
	a.Received(0, 5, true) // the first: a gap below it is no news
	if a.Due(0) {
		t.Error("the first is due at once")
	}
	a.Sent()
	a.Received(ms, 7, true)
	if !a.Due(ms) {
		t.Error("a gap is not told at once")
	}
	a.Sent()
	a.Received(2*ms, 6, true)
	if !a.Due(2 * ms) {
		t.Error("a late packet is not told at once")
	}
	if d := a.Delay(3 * ms); d != 2*ms {
		t.Errorf("the delay is that of the highest: %v", d)
	}
}

func TestAckerForgets(t *testing.T) {
	a := NewAcker(4, 0)
	for pn := uint64(0); pn < 20; pn += 2 {
		a.Received(0, pn, true)
	}
	if got := a.Ranges(); len(got) != 4 || got[0].Start != 12 {
		t.Errorf("%v", got)
	}
	a.OnAckOfAck(16)
	if got := a.Ranges(); !slices.Equal(got, []interval.Range{{Start: 16, End: 17}, {Start: 18, End: 19}}) {
		t.Errorf("%v", got)
	}
}
