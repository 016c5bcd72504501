// Package build tells which build of ShareFS runs.
package build

import (
	"runtime"
	"runtime/debug"
	"strings"
)

// Version is the release that the source stands for.
const Version = "0.1.0"

// Info is what `sharefs version` tells.
type Info struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"` // of the source, where the build knew it; "+" behind it: with changes
	Time     string `json:"time,omitempty"`     // of the revision, RFC 3339
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// Read returns what the toolchain recorded in the running program.
func Read() Info {
	info := Info{Version: Version, Go: strings.TrimPrefix(runtime.Version(), "go"), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	b, ok := debug.ReadBuildInfo()
	if !ok {
		return info
	}
	for _, s := range b.Settings {
		switch s.Key {
		case "vcs.revision":
			info.Revision = s.Value[:min(12, len(s.Value))] + info.Revision
		case "vcs.time":
			info.Time = s.Value
		case "vcs.modified":
			if s.Value == "true" {
				info.Revision += "+"
			}
		}
	}
	return info
}

// String is one line: "0.1.0 (1a2b3c4d5e6f, go1.26.8, linux/amd64)".
func (i Info) String() string {
	parts := make([]string, 0, 3)
	if i.Revision != "" {
		parts = append(parts, i.Revision)
	}
	return i.Version + " (" + strings.Join(append(parts, "go "+i.Go, i.Platform), ", ") + ")"
}
