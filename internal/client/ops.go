package client

import (
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"sharefs"
	"sharefs/internal/term"
)

// opsDir is where a mount tells which command changed what.
const opsDir = ".share/ops"

// Operation is one command that changed something, as .share/ops tells it.
type Operation struct {
	ID      string           `json:"id"`    // the moment before it: .share/at/ID is the tree before it
	After   string           `json:"after"` // .share/at/AFTER is the tree after it
	UID     uint32           `json:"uid"`
	Group   uint32           `json:"process_group"`
	Command string           `json:"command"`
	Label   string           `json:"label,omitempty"`
	Author  string           `json:"author_id,omitempty"` // the host that made the changes, where that is another one
	By      string           `json:"author,omitempty"`    // what it is called here
	Counts  sharefs.OpCounts `json:"counts"`
	Ended   bool             `json:"ended"`
	Partly  bool             `json:"partly"` // not all changes are listed
	Changes []OpChange       `json:"changes,omitempty"`
}

// OpChange is one change; paths are from the root of the mount, "" where there was nothing.
type OpChange struct {
	Verb        string `json:"verb"`
	Before      string `json:"before,omitempty"`
	After       string `json:"after,omitempty"`
	BeforeBytes []byte `json:"before_bytes,omitempty"` // of paths that are not UTF-8
	AfterBytes  []byte `json:"after_bytes,omitempty"`
	Moved       bool   `json:"moved,omitempty"`
}

// Paths returns where the change was made, before and after, whatever bytes are in them.
func (c *OpChange) Paths() (before, after string) {
	before, after = c.Before, c.After
	if len(c.BeforeBytes) > 0 {
		before = string(c.BeforeBytes)
	}
	if len(c.AfterBytes) > 0 {
		after = string(c.AfterBytes)
	}
	return before, after
}

// What is the command, or who made the changes if another host did.
func (o *Operation) What() string {
	if o.Author != "" {
		return "by " + o.By
	}
	return o.Command
}

// UnmarshalJSON reads what a mount tells of it, where the author is an id.
func (o *Operation) UnmarshalJSON(text []byte) error {
	type plain Operation
	told := struct {
		*plain
		Author string `json:"author"`
	}{plain: (*plain)(o)}
	if err := json.Unmarshal(text, &told); err != nil {
		return err
	}
	o.Author, o.By = told.Author, told.Author
	return nil
}

// nameAuthors says what the hosts are called that made changes.
func (m *Mount) nameAuthors(all []Operation) {
	var name func(sharefs.PeerID) string
	for i := range all {
		id, err := sharefs.ParsePeerID(all[i].Author)
		if all[i].Author == "" || err != nil {
			continue
		}
		if name == nil {
			name = m.Authors()
		}
		all[i].By = name(id)
	}
}

// Time is the moment before the operation.
func (o *Operation) Time() time.Time {
	t, _ := time.Parse(time.RFC3339, o.ID)
	return t
}

// Operations lists the operations of the user, the newest first; root and the owner of the mount see those of all.
func (m *Mount) Operations() (all []Operation, err error) {
	err = m.readOps("log.json", &all)
	m.nameAuthors(all)
	return all, err
}

// Operation reads one operation with its changes. The id is the moment before it, as the lists have it.
func (m *Mount) Operation(id string) (*Operation, error) {
	one := make([]Operation, 1)
	o := &one[0]
	err := m.readOps(id, o)
	m.nameAuthors(one)
	if sharefs.KindOf(err) == sharefs.KindNotExist {
		err = &sharefs.Error{Path: term.Quote(id), Kind: sharefs.KindNotExist, Detail: "is no operation of yours; sharefs op log lists them"}
	}
	return o, err
}

func (m *Mount) readOps(name string, v any) error {
	path := filepath.Join(m.Point, opsDir, name)
	text, err := os.ReadFile(path)
	if err != nil {
		return pathError(path, err)
	}
	if err := json.Unmarshal(text, v); err != nil {
		return &sharefs.Error{Op: "read the operations of", Path: term.Quote(m.Point), Kind: sharefs.KindCorrupt, Err: err}
	}
	return nil
}

// Begin tells the mount what this process does from now on; it is an operation of its own.
func (m *Mount) Begin(label string) error {
	path := filepath.Join(m.Point, opsDir, "begin")
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return pathError(path, err)
	}
	_, err = f.WriteString(label + "\n")
	if err2 := f.Close(); err == nil {
		err = err2
	}
	if err != nil {
		return pathError(path, err)
	}
	return nil
}

// ViewDir is the whole mount at a moment, written as the operations have it.
func (m *Mount) ViewDir(moment string) (*Dir, error) {
	d, err := OpenDir(filepath.Join(m.Point, atDir, moment))
	if err != nil {
		return nil, err
	}
	// Of a moment that retention has not kept the mount shows the last one before it that it has.
	// Operations are told in the zone of the mount: zones differ by quarters of an hour.
	const form, quarter = "2006-01-02T15:04:05.000", 15 * time.Minute
	if at, err := time.Parse(form, moment); err == nil && at.Sub(d.Time.Truncate(time.Millisecond))%quarter != 0 {
		return nil, &sharefs.Error{Op: "look at", Path: term.Quote(m.Point), Kind: sharefs.KindNotExist,
			Detail: "retention has removed the tree as it was at " + moment + "; what is kept before that is of " + TimeText(d.Time)}
	}
	return d, nil
}
