package identity

import "testing"

func TestAProofHoldsForOneEndOfOneSession(t *testing.T) {
	k, other := New(), New()
	binding := [32]byte{1}
	sig := Prove(k.Private(), "hello", binding, true)
	if !Proved(k.ID, "hello", binding, true, sig) {
		t.Fatal("a proof does not hold")
	}
	for name, ok := range map[string]bool{
		"another host":    Proved(other.ID, "hello", binding, true, sig),
		"another purpose": Proved(k.ID, "pair", binding, true, sig),
		"another session": Proved(k.ID, "hello", [32]byte{2}, true, sig),
		"the other end":   Proved(k.ID, "hello", binding, false, sig),
		"cut":             Proved(k.ID, "hello", binding, true, sig[:63]),
		"none":            Proved(k.ID, "hello", binding, true, nil),
	} {
		if ok {
			t.Error(name)
		}
	}
}
