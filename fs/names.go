package fs

import (
	"strconv"
	"strings"
)

// Virtual names. An ordinary name that was really made wins over each of them, but nothing can be made under
// shareName in the root.
const (
	shareName = ".share"   // in the root, left out of its listing
	ctlName   = "ctl"      // in .share
	atName    = "at"       // in .share
	everName  = "versions" // in .share
	pastMark  = "@@"       // FILE@@, FILE@@3, FILE@@2026-11-20, DIR@@, DIR@@2026-11-20
	logName   = "log"      // in FILE@@
	metaName  = "meta"     // in FILE@@
)

// splitPast takes FILE@@SUFFIX apart at its last mark, so that a file whose own name holds one has a past as well.
func splitPast(name string) (file, suffix string, ok bool) {
	i := strings.LastIndex(name, pastMark)
	// In "a@@@" the mark is the last two signs.
	if i <= 0 {
		return "", "", false
	}
	return name[:i], name[i+len(pastMark):], true
}

// isPast reports whether a name has the form of one in a file's past.
func isPast(name string) bool {
	_, _, ok := splitPast(name)
	return ok
}

// versionNumber reads the number of a version in the only form it is written: decimal, no sign, no leading zero.
func versionNumber(s string) (uint64, bool) {
	if s == "" || s[0] < '1' || s[0] > '9' {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 63)
	return n, err == nil
}
