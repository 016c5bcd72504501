package udpio

import (
	"net/netip"
	"testing"
	"time"
)

// BenchmarkLoopback sends as fast as it can and tells how much arrived (UDP may drop).
func BenchmarkLoopback(b *testing.B) {
	for _, c := range []struct {
		name string
		seg  int
		one  bool
	}{{"1400B", 1400, false}, {"8900B", 8900, false}, {"65000B", 65000, false}, {"1400B-single", 1400, true}} {
		b.Run(c.name, func(b *testing.B) {
			cs, err := Listen("udp4", "127.0.0.1:0", Options{Sockets: 1})
			if err != nil {
				b.Fatal(err)
			}
			rs, err := Listen("udp4", "127.0.0.1:0", Options{Sockets: 1})
			if err != nil {
				b.Fatal(err)
			}
			s, r := cs[0], rs[0]
			defer s.Close()
			defer r.Close()
			got := make(chan int)
			go func() {
				n := 0
				batch := NewBatch(8)
				for r.Recv(batch) == nil {
					for _, d := range batch.Datagrams {
						n += len(d.Data)
					}
				}
				got <- n
			}()
			segs := s.MaxSegments(r.LocalAddr(), c.seg)
			if c.one {
				segs = 1
			}
			buf := make([]byte, segs*c.seg)
			b.SetBytes(int64(len(buf)))
			b.ReportAllocs()
			for b.Loop() {
				if err := s.Send(r.LocalAddr(), netip.Addr{}, buf, c.seg); err != nil {
					b.Fatal(err)
				}
			}
			sent := b.N * len(buf)
			time.Sleep(10 * time.Millisecond) // the rest arrives or was dropped
			r.Close()
			b.ReportMetric(float64(<-got)/float64(sent)*100, "%arrived")
		})
	}
}
