package esp

import (
	"bytes"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"sharefs/esp/internal/simnet"
)

// TestFirstAnswer: what is asked right behind the handshake, or a little later, is answered within a round trip, as far as a first window goes. The search for larger packets, of which the
// device refuses some, takes nothing of that window.
func TestFirstAnswer(t *testing.T) {
	const delay = 25 * time.Millisecond
	for _, device := range []int{0, 1452, 1472, 8900} {
		for _, pause := range []time.Duration{0, 2*delay + time.Millisecond} {
			if pause > 0 && device != 1452 && device != 1472 {
				continue // a large packet is under way then
			}
			synctest.Test(t, func(t *testing.T) {
				udp := Config{DisableTCP: true}
				s := newSim(t, simConfig{client: udp, server: udp, link: simnet.Link{Delay: delay, Device: device}})
				defer s.close()
				size := 34 << 10 // 32 packets of 1200 bytes, or of 1452
				if pause > 0 {
					size = 40 << 10
				}
				answer := make([]byte, size)
				_, _ = seeded(1).Read(answer) // does not compress
				go func() {
					d, err := s.l.AcceptStream()
					if err != nil {
						return
					}
					defer d.Close()
					if _, err := io.ReadFull(d, make([]byte, 4)); err == nil {
						_, _ = d.Write(answer)
					}
				}()
				sess, err := s.client.Connect(t.Context(), s.address())
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(pause)
				began := time.Now()
				c, err := sess.OpenEarly(t.Context(), []byte("what"))
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				got, err := io.ReadAll(c)
				if err != nil || !bytes.Equal(got, answer) {
					t.Fatalf("%d bytes: %v", len(got), err)
				}
				if took := time.Since(began); took > 3*delay { // half a round trip for pacing
					t.Errorf("with a device of %d, %v after the handshake, the answer took %v", device, pause, took)
				}
			})
		}
	}
}
