package link

import (
	"encoding/json"
	"time"

	"sharefs"
	"sharefs/esp"
	"sharefs/peers/frame"
	"sharefs/peers/pair"
)

// Handler serves a stream of one purpose that a connected peer has opened. It closes the stream. First is the message that named the purpose.
type Handler func(peer sharefs.PeerID, c *esp.Conn, first json.RawMessage)

// mostServing bounds streams of which the first message has not come.
const mostServing = 256

// Handle has streams of a purpose served by fn from now on.
func (h *Hub) Handle(purpose string, fn Handler) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.handlers[purpose] = fn
}

// accept takes the streams that peers open.
func (h *Hub) accept(l *esp.Listener) {
	for {
		c, err := l.AcceptStream()
		if err != nil {
			return
		}
		h.mu.Lock()
		if h.serving >= mostServing || h.closed {
			h.mu.Unlock()
			c.Close()
			continue
		}
		h.serving++
		h.spawn(func() { h.serve(c) })
		h.mu.Unlock()
	}
}

// serve reads what a stream is for. Only hello and pair are open to who has not said hello.
func (h *Hub) serve(c *esp.Conn) {
	var text json.RawMessage
	var first struct {
		Purpose string `json:"purpose"`
	}
	_ = c.SetDeadline(time.Now().Add(helloTimeout))
	err := frame.Read(c, &text)
	if err == nil {
		err = json.Unmarshal(text, &first)
	}
	h.mu.Lock()
	h.serving--
	handler := h.handlers[first.Purpose]
	p := h.byKey[c.PeerKey()]
	connected := p != nil && p.welcome && p.link != nil && p.link.sess == c.Session()
	h.mu.Unlock()
	switch {
	case err != nil:
	case first.Purpose == purposeHello:
		err = h.answer(c, text)
	case first.Purpose == pair.Purpose:
		h.pairWith(c, text)
		return
	case handler != nil && connected:
		_ = c.SetDeadline(time.Time{})
		handler(p.id, c, text)
		return
	default:
		err = &sharefs.Error{Op: "stream", Kind: sharefs.KindPermission, Detail: "of no purpose that this peer may have"}
	}
	if err != nil {
		h.cfg.Log.Debug("a stream was refused", "error", err)
		c.Close()
		if p == nil || first.Purpose == purposeHello {
			h.spare(c.Session())
		}
	}
}
