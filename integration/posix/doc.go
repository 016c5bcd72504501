// Package posix is a suite of what a POSIX filesystem on Linux does, for any directory: run it on a disk that is known to be right and
// on the one in question, and [Compare] what came out. Nothing of it knows ShareFS.
//
// Most cases are scripts (scripts/*.txt, one file for each family of system calls); what takes concurrency, mappings or many
// files is Go (cases_*.go). A script reads
//
//	case NAME; VAR=a,b,c; root         one case for each value; "root": needs privileges
//		as 65534:65534:100 EACCES open f O_RDWR
//		lstat f => type=regular mode=0644 nlink=2
//
// A line is a call, after "as UID[:GID[:GROUP,…]]" made by somebody else than the suite's own user, after an errno (or several, joined by |)
// expected to fail so, and with "=>" expected to give these values. {VAR} stands for the case's variable (a value may be LABEL~TEXT,
// where the label goes into the case's name), {name:N} for a name of N bytes, {path:N}
// for a path of N bytes in components of 200. [Machine] lists the calls.
//
// Each case runs in a directory of its own on a thread of its own, whose user, groups, umask and working directory are its own as well
// (Linux keeps them for each thread), so that no case needs a process to be somebody else.
package posix
