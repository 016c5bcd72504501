package mountopt

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"sharefs"
)

func TestWhatMountAndFstabHandOver(t *testing.T) {
	second := time.Second
	zero := time.Duration(0)
	for list, want := range map[string]Options{
		"":               {},
		",,":             {},
		"ro":             {ReadOnly: yes()},
		"ro,rw":          {ReadOnly: no()},
		"rw,remount,ro":  {ReadOnly: yes(), Remount: true},
		"noatime":        {Atime: NoAtime},
		"noatime,atime":  {Atime: RelAtime},
		"strictatime":    {Atime: StrictAtime},
		"noexec,exec":    {Exec: yes()},
		"user":           {Exec: no(), Suid: no(), Dev: no()},
		"user=alice,dev": {Exec: no(), Suid: no(), Dev: yes()},
		"defaults,noauto,nofail,_netdev,x-systemd.automount,x-gvfs-name=a b,comment=hello,X-mount.mkdir": {},
		"ro,user,defaults":                         {ReadOnly: yes(), Exec: no(), Suid: no(), Dev: no()},
		"allow_other,default_permissions,nonempty": {AllowOther: true, NonEmpty: true, KernelChecks: true},
		"settle=1s,passthrough=off":                {Settle: &second, Passthrough: PassthroughOff},
		"listen=127.0.0.1:0,passphrase=/p":         {Listen: "127.0.0.1:0", Passphrase: "/p"},
		"listen=off,listen=[::]:70":                {Listen: "[::]:70"},
		"settle=0":                                 {Settle: &zero},
		`store=/srv/a\,b,fsname="c,d"`:             {Store: "/srv/a,b", Source: "c,d"},
		"view=all":                                 {View: ViewAll},
		"view=all,view=live":                       {},
		"rw,view=at:2026-11-20T10:00":              {View: "at:2026-11-20T10:00", ReadOnly: yes()},
		`store=/a=b`:                               {Store: "/a=b"},
		`store=/back\\slash,fsname=\"q\"`:          {Store: `/back\slash`, Source: `"q"`},
		"rw,nosuid,nodev,relatime,user_id=0,group_id=0,max_read=1,remount,ro": {ReadOnly: yes(), Remount: true, Suid: no(), Dev: no(), Atime: RelAtime, kernelOnly: "max_read"},
	} {
		got, err := Parse(list)
		if err != nil {
			t.Errorf("%q: %v", list, err)
			continue
		}
		if !reflect.DeepEqual(*got, want) {
			t.Errorf("%q gives %s, want %s", list, got, &want)
		}
	}
}

func TestSeveralListsAddUp(t *testing.T) {
	got, err := Parse("ro,settle=2s", "rw,noatime")
	if err != nil || Is(got.ReadOnly, true) || got.Atime != NoAtime || *got.Settle != 2*time.Second {
		t.Fatalf("%v, %v", got, err)
	}
}

func TestEachErrorNamesItsOption(t *testing.T) {
	for list, want := range map[string]string{
		"rw,noatme":               "option noatme: is not known; did you mean noatime?",
		"zzz":                     "option zzz: is not known",
		"ro=1":                    "option ro: takes no value",
		"settle":                  "option settle: needs a value, such as settle=1s",
		"settle=":                 "option settle: needs a value, such as settle=1s",
		"settle=5":                "option settle: is a time with its unit, such as 1s, 500ms or 0, not 5",
		"listen=7000":             "option listen: is auto, off, or an address such as 0.0.0.0:7274, [::]:7274 or 127.0.0.1:7274, not 7000",
		"listen=host:7000":        "option listen: takes an IP address before the port, not host",
		"listen=:70000":           "option listen: is auto, off, or an address such as 0.0.0.0:7274, [::]:7274 or 127.0.0.1:7274, not :70000",
		"remount,listen=off":      "option listen: is not supported: it cannot change in a remount; unmount first",
		"settle=-1s":              "option settle: cannot be negative: -1s",
		"settle=48h":              "option settle: is at most 24h, not 48h",
		"passthrough=maybe":       "option passthrough: is auto or off, not maybe",
		`fsname="open`:            "option fsname: its value has no closing quote",
		"view=past":               "option view: is live, all, or at:TIME, not past",
		"view=at:":                "option view: needs a time or the name of a snapshot, such as view=at:yesterday",
		"view":                    "option view: needs a value, such as view=at:yesterday",
		"remount,view=all":        "option view: is not supported: it cannot change in a remount; unmount first",
		"sync":                    "option sync: is not supported: programs that need it call fsync(2), which is honoured",
		"bind":                    "option bind: is not supported: it works on a mount that is there, and mount(8) does it alone",
		"user_id=5":               "option user_id: is not supported: the mount sets it by itself",
		"subtype=ext4":            "option subtype: is always sharefs here, not ext4",
		"remount,passthrough=off": "option passthrough: is not supported: it cannot change in a remount; unmount first",
		"allow_root":              "option allow_root: is not supported: use allow_other",
		"=x":                      "option: is not known",
		"ro\x00,rw":               "option: a zero byte stands in the list of options",
		strings.Repeat("a", 99):   "option " + strings.Repeat("a", 99) + ": is not known",
	} {
		_, err := Parse(list)
		if err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", list, err, want)
		}
		if err != nil && !errors.Is(err, sharefs.KindInvalid) && !errors.Is(err, sharefs.KindNotSupported) {
			t.Errorf("%q: of another kind: %v", list, err)
		}
	}
}

func TestEveryOptionSaysWhatItDoes(t *testing.T) {
	for name, s := range specs {
		if s.refuse == "" && s.flag == nil && s.value == nil {
			t.Errorf("%s does nothing", name)
		}
		if s.value != nil && s.flag == nil && s.example == "" {
			t.Errorf("%s needs a value and shows none", name)
		}
	}
}

func TestWhatTheKernelKeeps(t *testing.T) {
	for _, c := range []struct {
		list string
		root bool
		want string
	}{
		{"", true, ""},
		{"", false, "nosuid nodev"},
		{"ro,noexec,nosuid,nodev,noatime,nosymfollow", true, "ro noexec nosuid nodev nosymfollow noatime"},
		{"users,exec", true, "nosuid nodev"},
		{"ro,rw,strictatime,defaults", true, "strictatime"},
		{"strictatime,defaults", false, "nosuid nodev"},
		{"relatime", false, "nosuid nodev"},
		{"noatime", false, "nosuid nodev noatime"},
		{"default_permissions", true, "default_permissions"},
	} {
		o, err := Parse(c.list)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := o.Kernel(c.root); err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%q root=%v: %s, %v, want %s", c.list, c.root, got, err, c.want)
		}
	}
	o, err := Parse("nodev,suid")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.Kernel(false); err == nil || err.Error() != "option suid: only root may mount with it" {
		t.Error(err)
	}
}

func TestNearestFindsSlipsOnly(t *testing.T) {
	for name, want := range map[string]string{"setle": "settle", "noatime": "noatime", "xx": "", "r0": "", "allow-other": "allow_other"} {
		if got := Nearest(name, Names()); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// FuzzParse holds that nothing panics and that what is accepted, written and read again is the same.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"ro,noatime,settle=1s", `store=/a\,b,fsname="c,d"`, "remount,rw,user_id=0", `x-y="`, "settle=-1h", "view=at:-2h,rw", "user=a,exec", "\\"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, list string) {
		o, err := Parse(list)
		if err != nil {
			var e *sharefs.Error
			if !errors.As(err, &e) || e.Op != "option" {
				t.Fatalf("%q: an error of another type: %v", list, err)
			}
			return
		}
		again, err := Parse(o.String())
		if err != nil {
			t.Fatalf("%q becomes %q: %v", list, o, err)
		}
		o.kernelOnly = ""
		if !reflect.DeepEqual(o, again) {
			t.Fatalf("%q becomes %q, which is read as %q", list, o, again)
		}
	})
}
