package versions

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"sharefs"
)

// Problem is one thing that is not as it has to be.
type Problem struct {
	Ino    sharefs.Ino `json:"ino"`
	Detail string      `json:"detail"`
}

func (p Problem) String() string {
	if p.Ino == 0 {
		return p.Detail
	}
	return fmt.Sprintf("inode %d: %s", p.Ino, p.Detail)
}

// Check is a fast [Tree.Fsck] that repairs nothing and lists what is wrong in the order of the inodes: names that lead nowhere, wrong counts of
// links or names, directories that hang on nothing, missing and superfluous backing files, rows that belong to nothing, versions whose content is not
// there. An error means that the check could not be carried out.
func (t *Tree) Check() ([]Problem, error) {
	r, err := t.Fsck(context.Background(), FsckOptions{Mode: FsckFast}, nil)
	if err != nil {
		return nil, err
	}
	var all []Problem
	for i := range r.Findings {
		f := &r.Findings[i]
		switch {
		case f.Severity == SeverityNote:
		case f.Ino == 0:
			all = append(all, Problem{0, f.Where + ": " + f.Detail})
		default:
			all = append(all, Problem{f.Ino, f.Detail})
		}
	}
	slices.SortStableFunc(all, func(a, b Problem) int { return cmp.Compare(a.Ino, b.Ino) })
	return all, nil
}
