package config

import (
	"fmt"
	"os"
	"strings"

	"sharefs/internal/mountopt"
)

// Peers says how other hosts are reached.
//
//	[peers]
//	listen = "auto"   # nowhere before the first pairing, then on any port, which is kept; or "off", or an address such as "0.0.0.0:7274"
//	lan    = true     # look for known peers on the local network, and be found by them
//	name   = ""       # what this host calls itself; by default its host name
type Peers struct {
	Listen string `toml:"listen"`
	LAN    bool   `toml:"lan"`
	Name   string `toml:"name"`
}

func defaultPeers() Peers { return Peers{Listen: mountopt.ListenAuto, LAN: true} }

// peersFile is the part of [File] that tells of peers.
const peersFile = `
[peers]
listen      = "auto"     # nowhere before the first pairing, then on any port, which is kept; or "off", or "0.0.0.0:7274"
lan         = true       # look for known peers on the local network, and be found by them
name        = ""         # what this host calls itself; "": its host name
`

func peersKeys() []string { return []string{"peers.listen", "peers.lan", "peers.name"} }

func (p *Peers) check() error {
	if _, err := mountopt.ParseListen(p.Listen); err != nil {
		return fmt.Errorf(`peers.listen is "auto", "off", or an address such as "0.0.0.0:7274", "[::]:7274" or "127.0.0.1:7274", not %q`, p.Listen)
	}
	return nil
}

// HostName is what this host calls itself.
func (p *Peers) HostName() string {
	if p.Name != "" {
		return p.Name
	}
	host, err := os.Hostname()
	if err != nil {
		return ""
	}
	host, _, _ = strings.Cut(host, ".")
	return host
}
