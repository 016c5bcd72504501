package status

import (
	"strings"
	"testing"
	"time"
)

// More than the budget is told of with how much, however little; it is a problem once it stays.
func TestRoomBeyondTheBudget(t *testing.T) {
	r := Room{Budget: 95 << 20, Used: 95<<20 + 300<<10, OverSince: noon}
	if text := strings.Join(r.parts(), "; "); !strings.Contains(text, "95 MiB used, 300 KiB more than the budget of 95 MiB: what other hosts keep goes by itself") {
		t.Error(text)
	}
	if why := r.Problem(noon.Add(overPatience - time.Second)); why != "" {
		t.Error(why)
	}
	if why := r.Problem(noon.Add(overPatience)); !strings.Contains(why, "300 KiB more than the budget of 95 MiB since") {
		t.Error(why)
	}
	r = Room{Budget: 95 << 20, Used: 95 << 20}
	if text := strings.Join(r.parts(), "; "); text != "95 MiB of the budget of 95 MiB used" || r.Problem(noon) != "" {
		t.Error(text, r.Problem(noon))
	}
}

// A file of which all is here is not absent, be it that nobody has looked whether it is.
func TestLack(t *testing.T) {
	var r Room
	for _, f := range [][2]uint64{{100, 4096}, {4096, 4096}, {8192, 4096}, {100, 0}} {
		r.Lack(f[0], f[1])
	}
	if r.AbsentFiles != 2 || r.Absent != 4096+100 {
		t.Errorf("%+v", r)
	}
}
