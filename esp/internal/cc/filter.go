package cc

// maxFilter is the maximum of the samples of a window that moves with a count, of rounds say: Kathleen Nichols'
// algorithm, which keeps the best three, each from a later part of the window. The zero filter is empty.
type maxFilter struct{ s [3]sample }

type sample struct {
	v float64
	t int64
}

func (f *maxFilter) get() float64 { return f.s[0].v }

func (f *maxFilter) reset(v float64, t int64) {
	for i := range f.s {
		f.s[i] = sample{v, t}
	}
}

// update adds a sample at t, which never decreases, to a window of the given length.
func (f *maxFilter) update(v float64, t, length int64) {
	n := sample{v, t}
	if v >= f.s[0].v || t-f.s[2].t > length {
		f.reset(v, t)
		return
	}
	if v >= f.s[1].v {
		f.s[1], f.s[2] = n, n
	} else if v >= f.s[2].v {
		f.s[2] = n
	}
	age := t - f.s[0].t
	switch {
	case age > length:
		// The best has left the window; the others move up.
		f.s[0], f.s[1], f.s[2] = f.s[1], f.s[2], n
		if t-f.s[0].t > length {
			f.s[0], f.s[1] = f.s[1], f.s[2]
		}
	case f.s[1].t == f.s[0].t && age > length/4:
		f.s[1], f.s[2] = n, n // a quarter has gone by without a better one
	case f.s[2].t == f.s[1].t && age > length/2:
		f.s[2] = n
	}
}
