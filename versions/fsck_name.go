package versions

import "sharefs"

// name does the last stage: it names the files that are concerned.
func (c *fsck) name() error {
	inos := map[sharefs.Ino]bool{}
	for i := range c.sum.Findings {
		f := &c.sum.Findings[i]
		for ino := range f.inos {
			inos[ino] = true
		}
		for _, v := range f.Versions {
			inos[v.Ino] = true
		}
	}
	if len(inos) == 0 {
		return nil
	}
	c.stage("names of what is concerned", "files", uint64(len(inos)))
	paths := c.t.namesOf(inos)
	for i := range c.sum.Findings {
		f := &c.sum.Findings[i]
		seen := map[string]bool{}
		add := func(ino sharefs.Ino) string {
			p := paths[ino]
			if !seen[p] {
				seen[p] = true
				f.Paths = append(f.Paths, p)
			}
			return p
		}
		for j := range f.Versions {
			f.Versions[j].Path = add(f.Versions[j].Ino)
		}
		for ino := range f.inos {
			add(ino)
		}
	}
	return nil
}
