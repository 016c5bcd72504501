package main

import (
	"os"
	"strings"

	"sharefs/internal/store"
	"sharefs/internal/term"
)

// namesakes looks for a directory beside whoever calls that has the name of the store that is asked for: he may mean that. The error says so where the store does not exist
// and the directory is one; the warning where it is used in spite of the directory. What is called by mount(8) has the working directory of somebody else.
func (c *call) namesakes() (warning string, err error) {
	if c.source == "" || strings.ContainsRune(c.source, '/') || c.helper || c.options.Remount {
		return "", nil
	}
	here, err := os.Stat(c.source)
	if err != nil || !here.IsDir() {
		return "", nil
	}
	dir, err := store.Resolve(c.source)
	if err != nil {
		return "", nil // whoever opens it says so
	}
	for _, other := range []string{dir, c.point} { // a store is often mounted at its name
		if same, err := os.Stat(other); err == nil && os.SameFile(here, same) {
			return "", nil
		}
	}
	name, path, named := term.Quote(c.source), term.Quote("./"+c.source), term.Quote(dir)
	exists := store.Looks(dir)
	switch {
	case !exists && store.Looks(c.source):
		return "", usage("a SOURCE without a slash is the name of a store, and there is none called %s (in %s): if the one in the working directory is meant, say %s; for a new one with this name, say %s", name, named, path, named)
	case exists:
		return "the store called " + name + ", in " + named + ", is used, and not the directory of this name in the working directory, which is " + path, nil
	case c.mountsNothing():
		return "", nil
	}
	return "a new store called " + name + " is made in " + named + ", and not in the directory of this name in the working directory, which is " + path, nil
}
