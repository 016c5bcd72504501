package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// process is a program on a host of the network.
type process struct {
	cmd  *exec.Cmd
	gone chan struct{}
}

func (n *peerNet) run(host int, log string, argv ...string) (*process, error) {
	f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p := &process{cmd: exec.Command(argv[0], argv[1:]...), gone: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = f, f
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt at the terminal is for bench alone
	if err := n.hosts[host].Start(p.cmd); err != nil {
		return nil, err
	}
	go func() { p.cmd.Wait(); close(p.gone) }()
	return p, nil
}

// end asks the program to end, and ends it after a while.
func (p *process) end() {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.gone:
	case <-time.After(time.Minute):
		p.cmd.Process.Kill()
		<-p.gone
	}
}

// syncthing is one Syncthing for each host. All of them know each other from the start.
type syncthing struct {
	net  *peerNet
	work string
	key  []string // of each one's API
	runs []*process
}

func newSyncthing(ctx context.Context, work string, n *peerNet) (*syncthing, func(), error) {
	s := &syncthing{net: n, work: work, key: make([]string, len(n.hosts)), runs: make([]*process, len(n.hosts))}
	down := func() {
		for i := range s.runs {
			s.stop(i)
		}
	}
	ids := make([]string, len(n.hosts))
	for i := range n.hosts {
		if err := os.MkdirAll(s.root(i), 0o755); err != nil {
			return nil, down, err
		}
		if err := command(ctx, "", nil, "syncthing", "generate", "--home", s.home(i), "--no-default-folder", "--skip-port-probing"); err != nil {
			return nil, down, err
		}
		id, err := exec.CommandContext(ctx, "syncthing", "--home", s.home(i), "--device-id").Output()
		if err != nil {
			return nil, down, fmt.Errorf("syncthing --device-id: %w", err)
		}
		ids[i], s.key[i] = strings.TrimSpace(string(id)), fmt.Sprintf("bench%d", i)
	}
	for i := range n.hosts {
		if err := os.WriteFile(filepath.Join(s.home(i), "config.xml"), []byte(s.config(i, ids)), 0o600); err != nil {
			return nil, down, err
		}
	}
	return s, down, nil
}

func (s *syncthing) name() string      { return "Syncthing" }
func (s *syncthing) home(i int) string { return filepath.Join(s.work, fmt.Sprintf("home%d", i)) }
func (s *syncthing) root(i int) string { return filepath.Join(s.work, fmt.Sprintf("folder%d", i)) }

func (s *syncthing) leaders() (pids []int) {
	for _, p := range s.runs {
		if p != nil {
			pids = append(pids, p.cmd.Process.Pid)
		}
	}
	return pids
}

// config is that of host i: as a fresh installation has it, but for the watcher's delay, and without what asks the internet.
func (s *syncthing) config(i int, ids []string) string {
	var folder, devices strings.Builder
	for k, id := range ids {
		fmt.Fprintf(&folder, "<device id=%q></device>", id)
		address := "dynamic"
		if k != i {
			address = "tcp://" + s.net.addr(i, k) + ":22000"
		}
		fmt.Fprintf(&devices, "<device id=%q name=\"host%d\" compression=\"metadata\"><address>%s</address></device>\n", id, k, address)
	}
	return fmt.Sprintf(`<configuration version="36">
<folder id="bench" label="bench" path=%q type="sendreceive" rescanIntervalS="3600" fsWatcherEnabled="true" fsWatcherDelayS="1">%s</folder>
%s<gui enabled="true" tls="false"><address>127.0.0.1:8384</address><apikey>%s</apikey></gui>
<options><listenAddress>tcp://0.0.0.0:22000</listenAddress><globalAnnounceEnabled>false</globalAnnounceEnabled><localAnnounceEnabled>false</localAnnounceEnabled>
<relaysEnabled>false</relaysEnabled><natEnabled>false</natEnabled><startBrowser>false</startBrowser><urAccepted>-1</urAccepted><autoUpgradeIntervalH>0</autoUpgradeIntervalH>
<crashReportingEnabled>false</crashReportingEnabled><setLowPriority>false</setLowPriority><reconnectionIntervalS>1</reconnectionIntervalS></options>
</configuration>
`, s.root(i), folder.String(), devices.String(), s.key[i])
}

func (s *syncthing) start(ctx context.Context, i int) (err error) {
	s.runs[i], err = s.net.run(i, s.home(i)+".log", "syncthing", "serve", "--home", s.home(i), "--no-browser", "--no-restart", "--logflags=3")
	return err
}

func (s *syncthing) stop(i int) {
	if s.runs[i] != nil {
		s.runs[i].end()
		s.runs[i] = nil
	}
}

// ask calls the REST API (docs.syncthing.net/dev/rest.html), from within the host's network.
func (s *syncthing) ask(ctx context.Context, i int, method, path string) ([]byte, error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		return s.net.hosts[i].Dial(ctx, network, addr)
	}}}
	r, err := http.NewRequestWithContext(ctx, method, "http://127.0.0.1:8384"+path, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("X-API-Key", s.key[i])
	answer, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("syncthing: %s: %s: %s", path, answer.Status, body)
	}
	return body, err
}

// taken has Syncthing scan the folder now, rather than after its watcher's delay.
func (s *syncthing) taken(ctx context.Context, i int) error {
	if _, err := s.ask(ctx, i, http.MethodPost, "/rest/db/scan?folder=bench"); err != nil {
		return err
	}
	for {
		body, err := s.ask(ctx, i, http.MethodGet, "/rest/db/status?folder=bench")
		if err != nil {
			return err
		}
		var state struct {
			State string `json:"state"`
			Need  int    `json:"needTotalItems"`
		}
		if err := json.Unmarshal(body, &state); err != nil {
			return fmt.Errorf("syncthing: status: %w", err)
		}
		if state.State == "idle" && state.Need == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// peerShare is one mount for each host.
type peerShare struct {
	work   string
	mounts []*subject
}

func newPeerShare(ctx context.Context, work string, n *peerNet) (*peerShare, func(), error) {
	s := &peerShare{work: work}
	down := func() {
		for i := range s.mounts {
			s.stop(i)
		}
	}
	if err := os.Mkdir(work, 0o755); err != nil {
		return nil, down, err
	}
	if err := command(ctx, "", nil, "go", "build", "-o", work+"/", "sharefs/cmd/sharefs-mount", "sharefs/cmd/sharefs"); err != nil {
		return nil, down, err
	}
	for i, host := range n.hosts {
		root, store := filepath.Join(work, fmt.Sprintf("share%d", i)), filepath.Join(work, fmt.Sprintf("store%d", i))
		m := &subject{name: s.name(), dir: root, root: root, run: host.Start}
		m.mountBy(work, "sharefs-mount", "-f", "--store", store, root)
		s.mounts = append(s.mounts, m)
		if err := errors.Join(os.Mkdir(store, 0o700), os.Mkdir(root, 0o755),
			os.WriteFile(filepath.Join(store, "share.toml"), fmt.Appendf(nil, "[peers]\nname = \"host%d\"\n", i), 0o600), m.up()); err != nil {
			return nil, down, err
		}
	}
	for i := range n.hosts {
		for k := range i {
			link, err := s.tool(ctx, k, "pair", "--link")
			if err == nil {
				_, err = s.tool(ctx, i, "pair", strings.TrimSpace(link))
			}
			if err == nil {
				_, err = s.tool(ctx, i, "grant", fmt.Sprintf("host%d", k), "manage")
			}
			if err == nil {
				_, err = s.tool(ctx, k, "grant", fmt.Sprintf("host%d", i), "manage")
			}
			if err != nil {
				return nil, down, err
			}
		}
	}
	down()
	return s, down, nil
}

func (s *peerShare) name() string                           { return "ShareFS" }
func (s *peerShare) root(i int) string                      { return s.mounts[i].root }
func (s *peerShare) start(_ context.Context, i int) error   { return s.mounts[i].up() }
func (s *peerShare) taken(ctx context.Context, i int) error { return s.mounts[i].captured(ctx) }

func (s *peerShare) leaders() (pids []int) {
	for _, m := range s.mounts {
		pids = append(pids, m.pid)
	}
	return pids
}

// stop unmounts a host's share, if it is mounted.
func (s *peerShare) stop(i int) {
	s.mounts[i].down()
	s.mounts[i].down = func() {}
}

func (s *peerShare) tool(ctx context.Context, i int, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, filepath.Join(s.work, "sharefs"), append([]string{"-C", s.root(i)}, args...)...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("sharefs %v: %w: %s", args, err, out)
	}
	return string(out), err
}
