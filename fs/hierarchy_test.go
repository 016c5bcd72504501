package fs

import (
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/versions"
)

// shelf is a hierarchy of files in memory; what ends in a slash is a directory, what begins with "->" leads elsewhere.
type shelf struct {
	mu    sync.Mutex // guards what follows
	held  map[string]string
	shown bool
	fail  error // of whoever reads
}

type text struct {
	*strings.Reader
	fail error
}

func (r text) ReadAt(p []byte, off int64) (int, error) {
	if r.fail != nil {
		return 0, r.fail
	}
	return r.Reader.ReadAt(p, off)
}

func (text) Close() error { return nil }

func (s *shelf) set(path, what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[path] = what; what == "" {
		delete(s.held, path)
	}
}

func (s *shelf) entry(path, what string) Entry {
	o := Entry{Name: path[strings.LastIndex(path, "/")+1:]}
	o.Attr.Mode, o.Attr.Size, o.Attr.Mtime = sharefs.ModeRegular|0o644, uint64(len(what)), sharefs.Time(1e9)
	h := fnv.New64a()
	io.WriteString(h, what)
	o.ID = h.Sum64()
	if target, ok := strings.CutPrefix(what, "->"); ok {
		o.Target, o.Attr.Mode = target, sharefs.ModeSymlink|0o777
		return o
	}
	fail := s.fail
	o.Open = func() (versions.VersionReader, error) { return text{strings.NewReader(what), fail}, nil }
	return o
}

func (s *shelf) find(path string) (Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if what, ok := s.held[path]; ok {
		return s.entry(path, what), nil
	}
	for p := range s.held {
		if path == "" || strings.HasPrefix(p, path+"/") {
			return Entry{Name: path[strings.LastIndex(path, "/")+1:], Attr: sharefs.Attr{Mode: sharefs.ModeDir | 0o500}}, nil
		}
	}
	return Entry{}, sharefs.KindNotExist
}

func (s *shelf) list(path string) (all []Entry, err error) {
	s.mu.Lock()
	names := map[string]bool{}
	for p := range s.held {
		if rest, ok := strings.CutPrefix(p, path+"/"); ok || path == "" {
			if !ok {
				rest = p
			}
			name, _, _ := strings.Cut(rest, "/")
			names[name] = true
		}
	}
	s.mu.Unlock()
	for name := range names {
		o, err := s.find(strings.TrimPrefix(path+"/"+name, "/"))
		if err != nil {
			return nil, err
		}
		all = append(all, o)
	}
	return all, nil
}

func (s *shelf) there() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shown
}

func TestHierarchy(t *testing.T) {
	s := &shelf{held: map[string]string{"bert/d/a": "one", "bert/d/deep/b": "two", "bert/link": "->d/a", "cleo/x": "three"}, shown: true}
	m := mountTree(t, true, func(c *Config) {
		c.Hierarchies = []Hierarchy{{Name: "peers", Shown: s.there, Find: s.find, List: s.list}}
	})
	if got := m.names(".share"); got != "at ctl ops peers trash versions" {
		t.Errorf(".share lists %s", got)
	}
	if got := m.names(".share/peers"); got != "bert cleo" {
		t.Errorf("it lists %s", got)
	}
	m.holds(".share/peers/bert/d/deep/b", "two")
	m.holds(".share/peers/bert/link", "one")
	if st := m.stat(".share/peers/bert/d/a"); st.Mode != unix.S_IFREG|0o644 || st.Size != 3 || st.Mtim.Sec != 1 || st.Nlink != 1 {
		t.Errorf("%+v", st)
	}
	if st := m.stat(".share/peers/bert/d"); st.Mode != unix.S_IFDIR|0o500 {
		t.Errorf("mode %o", st.Mode)
	}
	for _, c := range []struct {
		what string
		err  error
		want unix.Errno
	}{
		{"writing", os.WriteFile(m.path(".share/peers/bert/d/a"), nil, 0), unix.EROFS},
		{"making", os.WriteFile(m.path(".share/peers/bert/new"), nil, 0o600), unix.EROFS},
		{"removing", os.Remove(m.path(".share/peers/bert/d/a")), unix.EROFS},
		{"renaming", os.Rename(m.path(".share/peers/bert/d"), m.path(".share/peers/e")), unix.EROFS},
		{"what is not there", unix.Access(m.path(".share/peers/bert/none"), unix.F_OK), unix.ENOENT},
		{"in a file", unix.Access(m.path(".share/peers/bert/d/a/b"), unix.F_OK), unix.ENOTDIR},
	} {
		want(t, c.what, c.err, c.want)
	}
	// Another content under the same path, also for who had the name open.
	dir, err := os.Open(m.path(".share/peers/bert/d"))
	ok(t, err)
	defer dir.Close()
	before := m.stat(".share/peers/bert/d/a").Ino
	s.set("bert/d/a", "another, and longer")
	m.holds(".share/peers/bert/d/a", "another, and longer")
	if m.stat(".share/peers/bert/d/a").Ino == before {
		t.Error("another content has the same node")
	}
	s.set("bert/d/a", "one")
	m.holds(".share/peers/bert/d/a", "one")
	s.set("bert/d/c", "comes")
	s.set("bert/d/deep/b", "")
	if got := m.names(".share/peers/bert/d"); got != "a c" {
		t.Errorf("it lists %s", got)
	}
	// More than one piece of a listing.
	for i := range 1000 {
		s.set(fmt.Sprintf("many/%04d", i), "x")
	}
	if got := strings.Fields(m.names(".share/peers/many")); len(got) != 1000 || got[0] != "0000" || got[999] != "0999" {
		t.Errorf("%d names", len(got))
	}
	// What cannot be had is an error of reading, not of looking.
	s.mu.Lock()
	s.fail = &sharefs.Error{Kind: sharefs.KindUnreachable}
	s.mu.Unlock()
	s.set("cleo/y", "elsewhere")
	if _, err := os.Stat(m.path(".share/peers/cleo/y")); err != nil {
		t.Error(err)
	}
	_, err = os.ReadFile(m.path(".share/peers/cleo/y"))
	want(t, "reading what is elsewhere", err, unix.EHOSTUNREACH)
	// Not there, and there again.
	s.mu.Lock()
	s.shown = false
	s.mu.Unlock()
	m.until("a listing without it", func() bool { return m.names(".share") == "at ctl ops trash versions" })
	want(t, "a hierarchy that is not shown", unix.Access(m.path(".share/peers"), unix.F_OK), unix.ENOENT)
}

// FILE@@SUFFIX may be what peers wrote; whatever the past of the file knows by that name counts first.
func TestSides(t *testing.T) {
	s := &shelf{held: map[string]string{"file@@bert": "of bert", "new@@bert": "not here yet", "file@@tagged": "never seen", "file@@1": "never seen", "file@@yesterday": "never seen", "link@@bert": "->there"}}
	var m *mounted
	var past sharefs.Ino
	m = mountTree(t, true, func(c *Config) {
		c.Side = func(dir sharefs.Ino, file, suffix string) (Entry, error) {
			if suffix == "anna" {
				return Entry{Past: past, Number: 1}, nil
			}
			if dir != sharefs.RootIno {
				return Entry{}, sharefs.KindNotExist
			}
			return s.find(file + "@@" + suffix)
		}
	})
	m.write("file", "first")
	m.released()
	m.commit("file", "")
	past = sharefs.Ino(m.stat("file").Ino)
	m.tag("file", "tagged")
	m.write("file", "second")
	m.released()
	m.commit("file", "")
	ok(t, os.Mkdir(m.path("dir"), 0o755))
	m.holds("file@@bert", "of bert")
	m.holds("new@@bert", "not here yet")
	m.holds("file@@anna", "first")
	m.holds("file@@1", "first")
	m.holds("file@@tagged", "first")
	if m.stat("file@@anna").Ino != m.stat("file@@1").Ino {
		t.Error("a version of the history is another file")
	}
	if target, err := os.Readlink(m.path("link@@bert")); err != nil || target != "there" {
		t.Errorf("%q, %v", target, err)
	}
	for _, name := range []string{"file@@cleo", "file@@yesterday", "dir/file@@bert", "@@bert"} {
		want(t, name, unix.Access(m.path(name), unix.F_OK), unix.ENOENT)
	}
	want(t, "writing", os.WriteFile(m.path("file@@bert"), nil, 0), unix.EROFS)
	s.set("file@@bert", "of bert, later")
	m.holds("file@@bert", "of bert, later")
}
