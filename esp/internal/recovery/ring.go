package recovery

// packets is a queue of entries with consecutive numbers from base on.
type packets[T any] struct {
	buf  []entry[T] // its length is a power of two, or 0
	base uint64
	n    uint64
}

// push adds the entry of pn, which follows the last one, and returns it zeroed.
func (p *packets[T]) push(pn uint64) *entry[T] {
	if p.n == 0 {
		p.base = pn
	}
	if p.n == uint64(len(p.buf)) {
		p.grow()
	}
	p.n++
	return &p.buf[pn&uint64(len(p.buf)-1)]
}

func (p *packets[T]) grow() {
	bigger := make([]entry[T], max(2*len(p.buf), 64))
	for i := range p.n {
		pn := p.base + i
		bigger[pn&uint64(len(bigger)-1)] = p.buf[pn&uint64(len(p.buf)-1)]
	}
	p.buf = bigger
}

// get returns the entry of pn, or nil where there is none.
func (p *packets[T]) get(pn uint64) *entry[T] {
	if pn < p.base || pn-p.base >= p.n {
		return nil
	}
	return &p.buf[pn&uint64(len(p.buf)-1)]
}

// dropBelow forgets the entries with lower numbers.
func (p *packets[T]) dropBelow(pn uint64) {
	for p.n > 0 && p.base < pn {
		p.buf[p.base&uint64(len(p.buf)-1)] = entry[T]{}
		p.base++
		p.n--
	}
}
