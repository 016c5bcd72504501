package config

import (
	"reflect"
	"testing"

	"sharefs/internal/retain"
)

func TestRetention(t *testing.T) {
	d := Default()
	if got := d.Retention.Policy(); !reflect.DeepEqual(got, retain.DefaultPolicy()) {
		t.Errorf("by default %+v", got)
	}
	c, err := Parse("share.toml", []byte(`
[retention]
all = "12h"
weekly = "0"
yearly = "forever"
min_versions = 0
quota = "20GiB"
[[retention.path]]
match = "*.o"
all = "1h"
min_versions = 1
[[retention.path]]
match = "docs/"
monthly = "10y"
`))
	if err != nil {
		t.Fatal(err)
	}
	want := retain.Policy{
		Rules: retain.Rules{All: 12 * retain.Hour, Hourly: retain.Week, Daily: 30 * retain.Day, Yearly: retain.Forever}, Quota: 20 << 30,
		Paths: []retain.Path{
			{Match: "*.o", Rule: retain.Rule{Rules: retain.Rules{All: retain.Hour}, MinVersions: 1}},
			{Match: "docs/", Rule: retain.Rule{Rules: retain.Rules{Monthly: 10 * retain.Year}, MinVersions: 3}},
		},
	}
	if got := c.Retention.Policy(); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}
