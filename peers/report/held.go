package report

import "time"

// Held is what waits for the owner's yes or no of the removals and renames of one peer: .share/ctl/held.json.
type Held struct {
	Peer     string     `json:"peer"`
	ID       string     `json:"id"`
	Since    time.Time  `json:"since"` // the first one came
	Removals int        `json:"removals"`
	Renames  int        `json:"renames"`
	Before   int        `json:"counted_before"` // removals and renames within the same time that had counted when it was too much
	Names    []HeldName `json:"names"`          // by path; not all where they are very many
	Counted  []HeldName `json:"counted"`        // those of counted_before that a rejection puts back as well, by the paths that they have then
}

// HeldName is a name that would go, or be another one; of what had counted, one that is gone, or is another one.
type HeldName struct {
	Path string `json:"path"`
	Type string `json:"type"`         // file, directory
	To   string `json:"to,omitempty"` // the other name; none: it is a removal
}
