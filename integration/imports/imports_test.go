// Package imports holds who may import whom: the table of docs/architecture.md, with the reason beside each rule.
package imports

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "sharefs"

// rule says what one package, or all below a folder (a path that ends in "/..."), may import beside the standard library and its own
// subpackages. An entry stands for a package and all below it, but "sharefs" for the package of the nouns alone, and "sharefs/..." for all.
type rule struct {
	path   string
	may    []string
	reason string
}

// rules holds every room of the house; the first that fits counts.
var rules = []rule{
	{"sharefs", nil, "the nouns do no I/O, so that everything may import them"},

	{"sharefs/versions/kv/journal/...", []string{"sharefs", "sharefs/versions/kv/journal", "golang.org/x/sys"}, "a journal knows bytes, not trees"},
	{"sharefs/versions/kv/...", []string{"sharefs", "go.etcd.io/bbolt", "golang.org/x/sys"}, "bbolt has one user, who can be replaced with it"},
	{"sharefs/versions/chunk/...", []string{"sharefs", "github.com/zeebo/blake3", "golang.org/x/sys"}, "a pure algorithm"},
	{"sharefs/versions/pack/...", []string{"sharefs", "github.com/zeebo/blake3", "github.com/klauspost/compress", "golang.org/x/sys"},
		"packs hold sealed bytes and know nothing of files"},
	{"sharefs/versions/when/...", []string{"sharefs"}, "a parser"},
	{"sharefs/versions/writers/...", []string{"sharefs", "golang.org/x/sys"}, "it watches backing files, whosever they are"},
	{"sharefs/versions/tier/s3", []string{"sharefs", "sharefs/versions/tier", "github.com/minio/minio-go"}, "S3 has one client, who can be replaced with it"},
	{"sharefs/versions/tier/near", []string{"sharefs", "sharefs/versions/tier", "sharefs/versions/pack"}, "it is the directory of packs as package pack sees it, before a bucket"},
	{"sharefs/versions/tier/...", []string{"sharefs", "sharefs/versions/tier"}, "a bucket knows objects, not what is in them"},
	{"sharefs/versions/...", []string{"sharefs", "sharefs/internal/keyring", "sharefs/internal/retain", "github.com/zeebo/blake3", "golang.org/x/sys"}, "the tree does not know that FUSE is before it"},

	{"sharefs/peers/few", nil, "a structure"},
	{"sharefs/peers/index", nil, "a structure"},
	{"sharefs/peers/converge", []string{"sharefs", "sharefs/peers/few", "sharefs/peers/index", "sharefs/peers/record"}, "a pure function of records"},
	{"sharefs/peers/record", []string{"sharefs"}, "a format"},
	{"sharefs/peers/replica/host", []string{"sharefs", "sharefs/peers/record", "sharefs/peers/replica", "sharefs/versions"}, "the one place where what a replica needs meets what a tree has"},
	{"sharefs/peers/replica", []string{"sharefs", "sharefs/peers/converge", "sharefs/peers/few", "sharefs/peers/index", "sharefs/peers/record"}, "it declares what it needs of a tree and a database"},
	{"sharefs/peers/sim", nil, "tests alone: it ships nothing"},
	{"sharefs/peers/trust", []string{"sharefs", "sharefs/internal/retain"}, "a pure rule; a path is matched as in the rules of retention"},

	{"sharefs/fs/device/...", []string{"sharefs", "github.com/hanwen/go-fuse", "golang.org/x/sys"}, "the protocol knows nothing of trees"},
	{"sharefs/fs/...", []string{"sharefs", "sharefs/versions", "sharefs/meta", "sharefs/shmsim", "github.com/hanwen/go-fuse", "golang.org/x/sys"},
		"the edge is the only importer of go-fuse, and what it needs of the tree it declares as an interface"},

	{"sharefs/peers/identity", []string{"sharefs", "golang.org/x/crypto"}, "keys and their text"},
	{"sharefs/peers/frame", []string{"sharefs"}, "messages, whatever they say"},
	{"sharefs/peers/trust/shell", []string{"sharefs", "sharefs/internal/term", "sharefs/peers/trust"}, "the tool reads what the mount writes"},
	{"sharefs/peers/report", []string{"sharefs", "sharefs/internal/term"}, "the tool reads it without the parts that it tells of"},
	{"sharefs/peers/pair", []string{"sharefs", "sharefs/peers/frame", "sharefs/peers/identity"}, "protocols over any stream"},
	{"sharefs/peers/discover", []string{"sharefs", "golang.org/x/net", "golang.org/x/sys"}, "beacons know keys, not what they are good for"},
	{"sharefs/peers/book", []string{"sharefs", "sharefs/internal/bytesize", "sharefs/peers/trust"}, "what is kept of peers, wherever"},
	{"sharefs/peers/vault", []string{"sharefs", "sharefs/peers/frame", "sharefs/peers/pace", "sharefs/peers/trust", "sharefs/versions/tier", "golang.org/x/sys"},
		"a bucket over any session: it knows objects, and what permits to send them"},
	{"sharefs/peers/pace", []string{"sharefs"}, "bytes and time, whatever the bytes are"},
	{"sharefs/peers/link", []string{"sharefs", "sharefs/esp", "sharefs/peers"}, "the one user of esp: it brings the parts together, and knows nothing of trees"},

	{"sharefs/peers/engine", []string{"sharefs", "sharefs/peers/converge", "sharefs/peers/exchange", "sharefs/peers/record", "sharefs/peers/replica", "sharefs/peers/trust"},
		"it joins the replica and the exchange, over any tree"},
	{"sharefs/peers/exchange/wire", []string{"sharefs", "sharefs/peers/record", "sharefs/peers/trust"}, "messages, and what permits to write them; whatever they go over"},
	{"sharefs/peers/exchange", []string{"sharefs", "sharefs/esp", "sharefs/peers/exchange", "sharefs/peers/frame", "sharefs/peers/link", "sharefs/peers/pace", "sharefs/peers/record", "sharefs/peers/trust"},
		"it runs over the sessions of a hub; logs, content and keys it knows as interfaces"},

	{"sharefs/esp/...", []string{"sharefs/esp/internal", "golang.org/x", "github.com/flynn/noise", "github.com/klauspost/compress", "github.com/libp2p/go-reuseport", "github.com/zeebo/blake3"},
		"a transport that other programs import too; it knows nothing of files"},

	{"sharefs/internal/daemon", []string{"sharefs/...", "golang.org/x/sys"}, "the one constructor names every part"},
	{"sharefs/internal/term", []string{"sharefs/internal/bytesize", "github.com/dustin/go-humanize", "golang.org/x/term"}, "text for people, of anything"},
	{"sharefs/internal/qrcode", []string{"rsc.io/qr"}, "one user of QR codes"},
	{"sharefs/internal/recovery", []string{"sharefs", "github.com/tyler-smith/go-bip39/wordlists"}, "a sheet of paper: it has no way to the bucket or the store"},
	{"sharefs/internal/keyring", []string{"sharefs", "github.com/zeebo/blake3"}, "a set and its text: the store keeps it, the tree derives from it"},
	{"sharefs/internal/textdiff", nil, "a pure algorithm"},
	{"sharefs/internal/retain", []string{"sharefs"}, "a pure rule: the configuration says it, the tree keeps it"},
	{"sharefs/internal/dbhold", []string{"golang.org/x/sys"}, "the daemon's child and the tool take SQLite's locks, and neither needs the other"},
	{"sharefs/internal/treediff", []string{"sharefs", "golang.org/x/sys"}, "it compares any two directories"},
	{"sharefs/internal/restore", []string{"sharefs", "sharefs/internal/treediff", "golang.org/x/sys"}, "it makes any directory like another; what is particular of a mount it is told"},
	{"sharefs/internal/build", nil, "it must be able to say which version is broken"},
	{"sharefs/internal/jobs", []string{"sharefs", "sharefs/internal/term"}, "the daemon runs jobs, the tool reads of them, and neither needs the other"},
	{"sharefs/internal/status", []string{"sharefs/internal/term", "sharefs/peers/report"}, "the tool reads it without the parts that it tells of"},
	{"sharefs/internal/metrics", []string{"sharefs", "sharefs/internal/status", "sharefs/peers/report", "github.com/prometheus"}, "it tells programs what the status tells"},
	{"sharefs/internal/bytesize", nil, "the text of a number"},
	{"sharefs/internal/config", []string{"sharefs", "sharefs/internal/bytesize", "sharefs/internal/mountopt", "sharefs/internal/retain", "github.com/BurntSushi/toml"}, "one reader of TOML"},
	{"sharefs/internal/client", []string{"sharefs", "sharefs/internal/dbhold", "sharefs/internal/jobs", "sharefs/internal/mountinfo", "sharefs/internal/restore", "sharefs/internal/status", "sharefs/internal/term",
		"sharefs/internal/treediff", "sharefs/peers/report", "golang.org/x/sys"},
		"the tool talks to a mount through its files, as any program does"},
	{"sharefs/internal/...", []string{"sharefs", "sharefs/internal/build", "sharefs/internal/client", "sharefs/internal/config", "sharefs/internal/keyring", "sharefs/internal/mountinfo",
		"sharefs/internal/mountopt", "sharefs/internal/mountpoint", "sharefs/internal/status", "sharefs/internal/store", "sharefs/internal/term", "sharefs/peers/identity", "golang.org/x/sys"},
		"small parts beside the daemon, none of which knows it"},

	{"sharefs/cmd/sharefs-mount", []string{"sharefs", "sharefs/internal", "github.com/spf13/pflag", "golang.org/x/sys"}, "flags, the daemon, wait"},
	{"sharefs/cmd/sharefs/espcmd", []string{"sharefs/esp", "sharefs/internal/term", "github.com/spf13/cobra", "github.com/dustin/go-humanize"},
		"the transport by hand, without a mount: what it does can be done by any program that imports esp"},
	{"sharefs/cmd/sharefs", []string{"sharefs", "sharefs/cmd/sharefs/espcmd", "sharefs/internal/build", "sharefs/internal/client", "sharefs/internal/doctor", "sharefs/internal/jobs", "sharefs/internal/mountpoint",
		"sharefs/internal/qrcode", "sharefs/peers/report", "sharefs/peers/trust", "sharefs/internal/restore", "sharefs/internal/status", "sharefs/internal/store", "sharefs/internal/term", "sharefs/internal/textdiff", "sharefs/internal/treediff", "github.com/spf13", "golang.org/x/sys"},
		"the tool can do what its user may do with files, and no more; of the store it learns which directory a name means"},

	{"sharefs/scripts/...", nil, "scripts run before anything is built"},
	{"sharefs/bench/...", []string{"sharefs/...", "github.com", "golang.org/x", "go.etcd.io"}, "it compares with everything"},
	{"sharefs/integration/...", []string{"sharefs/...", "github.com", "golang.org/x", "go.etcd.io", "pgregory.net"}, "tests from outside may use anything"},
}

// owned names modules that a few packages alone may reach, by whatever way: what a program links is what it can break by.
var owned = []struct {
	path    string
	by      []string // packages that may import it directly
	reason  string
	neverIn []string // programs that must not link it
}{
	{"github.com/hanwen/go-fuse", []string{"sharefs/fs", "sharefs/bench", "sharefs/integration"}, "one edge to FUSE", []string{"sharefs/cmd/sharefs"}},
	{"go.etcd.io/bbolt", []string{"sharefs/versions/kv", "sharefs/bench", "sharefs/integration"}, "one user of bbolt", []string{"sharefs/cmd/sharefs"}},
	{"sharefs/versions", []string{"sharefs/versions", "sharefs/fs", "sharefs/internal/daemon", "sharefs/peers/replica/host", "sharefs/peers/vault", "sharefs/bench", "sharefs/integration"},
		"whoever else wants something of the past asks the mount", []string{"sharefs/cmd/sharefs"}},
	{"github.com/prometheus/client_golang", []string{"sharefs/internal/metrics"}, "one way to tell metrics", []string{"sharefs/cmd/sharefs"}},
	{"github.com/minio/minio-go", []string{"sharefs/versions/tier/s3"}, "one client of S3", []string{"sharefs/cmd/sharefs"}},
	{"testing", []string{"sharefs/integration", "sharefs/esp", "sharefs/versions/tier/tiertest"}, "helpers of tests do not stand in what is shipped", []string{"sharefs/cmd/sharefs", "sharefs/cmd/sharefs-mount"}},
}

// pkg is what go list tells of a package.
type pkg struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,Deps", module+"/...")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var all []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 20 {
		t.Fatalf("go list knows %d packages only", len(all))
	}
	return all
}

// in reports whether path is root or lies below it.
func in(path, root string) bool { return path == root || strings.HasPrefix(path, root+"/") }

func inAny(path string, roots []string) bool {
	return slices.ContainsFunc(roots, func(root string) bool { return in(path, root) })
}

func (r *rule) fits(path string) bool {
	root, folder := strings.CutSuffix(r.path, "/...")
	if folder {
		return in(path, root)
	}
	return path == r.path
}

// allows reports whether a package under the rule may import path.
func (r *rule) allows(importer, path string) bool {
	first, _, _ := strings.Cut(path, "/")
	if first != module && !strings.Contains(first, ".") {
		return true // the standard library
	}
	for _, m := range r.may {
		switch m {
		case module:
			if path == module {
				return true
			}
		default:
			if in(path, strings.TrimSuffix(m, "/...")) {
				return true
			}
		}
	}
	return path != importer && strings.HasPrefix(path, importer+"/")
}

func TestEveryPackageKeepsToItsRule(t *testing.T) {
	for _, p := range list(t) {
		i := slices.IndexFunc(rules, func(r rule) bool { return r.fits(p.ImportPath) })
		if i < 0 {
			t.Errorf("%s has no place in the table", p.ImportPath)
			continue
		}
		for _, path := range p.Imports {
			if !rules[i].allows(p.ImportPath, path) {
				t.Errorf("%s imports %s: %s", p.ImportPath, path, rules[i].reason)
			}
		}
	}
}

func TestWhatHasOneOwnerIsReachedThroughIt(t *testing.T) {
	for _, p := range list(t) {
		for _, o := range owned {
			if slices.ContainsFunc(p.Imports, func(path string) bool { return in(path, o.path) }) && !inAny(p.ImportPath, o.by) {
				t.Errorf("%s imports %s: %s", p.ImportPath, o.path, o.reason)
			}
			if slices.Contains(o.neverIn, p.ImportPath) && slices.ContainsFunc(p.Deps, func(path string) bool { return in(path, o.path) }) {
				t.Errorf("%s links %s: %s", p.ImportPath, o.path, o.reason)
			}
		}
	}
}

func TestRulesTellPackagesApart(t *testing.T) {
	journal, cmd := &rules[1], &rule{path: "sharefs/cmd/sharefs", may: []string{"sharefs"}}
	for _, c := range []struct {
		rule     *rule
		importer string
		path     string
		want     bool
	}{
		{journal, "sharefs/versions/kv/journal", "sharefs", true}, {journal, "sharefs/versions/kv/journal", "os", true},
		{journal, "sharefs/versions/kv/journal", "sharefs/versions", false}, {journal, "sharefs/versions/kv/journal", "sharefs/versions/kv/journal/simdisk", true},
		{cmd, "sharefs/cmd/sharefs", "sharefs/fs", false}, {cmd, "sharefs/cmd/sharefs", "github.com/spf13/cobra", false},
	} {
		if got := c.rule.allows(c.importer, c.path); got != c.want {
			t.Errorf("%s imports %s: %v", c.importer, c.path, got)
		}
	}
}
