package cmdtest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sharefs/integration/mounttest"
)

// What stands in many an fstab is for ordinary users too, though fusermount3 does not know each word.
func TestEveryoneMayNameTheUsualOptions(t *testing.T) {
	mounttest.EachMode(t, func(t *testing.T, _ mounttest.Mode) {
		point, dir := place(t)
		for options, rule := range map[string]string{
			"defaults": "relatime", "defaults,noatime": "noatime", "relatime": "relatime", "strictatime": "strictatime", "noatime,atime": "relatime",
			"defaults,user,nofail,_netdev,x-systemd.automount": "relatime",
		} {
			mustMount(t, "--store", dir, "-o", options, point)
			if text, err := os.ReadFile(filepath.Join(point, ".share/ctl/ctl")); err != nil || !strings.Contains(string(text), "set atime="+rule+"\n") {
				t.Errorf("%s: %q, %v", options, text, err)
			}
			unmount(t, point)
		}
	})
}
