package near

import "sync"

// Read-ahead, in blocks.
const (
	firstWindow = 4
	maxWindow   = 64
	stray       = 16 // a reader that asks for several pieces at once is in order though they arrive in another one
)

// walk is where the readers of an open pack are. The zero value is the beginning.
type walk struct {
	mu     sync.Mutex
	end    int // behind the last block that was read
	ahead  int // up to which blocks were asked for
	window int // how far to be ahead; 0: the pack is not read in order
}

// read notes that blocks are being read, and returns what is to be fetched beside them; most bounds the window.
func (w *walk) read(first, end, blocks, most int) (from, to int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if first > w.end+stray || first+stray < w.end {
		w.end, w.ahead, w.window = end, end, 0
		return 0, 0
	}
	if end <= w.end {
		return 0, 0 // the same again
	}
	if w.end > 0 {
		w.window = min(max(firstWindow, 2*w.window), most)
	}
	w.end = end
	w.ahead = max(w.ahead, end)
	if w.ahead-end > w.window/2 {
		return 0, 0
	}
	from, to = w.ahead, min(end+w.window, blocks)
	if from >= to {
		return 0, 0
	}
	w.ahead = to
	return from, to
}
