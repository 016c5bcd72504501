package client

import (
	"os"
	"path/filepath"
	"strings"

	"sharefs"
	"sharefs/internal/term"
)

// FromRoot makes a path one from the root of the mount. It is one from the working directory if that lies in the mount, from the root otherwise; one that begins with a
// slash is from the root, or begins with the mount point. What it names need not be there. A path from the root of this host of which more is there outside of the mount
// than in it is refused: whoever wrote it means that one.
func (m *Mount) FromRoot(path string) (string, error) {
	return m.fromRoot(path, func(dir string) string { return dir })
}

// PatternFromRoot is FromRoot for a path with wildcards.
func (m *Mount) PatternFromRoot(path string) (string, error) { return m.fromRoot(path, literal) }

// wild is what means something else than itself in a pattern.
const wild = `*?[\`

// literal is the pattern that means just a path.
func literal(path string) string {
	var b strings.Builder
	for _, c := range []byte(path) {
		if strings.IndexByte(wild, c) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(c)
	}
	return b.String()
}

func (m *Mount) fromRoot(path string, name func(dir string) string) (string, error) {
	inner, ok := strings.CutPrefix(path, m.Point)
	switch {
	case ok && (inner == "" || inner[0] == '/'):
	case filepath.IsAbs(path):
		inner = path
		if names := strings.Split(strings.Trim(path, "/"), "/"); there("/", names) > there(m.Point, names) {
			return "", m.outside(path)
		}
	default:
		dir, err := m.inside()
		if err != nil {
			return "", err
		}
		inner = name(dir) + "/" + path
	}
	var names []string
	for _, one := range strings.Split(inner, "/") {
		last := len(names) - 1
		switch {
		case one == "" || one == ".":
		case one != "..":
			names = append(names, one)
		case last < 0:
			return "", m.outside(path)
		case name("*") != "*" && wildcard(names[last]):
			return "", &sharefs.Error{Path: term.Quote(path), Kind: sharefs.KindInvalid, Detail: "nothing is above a wildcard: write it without .."}
		default:
			names = names[:last]
		}
	}
	return strings.Join(names, "/"), nil
}

// wildcard reports whether a part of a pattern can match other names than one.
func wildcard(name string) bool {
	for i := 0; i < len(name); i++ {
		switch name[i] {
		case '\\':
			i++
		case '*', '?', '[':
			return true
		}
	}
	return false
}

func (m *Mount) outside(path string) error {
	return &sharefs.Error{Path: term.Quote(path), Kind: sharefs.KindInvalid,
		Detail: "lies outside of the mount at " + term.Quote(m.Point) + "; what is in the mount is named from the working directory there, or from its root with a slash before it, as in " + term.Quote("/docs/letter")}
}

// inside is where the working directory lies in the mount; empty: at its root, or elsewhere.
func (m *Mount) inside() (string, error) {
	dir, err := realPath(".")
	if err != nil {
		return "", err
	}
	rest, ok := strings.CutPrefix(dir, m.Point)
	if !ok || rest != "" && rest[0] != '/' {
		return "", nil
	}
	return strings.Trim(rest, "/"), nil
}

// Anywhere writes a path from the root of the mount as [Mount.FromRoot] takes it wherever the user is.
func (m *Mount) Anywhere(path string) string {
	if names := strings.Split(path, "/"); there("/", names) > there(m.Point, names) {
		return m.Point + "/" + path
	}
	return "/" + path
}

// there counts how many of some names, each in the one before, are there below a directory.
func there(dir string, names []string) (n int) {
	for _, name := range names {
		dir = filepath.Join(dir, name)
		if _, err := os.Lstat(dir); err != nil {
			break
		}
		n++
	}
	return n
}

// Travels refuses a path from the root of a mount about which there can be no rule.
func Travels(path string) error {
	dir, _, _ := strings.Cut(ctl, "/")
	if first, _, _ := strings.Cut(path, "/"); first != dir {
		return nil
	}
	return &sharefs.Error{Path: term.Quote(path), Kind: sharefs.KindInvalid, Detail: "nothing in " + dir + " is ever sent to a peer, or taken of one: name files of the share"}
}
