package config

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"

	"sharefs"
	"sharefs/internal/mountopt"
)

func TestTheFileOfANewStoreSaysTheDefaults(t *testing.T) {
	c, err := Parse("share.toml", []byte(File))
	if err != nil || c != Default() {
		t.Fatalf("%+v, %v", c, err)
	}
	for _, key := range Keys() {
		_, last, _ := strings.Cut(key, ".")
		if !strings.Contains(File, last) {
			t.Errorf("the file does not show %s", key)
		}
	}
	if c, err = Parse("share.toml", nil); err != nil || c != Default() {
		t.Fatalf("an empty file: %+v, %v", c, err)
	}
}

func TestValuesAreTaken(t *testing.T) {
	c, err := Parse("share.toml", []byte("[mount]\npassthrough='off'\natime='noatime'\n[versions]\nsettle='0s'\n[journal]\nmax_delay='250ms'\ncopy_delay='1m'\n"))
	want := Config{
		Mount: Mount{mountopt.PassthroughOff, mountopt.NoAtime}, Versions: Versions{0}, Journal: Journal{Duration(250 * time.Millisecond), Duration(time.Minute)},
	}
	if err != nil || c != want {
		t.Fatalf("%+v, %v", c, err)
	}
}

func TestEachErrorNamesFileAndKey(t *testing.T) {
	for text, want := range map[string]string{
		"[versions]\nsetle='1s'":            "key versions.setle is not known; did you mean versions.settle?",
		"[version]\nsettle='1s'":            "key version is not known",
		"x=1":                               "key x is not known",
		"[mount]\natime='never'":            `mount.atime is "noatime", "relatime" or "strictatime", not "never"`,
		"[mount]\npassthrough='on'":         `mount.passthrough is "auto" or "off", not "on"`,
		"[versions]\nsettle='5'":            `line 2: versions.settle: "5" is not a time with its unit, such as "1s"`,
		"[versions]\nsettle='-1s'":          `versions.settle is from "0s" to "24h", not "-1s"`,
		"[journal]\ncopy_delay='2h'":        `journal.copy_delay is from "100ms" to "1h", not "2h0m0s"`,
		"[journal]\nmax_delay='1h'":         `journal.max_delay is from "10ms" to "1m", not "1h0m0s"`,
		"[mount]\natime=1":                  `line 2 (last key "mount.atime"): incompatible types`,
		"[mount":                            "line 1: ",
		"[mount]\natime='x'\natime='y'":     "line 3: ",
		"[versions]\nsettle='1s'\n\xff='1'": "line 3: ",
	} {
		_, err := Parse("/s/share.toml", []byte(text))
		if err == nil || !strings.HasPrefix(err.Error(), "configuration /s/share.toml: "+want) {
			t.Errorf("%q:\n%v, want\n%s", text, err, want)
		}
		if !errors.Is(err, sharefs.KindInvalid) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: of another kind, or not one line: %q", text, err)
		}
	}
}

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "share.toml")
	if c, err := Load(path); err != nil || c != Default() {
		t.Fatalf("a missing file: %+v, %v", c, err)
	}
	if err := os.WriteFile(path, []byte("[versions]\nsettle='3s'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := Load(path); err != nil || c.Versions.Settle != Duration(3*time.Second) {
		t.Fatalf("%+v, %v", c, err)
	}
	if _, err := Load(t.TempDir()); err == nil {
		t.Fatal("a directory is read as a file")
	}
}

// FuzzParse holds that nothing panics, that every error names the file in one line, and that what is accepted is within its bounds.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{File, "", "[mount]\natime=1", "a.b.c=[1,{x=2}]", "[[mount]]", "[versions]\nsettle='1h'", "mount='x'"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Parse("FILE", text)
		if err != nil {
			if !errors.Is(err, sharefs.KindInvalid) || !strings.HasPrefix(err.Error(), "configuration FILE: ") {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		if err := c.check(); err != nil {
			t.Fatalf("%q: accepted, but %v", text, err)
		}
		var out bytes.Buffer
		if err := toml.NewEncoder(&out).Encode(c); err != nil {
			t.Fatal(err)
		}
		if again, err := Parse("FILE", out.Bytes()); err != nil || again != c {
			t.Fatalf("%q becomes %q: %v", text, out.Bytes(), err)
		}
	})
}
