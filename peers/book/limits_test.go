package book

import (
	"errors"
	"strings"
	"testing"

	"sharefs"
)

func TestLimits(t *testing.T) {
	b := newBook(t)
	b.add(t, 1, "a")
	b.add(t, 2, "b")
	if l := b.Limits(id(1)); l != (Limits{}) || l.String() != "" {
		t.Errorf("%+v", l)
	}
	for _, c := range []struct {
		change string
		want   string
	}{
		{"up=10MB/s", "up=10MB/s"},
		{"down=1500KB", "up=10MB/s down=1500KB/s"},
		{"quota=50GB records=2000000", "up=10MB/s down=1500KB/s quota=50GB records=2000000"},
		{"domain=office", "up=10MB/s down=1500KB/s quota=50GB records=2000000 domain=office"},
		{"domain=none", "up=10MB/s down=1500KB/s quota=50GB records=2000000"},
		{"up=none quota=64GiB", "down=1500KB/s quota=64GiB records=2000000"},
	} {
		if _, err := b.Limit("a", strings.Fields(c.change)...); err != nil {
			t.Fatal(err)
		}
		b.again(t)
		if got := b.Limits(id(1)).String(); got != c.want {
			t.Errorf("%s: %s, want %s", c.change, got, c.want)
		}
		var again Limits // what it says can be said to it
		for _, word := range strings.Fields(c.want) {
			name, value, _ := strings.Cut(word, "=")
			if err := again.Set(name, value); err != nil {
				t.Error(err)
			}
		}
		if again != b.Limits(id(1)) {
			t.Errorf("%+v", again)
		}
	}
	if l := b.Limits(id(2)); l != (Limits{}) {
		t.Errorf("another peer: %+v", l)
	}
	before := b.Limits(id(1))
	for _, change := range []string{"up=9KB/s", "up=2TB/s", "up=0", "up", "up=", "up=fast", "up=10", "quota=1KB", "quota=50GB/s", "records=1", "records=2GB", "records=99999999999", "speed=1MB/s", "domain=", "domain=../x", "domain=two words", "up=none down=1"} {
		if _, err := b.Limit("a", strings.Fields(change)...); !errors.Is(err, sharefs.KindInvalid) {
			t.Errorf("%s: %v", change, err)
		}
	}
	if l := b.Limits(id(1)); l != before {
		t.Errorf("%+v", l)
	}
	// What somebody wrote into the file is held to the same bounds.
	bad := strings.Replace(string(b.text), `"records": 2000000`, `"records": 2`, 1)
	if _, err := Open([]byte(bad), b.save); !errors.Is(err, sharefs.KindCorrupt) || !strings.Contains(err.Error(), "records is 1000 at least") {
		t.Error(err)
	}
}
