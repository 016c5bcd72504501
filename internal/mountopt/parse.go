package mountopt

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"sharefs"
)

// Parse reads lists of options, each on top of those before it, so that several -o add up. Its errors are [sharefs.Error]
// of KindInvalid or KindNotSupported that name the option.
func Parse(lists ...string) (*Options, error) {
	o := new(Options)
	for _, list := range lists {
		options, err := split(list)
		if err != nil {
			return nil, err
		}
		for _, op := range options {
			if err := o.set(op); err != nil {
				return nil, err
			}
		}
	}
	switch {
	case o.kernelOnly != "" && !o.Remount:
		return nil, notSupported(o.kernelOnly, "the mount sets it by itself")
	case o.Remount && o.Passthrough != "":
		return nil, notSupported("passthrough", "it cannot change in a remount; unmount first")
	case o.Remount && o.Listen != "":
		return nil, notSupported("listen", "it cannot change in a remount; unmount first")
	case o.Remount && o.Passphrase != "":
		return nil, notSupported("passphrase", "it cannot change in a remount; unmount first")
	case o.Remount && o.View != "":
		return nil, notSupported("view", "it cannot change in a remount; unmount first")
	case strings.HasPrefix(o.View, ViewAt):
		o.ReadOnly = yes() // whatever mount(8) puts before it
	}
	return o, nil
}

// option is one element of a list, its value freed of quotes and backslashes.
type option struct {
	name, value string
	hasValue    bool
}

// split cuts a list into its options. Empty elements are skipped, as mount(8) does.
func split(list string) ([]option, error) {
	var (
		out    []option
		cur    option
		text   strings.Builder
		quoted bool
	)
	end := func() {
		if cur.hasValue {
			cur.value = text.String()
		} else {
			cur.name = text.String()
		}
		if cur.name != "" || cur.hasValue {
			out = append(out, cur)
		}
		cur = option{}
		text.Reset()
	}
	for i := 0; i < len(list); i++ {
		c := list[i]
		switch {
		case c == 0:
			return nil, invalid(cur.name, "a zero byte stands in the list of options")
		case c == '\\' && i+1 < len(list) && strings.IndexByte(`,\"`, list[i+1]) >= 0:
			i++
			text.WriteByte(list[i])
		case c == '"' && cur.hasValue:
			quoted = !quoted
		case c == ',' && !quoted:
			end()
		case c == '=' && !cur.hasValue:
			cur.name, cur.hasValue = text.String(), true
			text.Reset()
		default:
			text.WriteByte(c)
		}
	}
	if quoted {
		return nil, invalid(cur.name, "its value has no closing quote")
	}
	end()
	return out, nil
}

// set takes one option up.
func (o *Options) set(op option) error {
	if strings.HasPrefix(op.name, "x-") || strings.HasPrefix(op.name, "X-") {
		return nil // for mount(8) and systemd, not for the filesystem
	}
	s, ok := specs[op.name]
	switch {
	case !ok:
		return unknown(op.name)
	case s.refuse != "":
		return notSupported(op.name, s.refuse)
	case op.hasValue && s.value == nil:
		return invalid(op.name, "takes no value")
	case op.hasValue && (op.value != "" || s.flag != nil):
		return s.value(o, op.value)
	case s.flag == nil:
		return invalid(op.name, "needs a value, such as "+op.name+"="+s.example)
	}
	s.flag(o)
	return nil
}

// ParseSettle reads a settle time: a number with a unit ("1s", "500ms", "2m"), or 0.
func ParseSettle(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	switch {
	case err != nil:
		return 0, invalid("settle", "is a time with its unit, such as 1s, 500ms or 0, not "+s)
	case d < 0:
		return 0, invalid("settle", "cannot be negative: "+s)
	case d > MaxSettle:
		return 0, invalid("settle", "is at most 24h, not "+s)
	}
	return d, nil
}

// Where a store listens for peers, beside an address.
const (
	ListenAuto = "auto" // nowhere until the store has a peer, then on any port, which is kept
	ListenOff  = "off"  // nowhere
)

// ParseListen reads auto, off, or HOST:PORT, where HOST is an IP address, in brackets if it is of version 6, or nothing for all. Port 0: any.
func ParseListen(s string) (string, error) {
	if s == ListenAuto || s == ListenOff {
		return s, nil
	}
	host, port, err := net.SplitHostPort(s)
	if err == nil {
		if _, aerr := netip.ParseAddr(host); host != "" && aerr != nil {
			return "", invalid("listen", "takes an IP address before the port, not "+host)
		}
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return "", invalid("listen", "is auto, off, or an address such as 0.0.0.0:7274, [::]:7274 or 127.0.0.1:7274, not "+s)
	}
	return s, nil
}

// ParsePassthrough reads auto or off.
func ParsePassthrough(s string) (Passthrough, error) {
	switch p := Passthrough(s); p {
	case PassthroughAuto, PassthroughOff:
		return p, nil
	}
	return "", invalid("passthrough", "is auto or off, not "+s)
}

// ParseAtime reads noatime, relatime or strictatime.
func ParseAtime(s string) (Atime, error) {
	switch a := Atime(s); a {
	case NoAtime, RelAtime, StrictAtime:
		return a, nil
	}
	return "", invalid("atime", "is noatime, relatime or strictatime, not "+s)
}

func invalid(name, detail string) error {
	return &sharefs.Error{Op: "option", Path: name, Kind: sharefs.KindInvalid, Detail: detail}
}

func notSupported(name, why string) error {
	return &sharefs.Error{Op: "option", Path: name, Kind: sharefs.KindNotSupported, Detail: "is not supported: " + why}
}

func unknown(name string) error {
	detail := "is not known"
	if near := Nearest(name, Names()); near != "" {
		detail += "; did you mean " + near + "?"
	}
	return invalid(name, detail)
}
