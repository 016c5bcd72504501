package peers

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"sharefs/integration/mounttest"
)

// A sheet that could bring nothing back as of now says so, to whoever prints it, and what is to be done; once it can it says nothing of the kind.
func TestASheetForWhatNobodyKeepsYet(t *testing.T) {
	hs := hosts(t, "", "anna", "bert", "carl")
	a, b, c := hs[0], hs[1], hs[2]
	for _, k := range hs[1:] {
		pairByLink(t, a, k)
		a.must("grant", k.name, "store")
	}
	a.write("f", "content")
	print := func(args ...string) (out, says string) {
		t.Helper()
		var errs bytes.Buffer
		cmd := exec.Command(mounttest.Bin(t, "sharefs"), append([]string{"recovery", "--no-code", "--store", a.Store}, args...)...)
		cmd.Stderr = &errs
		text, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %s", err, errs.String())
		}
		return string(text), errs.String()
	}
	lacks := func(kept bool, names ...string) {
		t.Helper()
		var s struct {
			Kept bool     `json:"kept"`
			Lack []string `json:"not_kept_by"`
		}
		out, _ := print("--json")
		if err := json.Unmarshal([]byte(out), &s); err != nil {
			t.Fatal(err)
		}
		slices.Sort(s.Lack)
		if s.Kept != kept || !slices.Equal(s.Lack, names) || s.Lack == nil {
			t.Errorf("%+v, not %v without %q", s, kept, names)
		}
	}
	mounttest.WaitFor(t, "what the peers take", func() bool { return a.peer("bert").Backup != nil && a.peer("carl").Backup != nil })
	out, says := print()
	if !strings.Contains(out, "recover") || strings.Contains(out, "quota") || !strings.Contains(says, "nothing is kept yet: as of now nothing could be recovered with this sheet") ||
		!strings.Contains(says, "sharefs peers limit anna quota=50GB") {
		t.Errorf("%s\n%s", out, says)
	}
	lacks(false, "bert", "carl")

	b.must("peers", "limit", "anna", "quota=1GB")
	a.backedUp(b)
	if _, says := print(); !strings.Contains(says, "never had all of this store yet: carl.") || strings.Contains(says, "nothing could be recovered") {
		t.Errorf("%s", says)
	}
	lacks(true, "carl")
	c.must("peers", "limit", "anna", "quota=1GB")
	a.backedUp(b, c)
	if _, says := print(); strings.Contains(says, "yet") {
		t.Errorf("%s", says)
	}
	lacks(true)
}
