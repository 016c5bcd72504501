package main

import (
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sharefs/esp"
)

// cpuTime returns what this process, and so both ends, has used of the processors.
func cpuTime() time.Duration {
	var ru unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &ru); err != nil {
		return 0
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

const block = 256 << 10

func randomBytes(n int) []byte {
	rng := rand.New(rand.NewPCG(1, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// flow keeps a connection busy with data, from the server to the client, until stop.
type flow struct {
	p    *pair
	wg   sync.WaitGroup
	mu   sync.Mutex
	got  int64
	ends bool
}

func startFlow(p *pair, data []byte) *flow {
	f := &flow{p: p}
	f.wg.Go(func() {
		for at := 0; !f.stopped(); at = (at + block) % len(data) {
			if _, err := p.server.Write(data[at:min(at+block, len(data))]); err != nil {
				return
			}
		}
	})
	f.wg.Go(func() {
		buf := make([]byte, block)
		for !f.stopped() {
			n, err := p.client.Read(buf)
			f.mu.Lock()
			f.got += int64(n)
			f.mu.Unlock()
			if err != nil {
				return
			}
		}
	})
	return f
}

func (f *flow) stopped() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ends
}

func (f *flow) bytes() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.got
}

// stop ends the flow and its connection.
func (f *flow) stop() {
	f.mu.Lock()
	f.ends = true
	f.mu.Unlock()
	f.p.close()
	f.wg.Wait()
}

// measure returns MB/s and CPU seconds for each GB over the given time, after a warm-up.
func (f *flow) measure(warm, length time.Duration) (mbs, cpu float64, err error) {
	time.Sleep(warm)
	b, c, began := f.bytes(), cpuTime(), time.Now()
	time.Sleep(length)
	n, took := float64(f.bytes()-b), time.Since(began).Seconds()
	if n == 0 {
		return 0, 0, errors.New("nothing arrived")
	}
	return n / took / 1e6, (cpuTime() - c).Seconds() / (n / 1e9), nil
}

func bulk(tr transport, p place, data []byte, warm, length time.Duration) ([]float64, error) {
	pr, err := tr(p)
	if err != nil {
		return nil, err
	}
	f := startFlow(pr, data)
	defer f.stop()
	mbs, cpu, err := f.measure(warm, length)
	return []float64{mbs, cpu}, err
}

const forcedMTU = 1400

var (
	espUDP  = esp.Config{DisableTCP: true}
	esp1400 = esp.Config{DisableTCP: true, MTU: forcedMTU}
	espTCP  = esp.Config{DisableUDP: true}
)

func loopback(o *options) (*table, error) {
	t := &table{title: "Loopback throughput, one stream, bytes that do not compress",
		note:    "Both ends in one process; CPU is that of both.",
		columns: []string{"MB/s", "CPU-s for a GB"}}
	data := randomBytes(8 << 20)
	var subjects []subject
	for _, s := range []struct {
		name string
		tr   transport
	}{
		{"TCP", tcp("")}, {"crypto/tls 1.3", tls13}, {"quic-go", quicGo(0)}, {"quic-go, 1400 B", quicGo(forcedMTU)},
		{"ESP over UDP", espOver(espUDP)}, {"ESP over UDP, 1400 B", espOver(esp1400)}, {"ESP over TCP", espOver(espTCP)},
	} {
		subjects = append(subjects, subject{s.name, func() ([]float64, error) {
			return bulk(s.tr, system{}, data, o.time/4, o.time)
		}})
	}
	if t = o.interleave(t, subjects); t != nil {
		t.ratio(0, "ESP over UDP", "crypto/tls 1.3", 0.8, false)
		t.absolute(1, "ESP over UDP", 1.4, true)
		t.ratio(0, "ESP over UDP, 1400 B", "quic-go, 1400 B", 2.5, false)
		t.ratio(0, "ESP over TCP", "crypto/tls 1.3", 1, false)
	}
	return t, nil
}

const message = 64

// pingPong returns the median and the 99th percentile of round trips of small messages, in microseconds.
func pingPong(tr transport, p place, length time.Duration) ([]float64, error) {
	pr, err := tr(p)
	if err != nil {
		return nil, err
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, message)
		for {
			if _, err := io.ReadFull(pr.server, buf); err != nil {
				return
			}
			if _, err := pr.server.Write(buf); err != nil {
				return
			}
		}
	})
	defer wg.Wait()
	defer pr.close()
	var took []float64
	buf := make([]byte, message)
	for began := time.Now(); time.Since(began) < length; {
		start := time.Now()
		if _, err := pr.client.Write(buf); err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(pr.client, buf); err != nil {
			return nil, err
		}
		took = append(took, time.Since(start).Seconds()*1e6)
	}
	took = took[len(took)/10:] // the first ones warm up
	slices.Sort(took)
	return []float64{took[len(took)/2], took[len(took)*99/100]}, nil
}

func latency(o *options) (*table, error) {
	t := &table{title: "Loopback latency, 64 B there and back", columns: []string{"median, µs", "99 %, µs"}}
	var subjects []subject
	for _, s := range []struct {
		name string
		tr   transport
	}{
		{"TCP", tcp("")}, {"crypto/tls 1.3", tls13}, {"quic-go", quicGo(0)},
		{"ESP over UDP", espOver(espUDP)}, {"ESP over TCP", espOver(espTCP)},
	} {
		subjects = append(subjects, subject{s.name, func() ([]float64, error) { return pingPong(s.tr, system{}, o.time/2) }})
	}
	if t = o.interleave(t, subjects); t != nil {
		t.ratio(0, "ESP over UDP", "crypto/tls 1.3", 1.3, true)
		t.ratio(0, "ESP over TCP", "crypto/tls 1.3", 1.3, true)
	}
	return t, nil
}
