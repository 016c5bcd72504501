package status

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"sharefs/internal/term"
	"sharefs/peers/report"
)

// Room is what content takes on this host, and what of the share is not here by choice.
type Room struct {
	Budget       uint64 `json:"budget_bytes"`   // 0: there is none, all is kept
	Used         uint64 `json:"used_bytes"`     // live files and packs
	Packs        uint64 `json:"pack_bytes"`     // of them: packs, in which history is
	Freeable     uint64 `json:"freeable_bytes"` // of them: files that are neither pinned nor in use, and go where other hosts keep them
	Pinned       uint64 `json:"pinned_bytes"`   // size of the files that are pinned, whether they are here or not
	PinnedFiles  int    `json:"pinned_files"`
	Lacking      uint64 `json:"pinned_missing_bytes"` // of them: not here yet
	LackingFiles int    `json:"pinned_missing_files"`
	Absent       uint64 `json:"absent_bytes"` // of files that are not pinned: not here by choice, and come when they are read
	AbsentFiles  int    `json:"absent_files"`
	// Nobody: no host is known from which that could come, nor what lacks of the pinned files.
	Nobody bool `json:"nobody,omitempty"`
	// Vain is how many files were read in vain since a host came or told something new: none that is connected has them. No more than some are counted.
	Vain int `json:"read_in_vain,omitempty"`
	// OverSince is since when more is used than the budget; zero: it is not.
	OverSince time.Time `json:"over_since,omitzero"`
	// Why pinned files are not here, and how many there are of each.
	Why map[string]int `json:"pinned_missing_why,omitempty"`
}

// In is a size in the units in which the budget was given.
func (r *Room) In(bytes uint64) string { return term.SizeIn(r.Budget, bytes) }

// Lack counts a file that is not pinned and may lack content. One of which all is here, be it that nobody has said so yet, does not count.
func (r *Room) Lack(size, here uint64) {
	if here < size {
		r.AbsentFiles++
		r.Absent += size - here
	}
}

// overPatience is how long more may be here than the budget before somebody should see to it: others take what was written here, and promise to keep it, in that time.
const overPatience = 5 * time.Minute

// Problem says what somebody should see to; empty: nothing.
func (r *Room) Problem(now time.Time) string {
	if r.OverSince.IsZero() || now.Sub(r.OverSince) < overPatience {
		return ""
	}
	return fmt.Sprintf("content takes %s more than the budget of %s since %s: files that were written here go when other hosts that are connected promise to keep them, what is pinned or open stays, and history takes %s: "+
		"connect a host that keeps all, unpin something, raise [space] budget in share.toml, or keep less history (sharefs retain --quota SIZE)",
		r.In(r.Used-min(r.Budget, r.Used)), r.In(r.Budget), term.Second(r.OverSince), r.In(r.Packs))
}

// Forlorn says that nothing can come of what is not here; empty: it can, or all is.
func (r *Room) Forlorn() string {
	files := uint64(r.AbsentFiles + r.LackingFiles)
	if files == 0 || !r.Nobody {
		return ""
	}
	return fmt.Sprintf("%s of %s not here, and no host is known that could have it, so that reading fails: pair with one that has it (sharefs pair), and grant it read or more; sharefs here --absent DIR names the files",
		r.In(r.Absent+r.Lacking), term.Of(files, "file"))
}

// InVain says that reading failed for want of a host that has the content; empty: it did not, or Forlorn says why.
func (r *Room) InVain() string {
	if r.Vain == 0 || r.Nobody {
		return ""
	}
	return term.Of(uint64(r.Vain), "file") + " read in vain since a host last came or told something new: no connected host sends the content (the log names what was read). Connect one that has it (sharefs peers); " +
		"sharefs here --absent DIR names what is not here"
}

// parts tells of it in words for people.
func (r *Room) parts() (parts []string) {
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	switch {
	case r.Used > r.Budget && r.Budget > 0:
		add("%s used, %s more than the budget of %s: what other hosts keep goes by itself", r.In(r.Used), r.In(r.Used-r.Budget), r.In(r.Budget))
	case r.Budget > 0:
		add("%s of the budget of %s used", r.In(r.Used), r.In(r.Budget))
	}
	if r.PinnedFiles > 0 {
		add("%s pinned, %s", term.Of(uint64(r.PinnedFiles), "file"), r.In(r.Pinned))
	}
	if r.Freeable > 0 {
		add("%s can be freed", r.In(r.Freeable))
	}
	if r.AbsentFiles > 0 && !r.Nobody {
		fetches := "reading fetches it"
		if r.Vain > 0 {
			fetches = "reading fetches it where a connected host has it"
		}
		add("%s of %s not here by choice: %s", r.In(r.Absent), term.Of(uint64(r.AbsentFiles), "file"), fetches)
	}
	return parts
}

// lacks tells of what is pinned and not here; empty: all is.
func (r *Room) lacks() string {
	if r.LackingFiles == 0 {
		return ""
	}
	text := fmt.Sprintf("%s of %s still to come", r.In(r.Lacking), term.Of(uint64(r.LackingFiles), "pinned file"))
	var why []string
	for _, reason := range slices.Sorted(maps.Keys(r.Why)) {
		why = append(why, fmt.Sprintf("of %s %s", term.Count(uint64(r.Why[reason])), term.Clean(reason)))
	}
	if len(why) > 0 {
		text += ": " + strings.Join(why, "; ")
	}
	return text
}

// mostComing is how many files a screen tells of that are on their way.
const mostComing = 5

// coming tells of the files that are on their way, the largest first.
func coming(list []report.Coming) (lines []string) {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b report.Coming) int { return -cmp.Compare(a.Size, b.Size) })
	for i := range list[:min(len(list), mostComing)] {
		lines = append(lines, list[i].Text())
	}
	if more := len(list) - mostComing; more > 0 {
		lines = append(lines, "and "+term.Of(uint64(more), "more file"))
	}
	return lines
}
