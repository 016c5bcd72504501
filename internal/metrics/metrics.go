// Package metrics tells programs in the text format of Prometheus what status.json and peers.json tell: as a file of the mount, and over HTTP where that is configured. Names follow
// https://prometheus.io/docs/practices/naming/: base units, and _total behind what only grows.
package metrics

import (
	"bytes"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/expfmt"

	"sharefs"
	"sharefs/internal/status"
)

// Source is where the numbers come from, each time that they are asked for.
type Source struct {
	Status func() *status.Status // with all peers
}

// Metrics are those of one mount. Its methods may be called by several goroutines at once.
type Metrics struct{ all *prometheus.Registry }

// New makes the metrics of a mount, with those of the process.
func New(from Source) *Metrics {
	m := &Metrics{prometheus.NewRegistry()}
	m.all.MustRegister(&collector{from}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Text returns all of them in the text format 0.0.4.
func (m *Metrics) Text() ([]byte, error) {
	families, err := m.all.Gather()
	if err != nil {
		return nil, &sharefs.Error{Op: "tell metrics", Err: err}
	}
	var b bytes.Buffer
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
			return nil, &sharefs.Error{Op: "tell metrics", Err: err}
		}
	}
	return b.Bytes(), nil
}

// Bounds of requests: who asks is a program that asks every few seconds.
const (
	atOnce      = 4
	requestTime = 10 * time.Second
	headerMost  = 16 << 10 // bytes
)

// Server serves metrics.
type Server struct {
	http *http.Server
	at   net.Addr
}

// Listen serves them at http://ADDRESS/metrics until Close. The error says that nobody can listen there.
func (m *Metrics) Listen(address string) (*Server, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, &sharefs.Error{Op: "serve metrics", Path: address, Kind: sharefs.KindOf(err), Err: err}
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.all, promhttp.HandlerOpts{MaxRequestsInFlight: atOnce, Timeout: requestTime}))
	s := &Server{at: l.Addr(), http: &http.Server{
		Handler: mux, ReadTimeout: requestTime, WriteTimeout: 2 * requestTime, IdleTimeout: time.Minute, MaxHeaderBytes: headerMost,
	}}
	go func() { _ = s.http.Serve(l) }() // ends with Close
	return s, nil
}

// Addr is where it listens.
func (s *Server) Addr() net.Addr { return s.at }

// Close ends it, and all connections. It may be called of nil.
func (s *Server) Close() {
	if s != nil {
		_ = s.http.Close()
	}
}
