package report

import "time"

// Proposed is what a peer proposes: .share/ctl/peers/NAME/proposed.json.
type Proposed struct {
	Peer    string     `json:"peer"`
	ID      string     `json:"id"`
	Changes []Proposal `json:"changes"` // by path
}

// What a peer proposes to do.
const (
	Added   = "added"
	Changed = "changed"
	Removed = "removed"
	Renamed = "renamed"
)

// Proposal is one thing that is otherwise in the tree of a peer than in the live one.
type Proposal struct {
	What       string    `json:"what"`
	Path       string    `json:"path"`             // in the peer's tree; of what is removed in the live one
	From       string    `json:"from,omitempty"`   // where a thing that is renamed is here
	Type       string    `json:"type"`             // file, symlink, directory
	Content    bool      `json:"content"`          // it has another content there, or is new
	Attributes bool      `json:"attributes"`       // it has other permissions or extended attributes there
	Times      bool      `json:"times"`            // somebody set another time of its last change there, behind the content that it has here
	Beside     bool      `json:"beside"`           // the content here has changed too, without the peer knowing of it: to accept it is to overrule that
	Size       uint64    `json:"size"`             // bytes, of the proposed content, or of what is removed
	Before     uint64    `json:"size_here"`        // of the content here
	Time       time.Time `json:"changed,omitzero"` // of the proposed content, or the one that was set
	Target     string    `json:"target,omitempty"` // of a symlink
}

// Decided is what became of a command that accepts or rejects what a peer proposes: .share/ctl/decided.json has the last ones.
type Decided struct {
	Asked string     `json:"asked_as"`
	Peer  string     `json:"peer"`
	Done  []Proposal `json:"done"`
	Left  []NotTaken `json:"left"`
}

// NotTaken is what could not be accepted.
type NotTaken struct {
	Path string `json:"path"`
	Why  string `json:"why"`
}
