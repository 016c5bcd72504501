package build

import (
	"strings"
	"testing"
)

func TestTheLineNamesReleaseAndPlatform(t *testing.T) {
	i := Read()
	line := i.String()
	for _, part := range []string{Version, i.Go, i.Platform} {
		if part == "" || !strings.Contains(line, part) {
			t.Errorf("%q does not name %q", line, part)
		}
	}
	if got := (Info{Version: "1", Revision: "abc+", Go: "1.2", Platform: "linux/x"}).String(); got != "1 (abc+, go 1.2, linux/x)" {
		t.Error(got)
	}
}
