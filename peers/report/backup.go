package report

import (
	"fmt"
	"time"

	"sharefs/internal/term"
)

// Backup tells what a peer of the level store keeps for this host: all of the past, sealed.
type Backup struct {
	Files        int       `json:"files"` // that it has, of which the store can be made anew
	Bytes        int64     `json:"bytes"`
	Complete     time.Time `json:"complete,omitzero"` // when it had all of it the last time
	BacklogFiles int       `json:"backlog_files"`     // that it lacks
	BacklogBytes int64     `json:"backlog_bytes"`
	Behind       time.Time `json:"behind_since,omitzero"`
	Sent         uint64    `json:"sent_bytes"` // since the mount began
	Used         uint64    `json:"used_bytes"` // of the quota there, as it said last
	Quota        uint64    `json:"quota_bytes"`
	Damaged      int       `json:"damaged"`               // files that it found to be damaged there, and that it gets again
	Error        string    `json:"error,omitempty"`       // why it does not get on
	Allow        string    `json:"allow,omitempty"`       // it takes nothing, for it has no quota for this host: the command that sets one, there
	Refused      bool      `json:"refused,omitempty"`     // and will not before somebody has seen to it
	Full         *Full     `json:"full,omitempty"`        // it does not get on for it has no room there
	PutBack      time.Time `json:"put_back,omitzero"`     // when it was found to have lost what it was given
	Checked      time.Time `json:"checked,omitzero"`      // when it proved to have what it was asked for
	Proved       int       `json:"proved"`                // files that it was asked for then
	Failed       time.Time `json:"failed,omitzero"`       // when it could not prove it, the last time
	Wrong        int       `json:"wrong"`                 // files for which it could not, since the mount began
	CheckError   string    `json:"check_error,omitempty"` // why it could not be asked
}

// allowText says that the peer takes nothing, with the way out.
func (b *Backup) allowText() string {
	return "it takes nothing, for no quota is set for this host there; on that host: " + b.Allow
}

// NoQuota says that the peer takes nothing for there is no quota for this host; allow is the command that sets one there.
func (b *Backup) NoQuota(allow string) {
	b.Allow = allow
	b.Error = b.allowText()
}

// Short tells of it in a few words.
func (b *Backup) Short() string {
	switch {
	case b.Full != nil && b.Full.Disk:
		return "no room there: the disk is full"
	case b.Full != nil:
		return "no room there: " + term.SizeIn(b.Quota, b.Used) + " of " + term.SizeIn(b.Quota, b.Quota) + " used"
	case b.Allow != "":
		return b.allowText()
	case b.Error != "":
		return b.Error
	case b.Failed.After(b.Checked):
		return fmt.Sprintf("it could not prove to have %d files: they are sent again", b.Wrong)
	case b.Complete.IsZero() || !b.Behind.IsZero():
		return "it is sent the past, sealed"
	}
	return "it keeps the past, sealed"
}

// Lines tells of it for people.
func (b *Backup) Lines() (out []string) {
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	switch {
	case b.Complete.IsZero() && b.Error == "":
		add("it is being given all of the past, sealed: it lacks %d files, %s", b.BacklogFiles, term.SizeIn(b.Quota, uint64(b.BacklogBytes)))
	case b.Complete.IsZero() && b.Allow != "":
	case b.Complete.IsZero():
		add("it is not known yet what it keeps")
	case b.Behind.IsZero():
		add("it keeps all of the past, sealed: %d files, %s, as of %s", b.Files, term.SizeIn(b.Quota, uint64(b.Bytes)), when(b.Complete))
	default:
		add("it keeps the past as of %s, sealed: %d files, %s; it lacks %d files, %s, since %s", when(b.Complete), b.Files, term.SizeIn(b.Quota, uint64(b.Bytes)), b.BacklogFiles, term.SizeIn(b.Quota, uint64(b.BacklogBytes)), when(b.Behind))
	}
	if b.Error != "" {
		add("%s", b.Error)
	}
	if !b.PutBack.IsZero() {
		add("at %s it had lost what it was given, and got it again", when(b.PutBack))
	}
	if b.Damaged > 0 {
		add("%d files are damaged there, and are sent again", b.Damaged)
	}
	switch {
	case b.Failed.After(b.Checked):
		add("at %s it could not prove to have %d files: they are sent again", when(b.Failed), b.Wrong)
	case !b.Checked.IsZero():
		add("at %s it proved to have %d files that were picked at random", when(b.Checked), b.Proved)
	}
	if b.CheckError != "" {
		add("it could not be asked for a proof: %s", b.CheckError)
	}
	return out
}

// Keeps tells what this host keeps for a peer.
type Keeps struct {
	Files    int       `json:"files"`
	Bytes    uint64    `json:"bytes"`
	Quota    uint64    `json:"quota_bytes"` // 0: nothing more is taken
	Damaged  int       `json:"damaged"`
	Wants    string    `json:"wants,omitempty"`   // it wants to give a backup and has no quota: the command that sets one
	Full     *Full     `json:"full,omitempty"`    // there is no room for what is to come
	Scrubbed time.Time `json:"scrubbed,omitzero"` // when all of it had been read back the last time
}

// Text tells of it in one line for people.
func (k *Keeps) Text() string {
	text := "nothing for it"
	if k.Files > 0 || k.Quota > 0 {
		text = fmt.Sprintf("%s for it, %s", term.Of(uint64(k.Files), "sealed file"), term.SizeIn(k.Quota, k.Bytes))
	}
	switch {
	case k.Quota > 0:
		text += " of " + term.SizeIn(k.Quota, k.Quota)
	case k.Wants != "":
		text += "; " + k.WantsText()
	default:
		text += "; nothing more is taken, for it has no quota"
	}
	if k.Damaged > 0 {
		text += fmt.Sprintf("; %d are damaged, which it is told", k.Damaged)
	}
	if full := k.FullText(); full != "" {
		text += "; " + full
	}
	return text
}

// WantsText says, with the way out, that the peer wants to give something and has no quota; empty: it does not, or k is nil.
func (k *Keeps) WantsText() string {
	if k == nil || k.Wants == "" {
		return ""
	}
	return "it wants to keep a backup here and has no quota: " + k.Wants + " sets one"
}
