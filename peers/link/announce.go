package link

import (
	"net/netip"
	"slices"
	"time"

	"sharefs/peers/discover"
	"sharefs/peers/pair"
)

const (
	pairingBeacon = 2 * time.Second // between two while somebody waits to be paired
	firstBeacon   = time.Second     // then twice as long each time
	lastBeacon    = time.Minute
)

// announce sends beacons: while somebody waits to be paired, and while a peer is missing, at once when something changes and then ever more seldom. Nobody missing, none.
func (h *Hub) announce() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	pause := firstBeacon
	for {
		select {
		case <-h.ctx.Done():
			return
		case <-h.kick:
			pause = firstBeacon
		case <-timer.C:
		}
		missing, pairing := h.beacons(time.Now())
		switch {
		case pairing:
			timer.Reset(pairingBeacon)
		case missing:
			timer.Reset(pause)
			pause = min(2*pause, lastBeacon)
		default:
			timer.Stop()
		}
	}
}

// beacons sends what there is to say now.
func (h *Hub) beacons(now time.Time) (missing, pairing bool) {
	h.mu.Lock()
	if h.ep == nil || h.lan == nil || h.closed {
		h.mu.Unlock()
		return false, false
	}
	lan, port := h.lan, h.ep.Addr().Addr.Port()
	var secrets []discover.Secret
	for _, p := range h.peers {
		if p.missing() {
			secrets = append(secrets, p.secret)
		}
	}
	var nonces []uint64
	for _, w := range h.windows {
		if w.searches(now) {
			nonces = append(nonces, w.nonce)
		}
	}
	h.mu.Unlock()
	for some := range slices.Chunk(secrets, discover.MaxTags) {
		lan.Send(discover.Encode(discover.Known, h.id, port, h.boot^uint64(now.UnixNano()), now, some))
	}
	for _, nonce := range nonces {
		lan.Send(discover.Encode(discover.Pairing, h.id, port, nonce, now, nil))
	}
	return len(secrets) > 0, len(nonces) > 0
}

// heard takes a beacon.
func (h *Hub) heard(b discover.Beacon, from netip.Addr) {
	addr := netip.AddrPortFrom(from, b.Port).String()
	if !from.IsLinkLocalUnicast() { // which nobody but the network may name
		var ok bool
		if addr, ok = pair.Address(addr); !ok {
			return
		}
	}
	if b.Kind == discover.Pairing {
		h.heardPairing(b.Nonce, from.String(), addr)
		return
	}
	h.mu.Lock()
	var missing []*peer
	for _, p := range h.peers {
		if p.missing() {
			missing = append(missing, p)
		}
	}
	h.mu.Unlock()
	for _, p := range missing {
		if b.From(p.id, p.secret) {
			h.hear(p, addr)
			return
		}
	}
}

// Limits of what is followed up on the local network while somebody waits to be paired: within followLife so many beacons, and of one address so many.
const (
	followLife    = 2 * dialTimeout
	mostFollowed  = 64
	mostOfAddress = 4
)

// followed is a beacon that was followed up.
type followed struct {
	at   time.Time
	host string
}

// heardPairing follows up a host that waits to be paired, if somebody here waits as well. Of two that hear each other the one with the lower number dials.
func (h *Hub) heardPairing(nonce uint64, host, addr string) {
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	var mine *window
	for _, w := range h.windows {
		if w.nonce == nonce {
			return // our own
		}
		if mine == nil && w.searches(now) {
			mine = w
		}
	}
	if mine == nil || mine.nonce > nonce || h.ep == nil {
		return
	}
	same := 0
	for n, f := range h.heardOf {
		switch {
		case now.Sub(f.at) > followLife:
			delete(h.heardOf, n)
		case f.host == host:
			same++
		}
	}
	if _, known := h.heardOf[nonce]; known || same >= mostOfAddress || len(h.heardOf) >= mostFollowed || mine.followed[nonce] {
		return
	}
	h.heardOf[nonce] = followed{now, host}
	h.spawn(func() { h.meetOnLAN(mine, nonce, addr) })
}
