package near

import "sync"

// Read-ahead, in blocks.
const (
	firstWindow = 4
	maxWindow   = 64
	stray       = 16 // who asks for several pieces at once reads in order though they arrive in another one: so far before their turn
	late        = 64 // and so far behind
)

// walk is where the readers of an open pack are. The zero value is the beginning. There are several places, for the nodes of manifests lie between content, and a file may have
// several readers.
type walk struct {
	mu     sync.Mutex
	places [4]place
	turn   uint64
}

// place is where one reader is.
type place struct {
	turn   uint64 // when it was here last
	end    int    // behind the last block that was read
	ahead  int    // up to which blocks were asked for
	window int    // how far to be ahead; 0: it was not seen to read in order
}

// read notes that blocks are being read, and returns what is to be fetched beside them; most bounds the window.
func (w *walk) read(first, end, blocks, most int) (from, to int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.turn++
	oldest := &w.places[0]
	for i := range w.places {
		p := &w.places[i]
		if p.end > 0 && first <= p.end+stray && first+late >= p.end {
			p.turn = w.turn
			return p.read(end, blocks, most)
		}
		if p.turn < oldest.turn {
			oldest = p
		}
	}
	*oldest = place{turn: w.turn, end: end, ahead: end}
	return 0, 0
}

func (p *place) read(end, blocks, most int) (from, to int) {
	if end <= p.end {
		return 0, 0 // the same again, or one who is late
	}
	p.window = min(max(firstWindow, 2*p.window), most)
	p.end = end
	p.ahead = max(p.ahead, end)
	if p.ahead-end > p.window/2 {
		return 0, 0
	}
	from, to = p.ahead, min(end+p.window, blocks)
	if from >= to {
		return 0, 0
	}
	p.ahead = to
	return from, to
}
