package main

import (
	"strings"
	"testing"

	"sharefs/internal/client"
)

// Of a file that is not all here it is never said that it is, however sizes are rounded and whatever its blocks take.
func TestHowMuchIsHere(t *testing.T) {
	const kib = 1 << 10
	var out strings.Builder
	a := &app{out: &out}
	if err := a.listHere([]client.Presence{
		{Path: "a", Size: 200 * kib, Here: 204 * kib, State: client.HerePartial},
		{Path: "b", Size: 100<<20 + 1, Here: 100 << 20, State: client.HerePartial},
		{Path: "c", Size: 200 * kib, Here: 40 * kib, State: client.HerePartial},
		{Path: "d", Size: 200 * kib, Here: 204 * kib, State: client.HereFull},
		{Path: "e", Size: 200 * kib, State: client.HereAbsent},
	}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	want := "partial nearly all of 200 KiB a|partial nearly all of 100 MiB b|partial 40 KiB of 200 KiB c|full 200 KiB of 200 KiB d|absent 0 B of 200 KiB e"
	if s := strings.Join(got, "|"); s != want {
		t.Errorf("%s, not %s", s, want)
	}
}
