package config

import (
	"fmt"
	"net"
	"strconv"
)

// Metrics says whether programs are told over HTTP how the mount is.
//
//	[metrics]
//	listen = ""   # "": nowhere; or such as "127.0.0.1:9464", where http://127.0.0.1:9464/metrics is for Prometheus
type Metrics struct {
	Listen string `toml:"listen"`
}

// metricsFile is the part of [File] that tells of metrics.
const metricsFile = `
# Metrics for Prometheus over HTTP, for whoever can reach the address; .share/ctl/metrics has them always.
[metrics]
listen      = ""         # "": nowhere; or such as "127.0.0.1:9464"
`

func metricsKeys() []string { return []string{"metrics.listen"} }

func (m *Metrics) check() error {
	if m.Listen == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(m.Listen)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf(`metrics.listen is "" or an address such as "127.0.0.1:9464", not %q`, m.Listen)
	}
	return nil
}
