package fs

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hanwen/go-fuse/v2/fuse"

	"sharefs"
	"sharefs/versions"
)

// .share/ops tells what was changed by which command, to each user of their own commands alone, and to root and the owner of the mount of all: log
// for people, log.json for programs, and a file for each with its changes, by the moment before it. A program that writes a line to begin says
// what it is about to do; what it changes from then on is an operation of its own.
const (
	opsName      = "ops"
	opsLogName   = "log"
	opsJSONName  = "log.json"
	opsBeginName = "begin"
	opsListed    = 1000   // in the logs
	opsNamed     = 100    // in the listing of the directory
	opsLooked    = 50_000 // of others, passed over for it: some microseconds each
)

// opsFiles are the files of .share/ops beside those of the operations.
var opsFiles = [...]struct {
	name string
	kind nodeKind
}{{opsLogName, opsLog}, {opsJSONName, opsLogJSON}, {opsBeginName, opsBegin}}

// OpInfo is an operation in .share/ops/log.json, and in a file of its own with its changes.
type OpInfo struct {
	ID      string           `json:"id"`    // the moment before it, RFC 3339, milliseconds, UTC: .share/at/ID is the tree before it
	After   string           `json:"after"` // .share/at/AFTER is the tree after it
	UID     uint32           `json:"uid"`
	Group   uint32           `json:"process_group"` // 0: not known
	Command string           `json:"command"`
	Label   string           `json:"label,omitempty"`  // what the program said that it does
	Author  string           `json:"author,omitempty"` // id of the host that made the changes, where that is another one
	Counts  sharefs.OpCounts `json:"counts"`
	Ended   bool             `json:"ended"`  // otherwise it is at work, or the daemon was killed meanwhile
	Partly  bool             `json:"partly"` // not all changes are listed
	Changes []OpPathInfo     `json:"changes,omitempty"`
}

// OpPathInfo is one change; paths are from the root of the mount. Those that are not UTF-8 are in the fields of bytes.
type OpPathInfo struct {
	Verb        string `json:"verb"`
	Before      string `json:"before,omitempty"`
	After       string `json:"after,omitempty"`
	BeforeBytes []byte `json:"before_bytes,omitempty"`
	AfterBytes  []byte `json:"after_bytes,omitempty"`
	Moved       bool   `json:"moved,omitempty"` // what was at Before is at After
}

// seesAll reports whether a caller may be told of everybody.
func (e *edge) seesAll(h *fuse.InHeader) bool {
	return h.Uid == 0 || h.Uid == e.owner.Uid || !e.viewers.several
}

// lookupOps finds a name in .share/ops.
func (e *edge) lookupOps(h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	for _, f := range opsFiles {
		if f.name == name {
			return e.enter(nodeKey{kind: f.kind}, out)
		}
	}
	id, ok := operationID(name)
	if !ok {
		return fuse.ENOENT
	}
	o, _, err := e.tree.Operation(id)
	switch {
	case err != nil:
		return status(err)
	case o.UID != h.Uid && !e.seesAll(h):
		return fuse.ENOENT
	}
	return e.enter(nodeKey{kind: opsFile, at: id}, out)
}

// operationID reads the moment before an operation as log.json has it, and as log has it.
func operationID(text string) (sharefs.HLC, bool) {
	at, err := time.Parse("2006-01-02T15:04:05.000Z07:00", text)
	if err != nil {
		if at, err = time.ParseInLocation(opTime, text, time.Local); err != nil {
			return 0, false
		}
	}
	return sharefs.HLCAt(at) | 0xffff, true
}

// opTime is how the moment before an operation is written for people.
const opTime = "2006-01-02T15:04:05.000"

// operations calls fn for those that a caller may be told of, newest first, among the latest of all users.
func (e *edge) operations(h *fuse.InHeader, limit int, fn func(*versions.Operation) bool) error {
	all := e.seesAll(h)
	looked := 0
	return e.tree.Operations(sharefs.MaxHLC, func(o *versions.Operation) bool {
		if !all && o.UID != h.Uid {
			looked++
			return looked < opsLooked
		}
		limit--
		return fn(o) && limit > 0
	})
}

// listOps lists .share/ops.
func (e *edge) listOps(h *fuse.InHeader, add func(name string, off uint64, k nodeKey) bool) fuse.Status {
	off := uint64(offDotDot + 1)
	for _, f := range opsFiles {
		if !add(f.name, off, nodeKey{kind: f.kind}) {
			return fuse.OK
		}
		off++
	}
	return status(e.operations(h, opsNamed, func(o *versions.Operation) bool {
		off++
		return add(versionTime(o.ID), off-1, nodeKey{kind: opsFile, at: o.ID})
	}))
}

// opsText is .share/ops/log: a line for each operation, the newest first.
//
//	ID  UID  COUNTS  COMMAND [(LABEL)], or by HOST where another one made the changes
func (e *edge) opsText(h *fuse.InHeader) ([]byte, error) {
	var b strings.Builder
	err := e.operations(h, opsListed, func(o *versions.Operation) bool {
		fmt.Fprintf(&b, "%s  %d  %s  %s", o.ID.Time().Format(opTime), o.UID, countsText(&o.Counts), printable(o.Command))
		if !o.Author.IsZero() {
			b.WriteString("by " + o.Author.Short())
		}
		if o.Label != "" {
			b.WriteString("  (" + printable(o.Label) + ")")
		}
		if !o.Ended {
			b.WriteString("  not ended")
		}
		b.WriteByte('\n')
		return true
	})
	return []byte(b.String()), err
}

// countsText says what was changed in a few words.
func countsText(c *sharefs.OpCounts) string {
	var words []string
	for kind, n := range c.All() {
		words = append(words, fmt.Sprintf("%s %d", kind, n))
	}
	if len(words) == 0 {
		return "nothing"
	}
	return strings.Join(words, ", ")
}

// printable makes what a program said fit for a line.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			return '?'
		}
		return r
	}, s)
}

func opInfo(o *versions.Operation) OpInfo {
	info := OpInfo{
		ID: versionTime(o.ID), After: versionTime(o.After), UID: o.UID, Group: o.Process, Command: strings.ToValidUTF8(o.Command, "?"),
		Label: strings.ToValidUTF8(o.Label, "?"), Counts: o.Counts, Ended: o.Ended, Partly: o.Partly,
	}
	if !o.Author.IsZero() {
		info.Author = o.Author.String()
	}
	return info
}

func (e *edge) opsJSON(h *fuse.InHeader) ([]byte, error) {
	list := []OpInfo{}
	err := e.operations(h, opsListed, func(o *versions.Operation) bool {
		list = append(list, opInfo(o))
		return true
	})
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(list)
	return append(text, '\n'), err
}

// opJSON is the file of one operation.
func (e *edge) opJSON(h *fuse.InHeader, id sharefs.HLC) ([]byte, error) {
	o, changes, err := e.tree.Operation(id)
	switch {
	case err != nil:
		return nil, err
	case o.UID != h.Uid && !e.seesAll(h):
		return nil, sharefs.KindAccess
	}
	info := opInfo(o)
	may, err := e.entrance(h)
	if err != nil {
		return nil, err
	}
	paths, all, err := e.tree.OperationPaths(o, changes, may)
	if err != nil {
		return nil, err
	}
	info.Partly = info.Partly || !all
	for _, p := range paths {
		c := OpPathInfo{Verb: p.Verb.String(), Moved: p.Moved}
		c.Before, c.BeforeBytes = textOrBytes(p.Before)
		c.After, c.AfterBytes = textOrBytes(p.After)
		info.Changes = append(info.Changes, c)
	}
	text, err := json.Marshal(info)
	return append(text, '\n'), err
}

func textOrBytes(s string) (string, []byte) {
	if utf8.ValidString(s) {
		return s, nil
	}
	return "", []byte(s)
}

// openOps opens a file of .share/ops for whoever asks.
func (e *edge) openOps(k nodeKey, in *fuse.OpenIn, reads, writes bool) (*open, error) {
	o := &open{}
	h := in.InHeader
	var err error
	switch {
	case k.kind == opsBegin && reads, k.kind != opsBegin && writes:
		return nil, sharefs.KindAccess
	case k.kind == opsBegin:
		who := caller(&h)
		o.ctl = &CtlFile{Write: func(line string) error {
			line = strings.TrimRight(line, "\n")
			if line == "" || len(line) > sharefs.NameMax || !utf8.ValidString(line) {
				return sharefs.KindInvalid
			}
			e.tree.NameOperation(who, line)
			return nil
		}}
	case k.kind == opsLog:
		o.text, err = e.opsText(&h)
	case k.kind == opsLogJSON:
		o.text, err = e.opsJSON(&h)
	default:
		o.text, err = e.opJSON(&h, k.at)
	}
	return o, err
}

// attrOps completes the attributes of a node of .share/ops. Who may read what is seen to when it is opened.
func attrOps(k nodeKey, a *sharefs.Attr) {
	switch k.kind {
	case opsDir:
		a.Mode, a.Nlink = sharefs.ModeDir|0o555, 2
	case opsBegin:
		a.Mode = sharefs.ModeRegular | 0o222
	case opsFile:
		a.Mode = sharefs.ModeRegular | 0o444
		at := sharefs.Time(k.at.Time().UnixNano())
		a.Mtime, a.Ctime, a.Btime = at, at, at
	default:
		a.Mode = sharefs.ModeRegular | 0o444
	}
}

// isOps reports whether a node is one of .share/ops.
func (k nodeKey) isOps() bool {
	return k.kind == opsDir || k.kind == opsLog || k.kind == opsLogJSON || k.kind == opsBegin || k.kind == opsFile
}

// trashTime is how the moment of something in the trash stands behind its name.
func trashTime(at sharefs.HLC) string { return at.Time().Format(opTime) }
