package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"sharefs/esp"
	"sharefs/integration/linkem"
)

// linked is a pair of hosts with one or more links.
type linked struct {
	net   *linkem.Net
	a, b  *linkem.Host
	links []*linkem.Link
	procs int // GOMAXPROCS before
}

func connectHosts(seed uint64, conditions ...linkem.Conditions) (*linked, error) {
	if err := linkem.Available(); err != nil {
		return nil, err
	}
	// The forwarder sleeps in system calls to be exact, two threads for each link, and each keeps one of the runtime's
	// processors for up to a few milliseconds. The kernel's transports do not need those; ESP and quic-go do.
	l := &linked{net: linkem.New(seed), procs: runtime.GOMAXPROCS(runtime.NumCPU() + 2*len(conditions))}
	var err error
	if l.a, err = l.net.AddHost("a"); err == nil {
		l.b, err = l.net.AddHost("b")
	}
	for _, c := range conditions {
		if err != nil {
			break
		}
		var k *linkem.Link
		k, err = l.net.Connect(l.a, l.b, linkem.DefaultMTU, c)
		l.links = append(l.links, k)
	}
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *linked) close() {
	l.net.Close()
	runtime.GOMAXPROCS(l.procs)
}

func (l *linked) client() esp.Network    { return l.a.Network() }
func (l *linked) server() esp.Network    { return l.b.Network() }
func (l *linked) serverAddr() netip.Addr { return l.links[0].Addr(l.b) }
func (l *linked) clientAddr() netip.Addr { return l.links[0].Addr(l.a) }

const (
	linkRate  = 25e6 // 200 Mbit/s
	linkDelay = 25 * time.Millisecond
)

// seeds gives each measurement other chances, the same in each run.
var seeds uint64

func nextSeed() uint64 {
	seeds++
	return seeds
}

// onLink measures one transport alone on a link of its own, from the beginning of the connection on.
func onLink(o *options, tr transport, data []byte, c linkem.Conditions) ([]float64, error) {
	l, err := connectHosts(nextSeed(), c)
	if err != nil {
		return nil, err
	}
	defer l.close()
	got, err := bulk(tr, l, data, o.time/3, 3*o.time)
	if err != nil {
		return nil, err
	}
	st := l.links[0].Stats(l.a)
	lost := 100 * float64(st.Packets-st.Delivered) / max(float64(st.Packets), 1)
	return []float64{got[0], lost}, nil
}

func lossyLink(o *options) (*table, error) {
	t := &table{title: "A link of 200 Mbit/s and 50 ms",
		note:    "The queue holds one bandwidth–delay product; loss is that of chance, drops are all packets that did not come through.",
		columns: []string{"MB/s", "drops, %"}}
	data := randomBytes(8 << 20)
	var subjects []subject
	losses := []float64{0, 0.01}
	at := func(name string, loss float64) string { return fmt.Sprintf("%s, %g %% loss", name, loss*100) }
	for _, loss := range losses {
		for _, s := range []struct {
			name string
			tr   transport
		}{
			{"TCP BBR", tcp("bbr")}, {"TCP CUBIC", tcp("cubic")}, {"quic-go", quicGo(0)},
			{"ESP", espOver(espUDP)}, {"ESP, CUBIC", espOver(esp.Config{DisableTCP: true, Congestion: "cubic"})},
		} {
			subjects = append(subjects, subject{at(s.name, loss), func() ([]float64, error) {
				return onLink(o, s.tr, data, linkem.Conditions{Rate: linkRate, Delay: linkDelay, Loss: loss})
			}})
		}
	}
	if t = o.interleave(t, subjects); t != nil {
		t.ratio(0, at("ESP", 0), at("TCP BBR", 0), 0.95, false)
		t.ratio(0, at("ESP", 0.01), at("TCP BBR", 0.01), 0.9, false)
		t.ratio(0, at("ESP", 0.01), at("TCP CUBIC", 0.01), 30, false)
	}
	return t, nil
}

// fairness lets a flow of TCP CUBIC share a link with another one.
func fairness(o *options) (*table, error) {
	t := &table{title: "One flow beside a flow of TCP CUBIC, 200 Mbit/s, 50 ms", columns: []string{"CUBIC's share, %", "both, MB/s"}}
	data := randomBytes(8 << 20)
	var subjects []subject
	for _, s := range []struct {
		name string
		tr   transport
	}{{"TCP CUBIC", tcp("cubic")}, {"TCP BBR", tcp("bbr")}, {"ESP", espOver(espUDP)}} {
		subjects = append(subjects, subject{s.name, func() ([]float64, error) {
			l, err := connectHosts(nextSeed(), linkem.Conditions{Rate: linkRate, Delay: linkDelay})
			if err != nil {
				return nil, err
			}
			defer l.close()
			first, err := tcp("cubic")(l)
			if err != nil {
				return nil, err
			}
			f := startFlow(first, data)
			defer f.stop()
			second, err := s.tr(l)
			if err != nil {
				return nil, err
			}
			g := startFlow(second, data)
			defer g.stop()
			time.Sleep(o.time) // both have begun
			a, b, began := f.bytes(), g.bytes(), time.Now()
			time.Sleep(5 * o.time)
			x, y := float64(f.bytes()-a), float64(g.bytes()-b)
			return []float64{100 * x / (linkRate * time.Since(began).Seconds()), (x + y) / time.Since(began).Seconds() / 1e6}, nil
		}})
	}
	if t = o.interleave(t, subjects); t != nil {
		t.absolute(0, "ESP", 25, false)
	}
	return t, nil
}

// aggregation compares two paths with one.
func aggregation(o *options) (*table, error) {
	t := &table{title: "Paths of 100 Mbit/s and 20 ms", columns: []string{"MB/s", "drops, %"}}
	data := randomBytes(8 << 20)
	c := linkem.Conditions{Rate: 12.5e6, Delay: 10 * time.Millisecond}
	var subjects []subject
	for _, s := range []struct {
		name  string
		links []linkem.Conditions
	}{{"one path", []linkem.Conditions{c}}, {"two paths, aggregated", []linkem.Conditions{c, c}}} {
		subjects = append(subjects, subject{s.name, func() ([]float64, error) {
			l, err := connectHosts(nextSeed(), s.links...)
			if err != nil {
				return nil, err
			}
			defer l.close()
			cfg := esp.Config{DisableTCP: true, Scheduler: esp.Aggregate, Addrs: []string{"0.0.0.0:0"}}
			got, err := bulk(espOver(cfg), l, data, max(o.time, 3*time.Second), 3*o.time) // paths are found after a second
			if err != nil {
				return nil, err
			}
			var packets, delivered uint64
			for _, k := range l.links {
				st := k.Stats(l.a)
				packets, delivered = packets+st.Packets, delivered+st.Delivered
			}
			return []float64{got[0], 100 * float64(packets-delivered) / max(float64(packets), 1)}, nil
		}})
	}
	if t = o.interleave(t, subjects); t != nil {
		t.ratio(0, "two paths, aggregated", "one path", 1.7, false)
	}
	return t, nil
}

// sourceText returns a few megabytes of Go's own source.
func sourceText() ([]byte, error) {
	var text []byte
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return nil, fmt.Errorf("go env GOROOT: %w", err)
	}
	root := filepath.Join(strings.TrimSpace(string(out)), "src")
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		b, err := os.ReadFile(path)
		text = append(text, b...)
		if err == nil && len(text) > 16<<20 {
			err = fs.SkipAll
		}
		return err
	})
	if err == nil && len(text) < 1<<20 {
		err = errors.New("no Go source in " + root)
	}
	return text, err
}

// compression measures what it wins on text over a slow link, and what it costs on random bytes over loopback.
func compression(o *options) (*table, error) {
	t := &table{title: "Compression", columns: []string{"MB/s", "CPU-s for a GB"}}
	text, err := sourceText()
	if err != nil {
		return nil, err
	}
	random := randomBytes(16 << 20)
	plain := esp.Config{DisableTCP: true, Compression: esp.CompressOff}
	link := func(cfg esp.Config, data []byte) func() ([]float64, error) {
		return func() ([]float64, error) {
			l, err := connectHosts(nextSeed(), linkem.Conditions{Rate: linkRate, Delay: 5 * time.Millisecond})
			if err != nil {
				return nil, err
			}
			defer l.close()
			return bulk(espOver(cfg), l, data, o.time/3, o.time)
		}
	}
	local := func(cfg esp.Config, data []byte) func() ([]float64, error) {
		return func() ([]float64, error) { return bulk(espOver(cfg), system{}, data, o.time/4, o.time) }
	}
	if t = o.interleave(t, []subject{
		{"text over 25 MB/s", link(espUDP, text)},
		{"text over 25 MB/s, not compressed", link(plain, text)},
		{"random bytes over loopback", local(espUDP, random)},
		{"random bytes over loopback, not compressed", local(plain, random)},
		{"text over loopback", local(espUDP, text)},
		{"text over loopback, not compressed", local(plain, text)},
	}); t != nil {
		t.absolute(0, "text over 25 MB/s", 3*linkRate/1e6, false)
		t.ratio(1, "random bytes over loopback", "random bytes over loopback, not compressed", 1.02, true)
	}
	return t, nil
}
