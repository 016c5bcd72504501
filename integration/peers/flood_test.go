package peers

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sharefs"
	"sharefs/esp"
	"sharefs/integration/mounttest"
	"sharefs/peers/book"
	"sharefs/peers/exchange/wire"
	"sharefs/peers/frame"
	"sharefs/peers/identity"
	"sharefs/peers/link"
	"sharefs/peers/record"
)

// nearby makes hosts with a mount each on this machine's own network, as a program of the test can reach it.
func nearby(t *testing.T, names ...string) (out []*host) {
	t.Helper()
	if testing.Short() {
		t.Skip("real mounts")
	}
	for _, name := range names {
		store := filepath.Join(mounttest.TempDir(t), "store")
		if err := os.Mkdir(store, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(store, "share.toml"), []byte("[peers]\nname = \""+name+"\"\nlisten = \"127.0.0.1:0\"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		out = append(out, &host{t: t, name: name, Mount: mounttest.Start(t, mode(), mounttest.On(store))})
	}
	return out
}

// flooder is a peer, trusted with all there is, that has no mount and sends as fast as it can.
type flooder struct {
	t    *testing.T
	hub  *link.Hub
	to   sharefs.PeerID
	ctx  context.Context
	sent atomic.Int64 // messages
}

func newFlooder(t *testing.T, to *host) *flooder {
	t.Helper()
	b, err := book.Open(nil, func([]byte) error { return nil })
	to.do(err)
	f := &flooder{t: t}
	key := identity.New()
	f.hub, err = link.Start(link.Config{Key: key.Private(), Name: "mallory", Listen: "127.0.0.1:0", Book: b, Log: slog.New(slog.DiscardHandler)})
	to.do(err)
	t.Cleanup(f.hub.Close)
	for _, purpose := range []string{"records", "chunks"} {
		f.hub.Handle(purpose, func(_ sharefs.PeerID, c *esp.Conn, _ json.RawMessage) { <-c.Session().Done() }) // whose content it never reads
	}
	f.to, err = sharefs.ParsePeerID(to.id())
	to.do(err)
	to.do(f.hub.Join("1", strings.TrimSpace(to.must("pair", "--link"))))
	mounttest.WaitFor(t, "the flooder connected", func() bool { _, ok := f.hub.Connected(f.to); return ok && to.peer("mallory").Connected })
	to.must("grant", "mallory", "write")
	return f
}

// over does something over one new stream after the other, whatever becomes of them, until the context ends.
func (f *flooder) over(purpose string, do func(net.Conn) error) {
	first, err := frame.Encode(struct {
		Purpose string `json:"purpose"`
	}{purpose})
	if err != nil {
		f.t.Error(err)
	}
	for f.ctx.Err() == nil {
		s, ok := f.hub.Connected(f.to)
		if !ok {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		open, end := context.WithTimeout(f.ctx, time.Second)
		c, err := s.OpenEarly(open, first)
		end()
		if err != nil {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		cut := context.AfterFunc(f.ctx, func() { c.Close() })
		for f.ctx.Err() == nil {
			_ = c.SetWriteDeadline(time.Now().Add(time.Second)) // of a stream that takes nothing more there is another one
			if do(c) != nil {
				break
			}
			f.sent.Add(1)
		}
		cut()
		c.Close()
	}
}

// A peer that sends messages as fast as it can, of each kind that costs the other end something, and reads none, does not keep others from what they do, nor fill the
// memory; and it is named.
func TestAFloodByAPeer(t *testing.T) {
	hs := nearby(t, "anna", "bert")
	a, b := hs[0], hs[1]
	pairByLink(t, a, b)
	a.must("grant", "bert", "write")
	b.must("grant", "anna", "write")
	a.do(os.WriteFile(a.Path("large"), random(1, 4<<20), 0o644))
	b.holdsFile("large", random(1, 4<<20))
	f := newFlooder(t, a)
	before, _ := a.usage()

	ctx, end := context.WithCancel(t.Context())
	f.ctx = ctx
	var hands sync.WaitGroup
	questions := func(c net.Conn) error {
		m := wire.Want{Groups: make([]wire.Group, 4)}
		for i := range m.Groups {
			var version record.ID
			_, _ = rand.Read(version[:])
			m.Groups[i] = wire.Group{Version: version, IDs: make([]wire.ID, 64)}
			for j := range m.Groups[i].IDs {
				_, _ = rand.Read(m.Groups[i].IDs[j][:])
			}
		}
		return wire.NewWriter(c, f.to).Want(m)
	}
	for range 4 {
		hands.Go(func() { f.over("chunks", questions) })
	}
	hands.Go(func() {
		f.over("records", func(c net.Conn) error {
			w := wire.NewWriter(c, f.to)
			if err := w.Hello(wire.Hello{Lowest: wire.Lowest, Highest: wire.Version}); err != nil {
				return err
			}
			for range 1000 {
				if err := w.Stop(); err != nil {
					return err
				}
			}
			return nil
		})
	})
	junk := make([]byte, 32<<10)
	hands.Go(func() {
		f.over("nothing of the kind", func(c net.Conn) error { _, err := c.Write(junk); return err })
	})

	// Meanwhile the others go on, in both directions.
	const rounds = 30
	for i := range rounds {
		a.write(fmt.Sprint("a", i), fmt.Sprint("by anna ", i))
		b.write(fmt.Sprint("b", i), fmt.Sprint("by bert ", i))
	}
	b.do(os.WriteFile(b.Path("larger"), random(2, 8<<20), 0o644))
	a.holdsFile("larger", random(2, 8<<20))
	alike(t, "all that the others wrote", hs, func(tree map[string]string) bool {
		return len(tree) == 2*rounds+2 && has(tree, fmt.Sprint("a", rounds-1), fmt.Sprint("by anna ", rounds-1)) && has(tree, fmt.Sprint("b", rounds-1), fmt.Sprint("by bert ", rounds-1))
	})
	mounttest.WaitFor(t, "a flood", func() bool { return f.sent.Load() > 5000 })
	mounttest.WaitFor(t, "it to be named", func() bool {
		p := a.peer("mallory")
		return p.Error != "" || p.Files != nil && (p.Files.Error != "" || !p.Files.LeftOut.IsZero())
	})
	end()
	hands.Wait()
	after, _ := a.usage()
	t.Logf("%d messages; %d MB at most, %d MB before", f.sent.Load(), after>>20, before>>20)
	if after > before+128<<20 {
		t.Errorf("%d MB of memory, where it was %d MB", after>>20, before>>20)
	}
	if p := a.peer("bert"); !p.Connected || p.Files == nil || !p.Files.LeftOut.IsZero() {
		t.Errorf("%+v", p)
	}
	a.write("last", "by anna")
	b.holdsFile("last", []byte("by anna"))
	if out := a.must("fsck"); !strings.Contains(out, "all is well") {
		t.Errorf("%s", out)
	}
}
