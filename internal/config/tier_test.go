package config

import (
	"strings"
	"testing"

	"sharefs"
)

func TestTier(t *testing.T) {
	for _, c := range []struct {
		text string
		want Place
	}{
		{`url = "s3://s3.example.com/photos/a/b"`, Place{"s3.example.com", "photos", "a/b/", false}},
		{`url = "s3://s3.example.com:9000/photos/"`, Place{"s3.example.com:9000", "photos", "", false}},
		{`url = "s3://127.0.0.1:9000/photos"`, Place{"127.0.0.1:9000", "photos", "", true}},
		{`url = "s3://[::1]:9000/photos"`, Place{"[::1]:9000", "photos", "", true}},
		{`url = "s3://localhost/photos"`, Place{"localhost", "photos", "", true}},
		{"url = 's3://localhost/photos'\nhttp = false\nrate = '1MiB'\ncredentials = '/k'\nregion = 'x'", Place{"localhost", "photos", "", false}},
		{"url = 's3://h/photos'\nhttp = true", Place{"h", "photos", "", true}},
	} {
		cfg, err := Parse("share.toml", []byte("[tier]\n"+c.text))
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		if got, err := cfg.Tier.Place(); err != nil || got != c.want {
			t.Errorf("%s: %+v, %v", c.text, got, err)
		}
	}
	for _, c := range []struct{ text, want string }{
		{`url = "https://h/b"`, "tier.url is such as"}, {`url = "s3://h"`, "tier.url is such as"}, {`url = "s3:///b"`, "tier.url is such as"},
		{`url = "s3://me:secret@h/b"`, "no place for credentials"}, {`url = "s3://h/b?x=1"`, "tier.url is such as"}, {`url = "s3://h/b/../c"`, "has an empty part"},
		{`url = "s3://h/b/c//d"`, "has an empty part"}, {"region = 'x'", "of no use without tier.url"}, {"url = 's3://h/b'\nrate = '1KiB'", "tier.rate"}, {"url = 's3://h/b'\ncache = '1MiB'", "tier.cache"},
		{"url = 's3://h/b'\ncredentials = 'k'", "tier.credentials"}, {"url = 's3://h/b'\ntake_over = 'a'", "tier.take_over"}, {"ulr = ''", "did you mean tier.url"},
	} {
		if _, err := Parse("share.toml", []byte("[tier]\n"+c.text)); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", c.text, err)
		}
	}
	if cfg, err := Parse("share.toml", []byte(File)); err != nil || cfg.Tier != (Tier{}) {
		t.Errorf("by default there is a bucket: %+v, %v", cfg.Tier, err)
	}
}

func TestSetTier(t *testing.T) {
	values := map[string]string{"url": "s3://new/b/p", "credentials": "/keys"}
	for what, c := range map[string]struct{ text, want string }{
		"without one":     {"# mine\n[versions]\nsettle = \"2s\"", "# mine\n[versions]\nsettle = \"2s\"\n\n[tier]\ncredentials = \"/keys\"\nurl = \"s3://new/b/p\"\n"},
		"with one":        {"[tier]\nurl = \"s3://old/b\" # was\nrate = \"2MiB\"\n[mount]\n", "[tier]\ncredentials = \"/keys\"\nurl = \"s3://new/b/p\"\nrate = \"2MiB\"\n[mount]\n"},
		"as it is":        {"[tier] # here\ncredentials=\"/keys\"\nurl=\"s3://new/b/p\"\n", "[tier] # here\ncredentials = \"/keys\"\nurl = \"s3://new/b/p\"\n"},
		"of another name": {"[mount]\natime = \"noatime\"\n[tier]\nurl = \"s3://old/b\"\n", "[mount]\natime = \"noatime\"\n[tier]\ncredentials = \"/keys\"\nurl = \"s3://new/b/p\"\n"},
		"empty":           {"", "\n[tier]\ncredentials = \"/keys\"\nurl = \"s3://new/b/p\"\n"},
	} {
		got, err := SetTier([]byte(c.text), "share.toml", values)
		if err != nil || string(got) != c.want {
			t.Errorf("%s: %v\n%s", what, err, got)
		}
	}
	if got, err := SetTier([]byte(File), "share.toml", values); err != nil || !strings.HasPrefix(string(got), File) {
		t.Errorf("%v\n%s", err, got)
	}
	for what, text := range map[string]string{"dotted": "tier.url = \"s3://old/b\"\n", "inline": "tier = { url = \"s3://old/b\" }\n", "nonsense": "[["} {
		if got, err := SetTier([]byte(text), "share.toml", values); sharefs.KindOf(err) != sharefs.KindInvalid {
			t.Errorf("%s: %v\n%s", what, err, got)
		}
	}
}
