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

func TestAckerAsked(t *testing.T) {
	a := NewAcker(0, 0)
	if a.Ask(); a.Due(time.Hour) {
		t.Error("it is due though nothing was received")
	}
	if a.Received(ms, 0, true); !a.Due(ms) {
		t.Error("it waits though it was asked for")
	}
	a.Sent()
	if a.Received(2*ms, 1, true); a.Due(2 * ms) {
		t.Error("it is asked for still")
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

// TestAnswered follows packets each of which is answered without an acknowledgement: it is due in eights, or after the
// delay, and at once when two come in a row or one is missing.
func TestAnswered(t *testing.T) {
	a := NewAcker(64, 5*ms)
	for pn := range uint64(ackAnswered) {
		if a.Ripe() {
			t.Fatalf("ripe after %d packets", pn)
		}
		a.Received(ms, pn, true)
		if a.Due(2 * ms) {
			t.Fatalf("due after %d packets that were answered", pn)
		}
		a.Answered()
	}
	if !a.Ripe() || !a.Pending() || a.Due(2*ms) || !a.Due(6*ms) {
		t.Errorf("after %d packets: ripe %v, pending %v, due %v, later %v", ackAnswered, a.Ripe(), a.Pending(), a.Due(2*ms), a.Due(6*ms))
	}
	a.Sent()
	if a.Ripe() || a.Pending() {
		t.Error("pending after an acknowledgement")
	}
	a.Received(7*ms, ackAnswered, true)
	a.Answered()
	a.Received(7*ms, ackAnswered+1, true)
	if a.Due(7 * ms) {
		t.Error("due although the first of two was answered")
	}
	a.Received(7*ms, ackAnswered+2, true)
	if !a.Due(7 * ms) {
		t.Error("not due after two in a row")
	}
	a.Answered()
	if !a.Due(7 * ms) {
		t.Error("an answer without an acknowledgement has made it undue")
	}
	a.Sent()
	a.Received(8*ms, ackAnswered+4, true)
	a.Answered()
	if !a.Due(8 * ms) {
		t.Error("not due although a packet is missing")
	}
}
