package daemon

import (
	"sync/atomic"

	"sharefs/fs"
	"sharefs/internal/metrics"
)

// telling is how programs are told how the mount is.
type telling struct {
	all    *metrics.Metrics
	server *metrics.Server        // nil: not over HTTP
	why    atomic.Pointer[string] // it is not over HTTP although it should be; nil: all is well
}

// startMetrics begins to tell metrics over HTTP, if the configuration says where. The mount goes on without; what is wrong is in the status.
func (d *Daemon) startMetrics() {
	t, at := &d.telling, d.store.Config.Metrics.Listen
	if at == "" {
		return
	}
	var err error
	if t.server, err = t.all.Listen(at); err != nil {
		why := "no metrics over HTTP: " + err.Error()
		t.why.Store(&why)
		d.log.Error(why)
		d.warn(why)
		return
	}
	d.log.Info("metrics", "at", "http://"+t.server.Addr().String()+"/metrics")
}

// metricsFile is .share/ctl/metrics, for who may see peers.
func (d *Daemon) metricsFile() fs.CtlFile {
	d.telling.all = metrics.New(metrics.Source{Status: d.wholeStatus})
	return fs.CtlFile{Name: "metrics", Mode: 0o400, Read: func() []byte {
		text, err := d.telling.all.Text()
		if err != nil {
			d.log.Error("metrics", "error", err)
		}
		return text
	}}
}
