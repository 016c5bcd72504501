package esp

import "testing"

// TestCIDMemory holds that what is remembered of the table is forgotten with every change of it.
func TestCIDMemory(t *testing.T) {
	var tab cidTable
	tab.init()
	var m cidMemory
	a, b := new(Session), new(Session)
	check := func(cid uint64, want *Session) {
		t.Helper()
		for range 2 { // the second time from memory
			en, ok := m.get(&tab, cid)
			if ok != (want != nil) || en.s != want {
				t.Errorf("CID %d: %p %v, want %p", cid, en.s, ok, want)
			}
		}
	}
	check(0, nil)
	check(1, nil)
	tab.set(1, cidEntry{s: a})
	check(1, a)
	tab.set(1, cidEntry{s: b})
	check(1, b)
	tab.add(2, cidEntry{s: a})
	check(2, a)
	check(1, b)
	tab.remove(1, b)
	check(1, nil)
	check(2, a)
	tab.close(2, a, []byte{1})
	if en, ok := m.get(&tab, 2); !ok || en.closed == nil {
		t.Errorf("a closed session: %+v %v", en, ok)
	}
}
