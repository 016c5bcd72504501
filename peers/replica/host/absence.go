package host

import (
	"errors"
	"sync"

	"sharefs"
	"sharefs/peers/record"
	"sharefs/peers/replica"
	"sharefs/versions"
)

// Absence says which contents stay where they are, so that files of them are made absent here. Nil: none do.
type Absence struct {
	Of func(v *record.Version) bool

	mu    sync.Mutex // guards whole
	whole map[string]bool
}

// mostWhole bounds the contents that are remembered to be wanted whole after all.
const mostWhole = 1000

// Stays reports whether a content stays where it is.
func (a *Absence) Stays(v *record.Version) bool {
	if a == nil || !a.Of(v) {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.whole[v.Content()]
}

// bring has a content come here whole.
func (a *Absence) bring(content string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.whole == nil || len(a.whole) >= mostWhole {
		a.whole = map[string]bool{}
	}
	a.whole[content] = true
}

// absent is a content that is to be that of an absent file.
type absent struct {
	*versions.Staged
	content string
}

// Here implements [replica.Tree]: of a content that stays where it is all is here that is needed when the nodes are.
func (t Tree) Here(v *record.Version) (bool, error) {
	c := content(v)
	if t.Absence.Stays(v) {
		return t.Tree.Shell(&c)
	}
	return t.Tree.Here(&c)
}

// Stage implements [replica.Tree].
func (t Tree) Stage(list []replica.Ready) ([]replica.Staged, []error, error) {
	staged, errs := make([]replica.Staged, len(list)), make([]error, len(list))
	var all []versions.Foreign
	var at []int
	for i, rec := range list {
		v := rec.Body.(*record.Version)
		f := versions.Foreign{Content: content(v), Author: rec.Author, Onto: rec.Onto}
		f.Mtime = rec.At
		if !t.Absence.Stays(v) {
			all, at = append(all, f), append(at, i)
			continue
		}
		s, err := t.Tree.StageAbsent(f)
		if err == nil {
			staged[i] = absent{s, v.Content()}
		}
		errs[i] = err
	}
	if len(all) == 0 {
		return staged, errs, nil
	}
	made, whole, err := t.Tree.Stage(all)
	if err != nil {
		for _, s := range staged {
			if s != nil {
				s.Drop()
			}
		}
		return nil, nil, err
	}
	for n, i := range at {
		if errs[i] = whole[n]; errs[i] == nil {
			staged[i] = made[n]
		}
	}
	return staged, errs, nil
}

// Adopt implements [replica.Tree]. A file that somebody has open cannot become absent: then the content is to come here first.
func (t Tree) Adopt(ino sharefs.Ino, content replica.Staged, base uint64) (uint64, error) {
	s := stagedOf(content)
	op := t.operate()
	s.By(op) // which is told where the content changes
	own, err := t.Tree.Adopt(ino, s, base)
	op.End(err)
	if a, ok := content.(absent); ok && errors.Is(err, sharefs.KindBusy) {
		t.Absence.bring(a.content)
		err = &sharefs.Error{Op: "adopt", Kind: sharefs.KindAgain, Err: err}
	}
	return own, err
}

func stagedOf(content replica.Staged) *versions.Staged {
	if a, ok := content.(absent); ok {
		return a.Staged
	}
	return content.(*versions.Staged)
}
