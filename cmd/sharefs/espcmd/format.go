package espcmd

import (
	"fmt"
	"time"

	"github.com/dustin/go-humanize"

	"sharefs/esp"
)

// rate writes bytes per second as people and iperf3 do, in powers of ten.
func rate(bytesPerSecond float64) string {
	if bytesPerSecond <= 0 {
		return "-"
	}
	return humanize.SIWithDigits(bytesPerSecond, 1, "B/s")
}

// rtt writes a round-trip time with three digits.
func rtt(d time.Duration) string {
	switch {
	case d <= 0:
		return "-"
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.2f ms", d.Seconds()*1000)
	case d < time.Second:
		return fmt.Sprintf("%.1f ms", d.Seconds()*1000)
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}

// activePath returns the path that data go over; ok is false while there is none.
func activePath(s *esp.Session) (p esp.PathInfo, ok bool) {
	for _, p := range s.Paths() {
		if p.Active {
			return p, true
		}
	}
	return p, false
}

// pathLine describes the active path in one line.
func pathLine(s *esp.Session) string {
	p, ok := activePath(s)
	if !ok {
		return "no path"
	}
	return fmt.Sprintf("rtt %-8s loss %4.1f %%  %s %v to %v, MTU %d, %s",
		rtt(p.RTT), p.Loss*100, p.Kind, p.Local, p.Remote, p.MTU, p.Congestion)
}

func formatEvent(ev esp.Event) string {
	at := fmt.Sprintf("%9.3f s  %s", ev.At.Seconds(), ev.Session.PeerKey().Short())
	switch ev.Kind {
	case esp.EventPath, esp.EventActive:
		return fmt.Sprintf("%s  %v %d: %s", at, ev.Kind, ev.Path, ev.Detail)
	}
	if ev.Detail == "" {
		return fmt.Sprintf("%s  %v", at, ev.Kind)
	}
	return fmt.Sprintf("%s  %v: %s", at, ev.Kind, ev.Detail)
}
