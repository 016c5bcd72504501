package link

import (
	"encoding/json"

	"sharefs/esp"
)

// Guests are no peers: they have a key for which something is kept here, such as that of a recovery sheet, and may open streams of one purpose and nothing else. They say no hello, are told
// nothing of this host, and are as few at a time as strangers who pair.

// GuestHandler serves a stream that a guest has opened; the session has proved his key. It closes the stream. First is the message that named the purpose.
type GuestHandler func(key esp.PublicKey, c *esp.Conn, first json.RawMessage)

// desk is what there is for guests.
type desk struct {
	purpose string
	welcome func(key esp.PublicKey) bool
	serve   GuestHandler
}

// mostGuests bounds their sessions.
const mostGuests = 16

// HandleGuests has streams of a purpose served by fn from now on, of those whom welcome lets in by their key. Welcome is called with a lock held, and must not wait.
func (h *Hub) HandleGuests(purpose string, welcome func(key esp.PublicKey) bool, fn GuestHandler) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.desk = &desk{purpose, welcome, fn}
}

// isGuest reports whether a key is let in for what is kept for it. h.mu is held.
func (h *Hub) isGuest(key esp.PublicKey) bool { return h.desk != nil && h.desk.welcome(key) }

// seat has a session stay although it is none of a peer's, as long as it lasts. h.mu is held.
func (h *Hub) seat(s *esp.Session) bool {
	if h.guests[s] {
		return true
	}
	if len(h.guests) >= mostGuests || h.closed {
		return false
	}
	h.guests[s] = true
	h.spawn(func() {
		select {
		case <-s.Done():
		case <-h.ctx.Done():
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.guests, s)
	})
	return true
}
