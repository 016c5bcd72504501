package posix

import (
	"embed"
	"fmt"
	"path"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

//go:embed scripts/*.txt
var scripts embed.FS

// Cases returns the whole suite, in a fixed order.
func Cases() []Case { return append(scriptCases(), goCases...) }

// goCases are added to by the files cases_*.go.
var goCases []Case

var scriptCases = sync.OnceValue(func() []Case {
	entries, err := scripts.ReadDir("scripts")
	if err != nil {
		panic(err)
	}
	var all []Case
	for _, e := range entries {
		b, err := scripts.ReadFile("scripts/" + e.Name())
		if err != nil {
			panic(err)
		}
		cs, err := parseScript(strings.TrimSuffix(e.Name(), path.Ext(e.Name())), string(b))
		if err != nil {
			panic(err) // a fault of the suite, found by its first run anywhere
		}
		all = append(all, cs...)
	}
	return all
})

// line is one call of a script.
type line struct {
	no     int
	as     *Cred
	errnos []string // one of these is expected; none: success
	words  []string // the call's name and arguments
	want   []string // key=value, or a bare value
}

type variable struct {
	name   string
	values []string
}

// parseScript reads one file of cases.
func parseScript(family, text string) ([]Case, error) {
	var out []Case
	var name string
	var vars []variable
	var root bool
	var body []string
	var first int
	flush := func() error {
		if name == "" {
			return nil
		}
		cs, err := expand(family, name, vars, root, body, first)
		out = append(out, cs...)
		return err
	}
	for i, l := range strings.Split(text, "\n") {
		if t := strings.TrimSpace(l); t == "" || strings.HasPrefix(t, "#") {
			if name != "" {
				body = append(body, "")
			}
			continue
		}
		if head, ok := strings.CutPrefix(l, "case "); ok {
			if err := flush(); err != nil {
				return nil, err
			}
			part := strings.Split(head, ";")
			name, vars, root, body, first = strings.TrimSpace(part[0]), nil, false, nil, i+2
			for _, p := range part[1:] {
				p = strings.TrimSpace(p)
				k, v, ok := strings.Cut(p, "=")
				switch {
				case p == "root":
					root = true
				case ok:
					vars = append(vars, variable{k, strings.Split(v, ",")})
				default:
					return nil, fmt.Errorf("%s:%d: %q is neither root nor a variable", family, i+1, p)
				}
			}
			continue
		}
		if name == "" {
			return nil, fmt.Errorf("%s:%d: a call before the first case", family, i+1)
		}
		body = append(body, l)
	}
	return out, flush()
}

// expand makes one case for each combination of the variables' values.
func expand(family, name string, vars []variable, root bool, body []string, first int) ([]Case, error) {
	if len(vars) > 0 {
		var out []Case
		v := vars[0]
		for _, value := range v.values {
			label, value, ok := strings.Cut(value, "~")
			if !ok {
				value = label
			}
			fill := strings.NewReplacer("{"+v.name+"}", value)
			b := make([]string, len(body))
			for i := range body {
				b[i] = fill.Replace(body[i])
			}
			n := strings.ReplaceAll(name, "{"+v.name+"}", label)
			if n == name {
				n += " " + v.name + "=" + label
			}
			cs, err := expand(family, n, vars[1:], root, b, first)
			if err != nil {
				return nil, err
			}
			out = append(out, cs...)
		}
		return out, nil
	}
	var lines []line
	for i, l := range body {
		if l == "" {
			continue
		}
		ln, err := parseLine(l)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", family, first+i, err)
		}
		ln.no = first + i
		for _, w := range ln.words {
			root = root || w == "block" || w == "char"
		}
		root = root || ln.as != nil
		lines = append(lines, ln)
	}
	return []Case{{Name: family + "/" + name, Root: root, Run: func(c *C) {
		for _, ln := range lines {
			c.m.exec(ln)
		}
	}}}, nil
}

func parseLine(s string) (line, error) {
	var ln line
	call, want, _ := strings.Cut(s, "=>")
	ln.want = strings.Fields(want)
	w := strings.Fields(call)
	if len(w) > 1 && w[0] == "as" {
		c, err := parseCred(w[1])
		if err != nil {
			return ln, err
		}
		ln.as, w = &c, w[2:]
	}
	if len(w) == 0 {
		return ln, fmt.Errorf("no call in %q", s)
	}
	if strings.HasPrefix(w[0], "E") {
		ln.errnos, w = strings.Split(w[0], "|"), w[1:]
		for _, e := range ln.errnos {
			if _, ok := errnoByName[e]; !ok {
				return ln, fmt.Errorf("unknown error %q", e)
			}
		}
	}
	if len(w) == 0 {
		return ln, fmt.Errorf("no call in %q", s)
	}
	if c, ok := calls[w[0]]; !ok {
		return ln, fmt.Errorf("unknown call %q", w[0])
	} else if n := len(w) - 1; n < c.min || n > c.max {
		return ln, fmt.Errorf("%s takes %d to %d arguments: %q", w[0], c.min, c.max, s)
	}
	for i := range w {
		var err error
		if w[i], err = fillNames(w[i]); err != nil {
			return ln, err
		}
	}
	ln.words = w
	for i := range ln.want {
		var err error
		if ln.want[i], err = fillNames(ln.want[i]); err != nil {
			return ln, err
		}
	}
	return ln, nil
}

// fillNames replaces {name:N} and {path:N}.
func fillNames(s string) (string, error) {
	for {
		a := strings.IndexByte(s, '{')
		if a < 0 {
			return s, nil
		}
		b := strings.IndexByte(s[a:], '}')
		if b < 0 {
			return s, fmt.Errorf("unclosed brace in %q", s)
		}
		kind, num, _ := strings.Cut(s[a+1:a+b], ":")
		n, err := strconv.Atoi(num)
		if err != nil {
			return s, fmt.Errorf("unknown variable %q", s[a:a+b+1])
		}
		var v string
		switch kind {
		case "name":
			v = strings.Repeat("n", n)
		case "path":
			v = longPath(n)
		default:
			return s, fmt.Errorf("unknown variable %q", s[a:a+b+1])
		}
		s = s[:a] + v + s[a+b+1:]
	}
}

// longPath returns a relative path of n bytes.
func longPath(n int) string {
	const part = 200
	var b strings.Builder
	for b.Len()+part+1 < n {
		b.WriteString(strings.Repeat("p", part))
		b.WriteByte('/')
	}
	b.WriteString(strings.Repeat("q", n-b.Len()))
	return b.String()
}

var errnoByName = func() map[string]unix.Errno {
	m := map[string]unix.Errno{}
	for e := unix.Errno(1); e < 134; e++ {
		if name := unix.ErrnoName(e); name != "" {
			m[name] = e
		}
	}
	return m
}()

func caller() (pc uintptr, file string, line int) {
	pc, file, line, _ = runtime.Caller(2)
	return pc, file, line
}
