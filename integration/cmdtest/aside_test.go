package cmdtest

import (
	"os"
	"strings"
	"testing"

	"sharefs"
	"sharefs/integration/mounttest"
)

// What a host puts aside for a moment where names change is no file that somebody removed.
func TestWhatWasPutAsideIsNotTold(t *testing.T) {
	mounttest.Each(t, func(t *testing.T, m *mounttest.Mount) {
		m.Configure(patient)
		typed(t, m, "mkdir d; echo a > "+sharefs.LimboName+"a; echo b > removed; echo c > d/"+sharefs.LimboName+"c")
		moment(t, m)
		typed(t, m, "rm "+sharefs.LimboName+"a removed d/"+sharefs.LimboName+"c")
		moment(t, m)
		names := func(dir string) (text string) {
			entries, err := os.ReadDir(m.Path(dir))
			ok(t, err)
			for _, e := range entries {
				text += e.Name() + "\n"
			}
			return text
		}
		for what, text := range map[string]string{"find --deleted": must(t, m.Dir, "find", "--deleted"), "the trash": names(".share/trash")} {
			if !strings.Contains(text, "removed") || !strings.Contains(text, sharefs.LimboName+"c") || strings.Contains(text, sharefs.LimboName+"a") {
				t.Errorf("%s: %s", what, text)
			}
		}
	})
}
