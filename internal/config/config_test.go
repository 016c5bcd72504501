package config

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"

	"sharefs"
	"sharefs/internal/mountopt"
)

func TestTheFileOfANewStoreSaysTheDefaults(t *testing.T) {
	c, err := Parse("share.toml", []byte(File))
	if err != nil || !reflect.DeepEqual(c, Default()) {
		t.Fatalf("%+v, %v", c, err)
	}
	for _, key := range Keys() {
		last := key[strings.LastIndexByte(key, '.')+1:]
		if !strings.Contains(File, last) {
			t.Errorf("the file does not show %s", key)
		}
	}
	if c, err = Parse("share.toml", nil); err != nil || !reflect.DeepEqual(c, Default()) {
		t.Fatalf("an empty file: %+v, %v", c, err)
	}
}

func TestValuesAreTaken(t *testing.T) {
	c, err := Parse("share.toml", []byte("[mount]\npassthrough='off'\natime='noatime'\n[versions]\nsettle='0s'\npause='3s'\n[journal]\nmax_delay='250ms'\ncopy_delay='1m'\n"))
	want := Config{
		Mount: Mount{mountopt.PassthroughOff, mountopt.NoAtime}, Versions: Versions{0, Duration(3 * time.Second)}, Journal: Journal{Duration(250 * time.Millisecond), Duration(time.Minute)},
	}
	want.Retention, want.Peers, want.Space = Default().Retention, Default().Peers, Default().Space
	if err != nil || !reflect.DeepEqual(c, want) {
		t.Fatalf("%+v, %v", c, err)
	}
}

func TestEachErrorNamesFileAndKey(t *testing.T) {
	for text, want := range map[string]string{
		"[versions]\nsetle='1s'":                           "key versions.setle is not known; did you mean versions.settle?",
		"[version]\nsettle='1s'":                           "key version is not known",
		"x=1":                                              "key x is not known",
		"[mount]\natime='never'":                           `mount.atime is "noatime", "relatime" or "strictatime", not "never"`,
		"[mount]\npassthrough='on'":                        `mount.passthrough is "auto" or "off", not "on"`,
		"[versions]\nsettle='5'":                           `line 2: versions.settle: "5" is not a time with its unit, such as "1s"`,
		"[versions]\npause='11m'":                          `versions.pause is from "100ms" to "10m", not "11m0s"`,
		"[versions]\nsettle='-1s'":                         `versions.settle is from "0s" to "24h", not "-1s"`,
		"[peers]\nlisten='7000'":                           `peers.listen is "auto", "off", or an address such as "0.0.0.0:7274", "[::]:7274" or "127.0.0.1:7274", not "7000"`,
		"[journal]\ncopy_delay='2h'":                       `journal.copy_delay is from "100ms" to "1h", not "2h0m0s"`,
		"[journal]\nmax_delay='1h'":                        `journal.max_delay is from "10ms" to "1m", not "1h0m0s"`,
		"[retention]\nall='1s'":                            `line 2: retention.all: "1s" is not a time such as "12h"`,
		"[retention]\nmonthy='1d'":                         "key retention.monthy is not known; did you mean retention.monthly?",
		"[retention]\nmin_versions=-1":                     "retention.min_versions is from 0 to 1000, not -1",
		"[retention]\nquota='20'":                          `line 2: retention.quota: "20" is not a size with its unit, such as "20GiB", or "0": a whole number with KB, MB, GB, TB, KiB, MiB, GiB or TiB`,
		"[retention]\nquota='99999999TB'":                  `line 2: retention.quota: "99999999TB" is not a size`,
		"[[retention.path]]\nall='1d'":                     `retention.path number 1: match is "": a pattern is a name or a path`,
		"[[retention.path]]\nmatch='['":                    `retention.path number 1: match is "[": a bracket of the pattern is not closed`,
		"[[retention.path]]\nmach='a'":                     "key retention.path.mach is not known; did you mean retention.path.match?",
		"[[retention.path]]\nmatch='a'\nmin_versions=1001": `retention.path "a": min_versions is from 0 to 1000, not 1001`,
		"[mount]\natime=1":                                 `line 2: mount.atime: its value is of another type than belongs there: texts, times and sizes stand in quotes`,
		"retention=3":                                      `line 1: retention: its value is of another type`,
		"[versions]\nsettle=true":                          `line 2: versions.settle: `,
		"[retention]\nmin_versions='3'":                    `line 2: retention.min_versions: its value is of another type`,
		"[peers]\nlan='yes'":                               `line 2: peers.lan: its value is of another type`,
		"[mount":                                           "line 1: ",
		"[mount]\natime='x'\natime='y'":                    "line 3: ",
		"[versions]\nsettle='1s'\n\xff='1'":                "line 3: ",
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
	if c, err := Load(path); err != nil || !reflect.DeepEqual(c, Default()) {
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
	for _, seed := range []string{File, "", "[[retention.path]]\nmatch='*.o'\nall='1h'\nmin_versions=1", "[retention]\nquota='3GiB'\nall='forever'\npath=[]", "[mount]\natime=1", "a.b.c=[1,{x=2}]", "[[mount]]", "[versions]\nsettle='1h'", "mount='x'"} {
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
		if again, err := Parse("FILE", out.Bytes()); err != nil || !reflect.DeepEqual(again, c) {
			t.Fatalf("%q becomes %q: %v", text, out.Bytes(), err)
		}
	})
}
