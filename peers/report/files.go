package report

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"sharefs/internal/term"
)

// Files tells how files travel between this host and a peer. A change is a record: of a name, a content or an attribute.
type Files struct {
	Sends    bool      `json:"sends"`             // the peer is sent what changes here, as soon as it asks for that
	Takes    bool      `json:"takes"`             // it asked for that
	Receives bool      `json:"receives"`          // what it has is taken here
	Lacks    int       `json:"lacks"`             // changes of here that the peer does not have yet; no more than MostLacks are counted
	Waiting  bool      `json:"waiting"`           // changes that the peer has have not come yet
	Trusted  bool      `json:"trusted"`           // what it writes counts here
	Refused  bool      `json:"refused,omitempty"` // it exchanges nothing with this host
	Coming   int       `json:"coming_now"`        // files of which it sends content at present
	Missing  int       `json:"contents_missing"`  // files whose newest content is not here, whoever wrote it
	Others   uint64    `json:"others_left_out"`   // changes by hosts of which nothing counts here that came by it
	Held     int       `json:"held"`              // removals and renames of it that wait for the owner (sharefs held)
	Proposed int       `json:"proposed"`          // files of which it proposes something (sharefs proposed); near the truth
	Sent     uint64    `json:"sent_bytes"`
	Received uint64    `json:"received_bytes"`             // of content, since it is connected
	Rate     float64   `json:"bytes_per_second,omitempty"` // of content, both ways, at present
	Error    string    `json:"error,omitempty"`            // why it does not get on, or what is wrong with what the peer sent
	LeftOut  time.Time `json:"left_out_until,omitzero"`    // nothing is taken of it until then, for it sent what cannot be
}

// Sync tells how this host's tree and what peers said stand to each other: .share/ctl/sync.json.
type Sync struct {
	On        bool      `json:"on"`      // some peer may read all of the share, so changes are written down
	Changes   int       `json:"changes"` // records that are here
	Walking   bool      `json:"walking"` // the tree is being looked at for the first time: not all that is in it is told yet
	Fetching  int       `json:"fetching_now"`
	Receiving int       `json:"coming_now"`              // files of which content comes at present, be it for the tree, for who reads them, or because they are pinned
	Rate      float64   `json:"coming_bytes_per_second"` // of those together
	Coming    []Coming  `json:"coming,omitempty"`        // those, but in what everybody may read
	Contents  int       `json:"contents_missing"`        // files whose newest content is still elsewhere
	Bytes     uint64    `json:"bytes_missing"`           // their size
	Names     int       `json:"names_waiting"`           // names at which the tree is not yet as peers say
	Conflicts int       `json:"conflicts"`
	Held      int       `json:"held"`               // removals and renames in bulk that wait for the owner
	Proposed  int       `json:"proposed"`           // files of which peers propose something
	Overruns  []Overrun `json:"overruns,omitempty"` // of revoked peers, more than is taken back unasked
	LeftOut   []LeftOut `json:"left_out"`           // whose changes do not count here, those with most first
	Troubles  []string  `json:"troubles"`           // what somebody should see to, such as a full disk
	Waits     []string  `json:"waits"`              // why contents are not here, each reason once
}

// Coming is a file of which content comes.
type Coming struct {
	Path     string   `json:"path"`           // from the root of the mount; empty: it has none yet
	Size     uint64   `json:"size"`           // bytes
	Here     uint64   `json:"here"`           // bytes that are here, as far as is known
	Received uint64   `json:"received_bytes"` // that came of it since somebody wanted it
	Rate     float64  `json:"bytes_per_second"`
	From     []string `json:"from"` // peers that send it, the one that sent most first
}

// Text tells of it in one line for people.
func (c *Coming) Text() string {
	name := term.Clean(c.Path)
	if name == "" {
		name = "a file that has no name in the tree"
	}
	text := fmt.Sprintf("%s: %s of %s", name, term.Size(min(c.Here, c.Size)), term.Size(c.Size))
	if len(c.From) > 0 {
		text += " from " + term.Clean(strings.Join(c.From, " and "))
	}
	return text + ", " + term.Size(uint64(c.Rate)) + "/s"
}

// Conflict is a name with several versions of which none knew of the others: .share/ctl/conflicts.json.
type Conflict struct {
	Path  string `json:"path"`
	Sides []Side `json:"sides"` // the one that is live first
}

// Side is one of the versions.
type Side struct {
	Take    string    `json:"take"`   // the word by which it is taken: who wrote it, with a number if he wrote several
	Author  string    `json:"author"` // as it is called here; see [AuthorName]
	By      string    `json:"author_id,omitempty"`
	Live    bool      `json:"live,omitempty"`
	Type    string    `json:"type"` // file, symlink, directory
	Size    uint64    `json:"size"`
	Changed time.Time `json:"changed,omitzero"`
	Target  string    `json:"target,omitempty"` // of a symlink
	Number  uint64    `json:"number,omitempty"` // of the version of the file here that holds it, as in FILE@@NUMBER; 0: its content has not come yet
	ID      string    `json:"id,omitempty"`
	// Base is the number of the version from which this side and those before it went apart; 0 of the first side, of files that have only the name in common, and where its content
	// is not here.
	Base uint64 `json:"base,omitempty"`
}

// Unknown reports whether nothing is known of what the peer lacks, for it takes nothing from this host: it may have all of it by others.
func (f *Files) Unknown() bool { return f.Sends && !f.Takes && !f.Receives }

// Text tells of it in one line for people. While the peer is not connected nothing is known of what it lacks.
func (f *Files) Text() string {
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	switch {
	case !f.Sends && !f.Receives && f.Refused:
		add("no files travel at present: it has granted this host nothing (sharefs grant, there)")
	case !f.Sends && !f.Receives:
		add("no files travel between the two at present")
	case f.Unknown() && !f.Trusted:
		add("it takes no files from here, and none are taken of it: its level here is below write")
	case f.Unknown():
		add("it takes no files from here, and none come from it: it has not granted this host read")
	case !f.Receives && !f.Trusted:
		add("it is sent files, and none are taken of it: its level here is below write")
	case !f.Receives:
		add("it is sent files, and none come from it: it has not granted this host read")
	case !f.Sends:
		add("files are taken of it, and it is sent none")
	}
	if f.Sends && !f.Takes && f.Receives {
		add("it takes no files from here at present")
	}
	if f.Sends && f.Lacks > 0 && !f.Unknown() {
		add("it lacks %s of here", lacks(f.Lacks))
	}
	if f.Receives && f.Waiting {
		add("what it has is still coming")
	}
	if f.Held > 0 {
		add("%d of its removals and renames wait for you (sharefs held)", f.Held)
	}
	if f.Proposed > 0 {
		add("it proposes changes of %s (sharefs proposed)", files(f.Proposed))
	}
	if f.Receives && f.Missing > 0 {
		add("the content of %s is not here yet", files(f.Missing))
	}
	if len(parts) == 0 && f.Others > 0 {
		add("it has every change of here; of what it has, %s by hosts of which nothing counts here %s left out", changes(int(f.Others)), are(f.Others))
	}
	if len(parts) == 0 {
		add("it has every change of here, and this host every one of it")
	}
	if f.Error != "" {
		add("%s", f.Error)
	}
	return strings.Join(parts, "; ")
}

// Text tells of it in lines for people.
func (s *Sync) Text() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	if !s.On {
		line("files do not travel: no peer may read all of the share")
	} else {
		line("%s of here and of peers", changes(s.Changes))
		if s.Walking {
			line("the tree is being looked at for the first time: not all that is in it is told yet")
		}
		line("%d contents that the tree waits for, %d bytes; %d being fetched now", s.Contents, s.Bytes, s.Fetching)
		if n := len(s.Coming); n > 0 {
			line("content of %s comes now, for the tree, for who reads or because of a pin: %s/s", files(n), term.Size(uint64(s.Rate)))
		}
		for i := range s.Coming {
			line("coming: %s", s.Coming[i].Text())
		}
		line("%d names not yet as peers say", s.Names)
		if s.Conflicts == 1 {
			line("1 conflict")
		} else {
			line("%d conflicts", s.Conflicts)
		}
		if s.Held > 0 {
			line("%d removals and renames that wait for the owner (sharefs held)", s.Held)
		}
	}
	for i := range s.LeftOut {
		line("left out: %s", s.LeftOut[i].Text())
	}
	for _, why := range s.Troubles {
		line("trouble: %s", why)
	}
	for _, why := range s.Waits {
		line("waits: %s", why)
	}
	return b.String()
}

// MostLacks is up to where changes are counted that a peer lacks.
const MostLacks = 100_000

func lacks(n int) string {
	if n >= MostLacks {
		return "more than " + changes(MostLacks)
	}
	return changes(n)
}

func files(n int) string {
	if n == 1 {
		return "1 file"
	}
	return strconv.Itoa(n) + " files"
}

func changes(n int) string {
	if n == 1 {
		return "1 change"
	}
	return strconv.Itoa(n) + " changes"
}
