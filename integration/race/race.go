// Package race has tests leave themselves out of a run with the race detector in which it would have nothing to see.
//
// scripts/test runs the tests of the packages with it, and then those that were left out, without it. So a test that sweeps over every
// place where something can go wrong, or compares thousands of states with a model, does all of that, in a fraction of the time; what
// runs beside each other in the code that it goes through, other tests of its package hold under the race detector.
package race

import "testing"

// Left begins the reason for which a test was left out; scripts/testsum knows the tests to run once more by it.
const Left = "left to the run without the race detector: "

// Reasons: one goroutine does one thing after the other, or what is done beside each other is no other than before.
const (
	OneHand = "one hand, and nothing is done beside it"
	Enough  = "it is more of the same"
)

// Leave skips the test under the race detector, and says why.
func Leave(t testing.TB, why string) {
	t.Helper()
	if Enabled {
		t.Skip(Left + why)
	}
}
