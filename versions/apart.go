package versions

// apart calls fn for each chunk and hole of a content, in order, that another one does not have at the same place. What both have is passed over by the largest nodes that they have in common, so
// that of a large content of which little differs little is read.
func (h *history) apart(from manifest, fromSize int64, to manifest, toSize int64, fn func(located) error) error {
	old := walker{top: from, size: fromSize, load: h.loadNode}
	now := walker{top: to, size: toSize, load: h.loadNode}
	for off := int64(0); off < toSize; {
		l, _, same, err := now.part(off, func(l located, level uint8) (bool, error) {
			if off >= fromSize {
				return false, nil
			}
			_, _, ok, err := old.part(off, func(o located, of uint8) (bool, error) { return of == level && o == l, nil })
			return ok, err
		})
		if err == nil && !same {
			err = fn(l)
		}
		if err != nil {
			return err
		}
		off = l.off + l.len
	}
	return nil
}
