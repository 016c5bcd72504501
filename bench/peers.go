package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sharefs/integration/linkem"
)

// synced keeps a folder the same on some hosts. Hosts are numbered from 0.
type synced interface {
	name() string
	// start runs the program on a host, and stop ends it. Between the two the hosts know each other already.
	start(ctx context.Context, host int) error
	stop(host int)
	root(host int) string
	// leaders are the processes that lead those of the program.
	leaders() []int
	// taken waits until the program knows what lies in a host's folder.
	taken(ctx context.Context, host int) error
}

const peersTried = 10 * time.Minute // for the slowest step of the slowest program

// peerLink is a link on which the programs are compared, and how much is sent over it.
type peerLink struct {
	title, note           string
	link                  linkem.Conditions
	saves, changes, small int   // in each round
	large                 []int // MiB
	third                 bool
}

var peerLinks = []peerLink{
	{"Peers on a LAN", "three hosts, links that carry what comes, joined as network cards join packets", linkem.Conditions{}, 11, 3, 10_000, []int{1024, 256, 256, 256, 256}, true},
	{"Peers far apart", "two hosts, a link of 100 Mbit/s and 50 ms there and back, which loses 1 % of the packets", linkem.Conditions{Delay: 25 * time.Millisecond, Loss: 0.01, Rate: 12.5e6}, 11, 5, 2000, []int{64}, false},
}

// peerRows measures Syncthing and ShareFS between hosts of their own, which are network namespaces with the same links, on the same data, in turn.
func peerRows(ctx context.Context, o options, _ []*subject, t *tables) error {
	links := slices.DeleteFunc(slices.Clone(peerLinks), func(l peerLink) bool { return !o.match.MatchString(strings.ToLower(l.title)) })
	if len(links) == 0 {
		return nil
	}
	if _, err := exec.LookPath("syncthing"); err != nil {
		return errors.New("syncthing is missing: apt install syncthing")
	}
	for _, l := range links {
		if o.quick {
			l.saves, l.changes, l.small, l.large = 3, 2, l.small/10, slices.Clone(l.large)
			for i := range l.large {
				l.large[i] /= 8
			}
		}
		total := 0
		for _, n := range l.large {
			total += n
		}
		table := t.table(l.title, fmt.Sprintf(`Folders kept the same by Syncthing %s (a watcher delay of 1 s in place of 10, no relays, addresses given) and by ShareFS with its defaults: %s.
%d files of 1 to 4 KiB, %d files of %d MiB in all; a first sync is from the start of the program on the second host until all can be read there. In each round %d files are closed one after the other, and 1 %% of the large file is changed %d times, each
time elsewhere; what is told of a round is their median.`, version(ctx, "syncthing", "--version"), l.note, l.small, len(l.large), total, l.saves-1, l.changes))
		table.names = []string{"Syncthing", "ShareFS", espAlone}
		for range min(o.rounds, 3) {
			if err := peerRound(ctx, o, l, table); err != nil {
				return err
			}
		}
	}
	return nil
}

func peerRound(ctx context.Context, o options, l peerLink, out *table) error {
	work, err := os.MkdirTemp(o.dir, "sharefs-bench-peers-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	net := linkem.New(1)
	defer net.Close()
	var hosts []*linkem.Host
	count := 2
	if l.third {
		count = 3
	}
	for i := range count {
		h, err := net.AddHost(fmt.Sprintf("host%d", i))
		if err != nil {
			return err
		}
		hosts = append(hosts, h)
	}
	n := &peerNet{hosts: hosts, links: map[[2]int]*linkem.Link{}}
	for i := range hosts {
		for k := range i {
			connect := net.Connect
			if l.link == (linkem.Conditions{}) { // it has the programs' processors to itself otherwise
				connect = net.ConnectJoined
			}
			link, err := connect(hosts[k], hosts[i], linkem.DefaultMTU, l.link)
			if err != nil {
				return err
			}
			n.links[[2]int{k, i}], n.links[[2]int{i, k}] = link, link
		}
	}
	data, err := newPeerData(work, l)
	if err != nil {
		return err
	}
	syncthing, endSyncthing, err := newSyncthing(ctx, filepath.Join(work, "syncthing"), n)
	defer endSyncthing()
	if err != nil {
		return err
	}
	share, endShare, err := newPeerShare(ctx, filepath.Join(work, "sharefs"), n)
	defer endShare()
	if err != nil {
		return err
	}
	for _, step := range []func(context.Context, *peerNet, synced, *table) error{data.saves, data.firstSmall, data.firstLarge, data.change, data.rename, data.remove, data.join} {
		for _, p := range []synced{syncthing, share} {
			if !o.peers.MatchString(p.name()) {
				continue
			}
			if err := step(ctx, n, p, out); err != nil {
				return fmt.Errorf("%s: %w", p.name(), err)
			}
		}
	}
	if !o.peers.MatchString(espAlone) {
		return nil
	}
	return data.alone(ctx, n, share, out)
}

// peerNet is the hosts and the links between any two of them.
type peerNet struct {
	hosts []*linkem.Host
	links map[[2]int]*linkem.Link
}

// addr returns where host i reaches host k.
func (n *peerNet) addr(i, k int) string { return n.links[[2]int{i, k}].Addr(n.hosts[k]).String() }

// sent returns the bytes that have entered the links toward host i.
func (n *peerNet) sent(i int) (total uint64) {
	for k := range n.hosts {
		if k != i {
			total += n.links[[2]int{i, k}].Stats(n.hosts[i]).Bytes
		}
	}
	return total
}

// peerData is what the folders hold.
type peerData struct {
	peerLink
	dir  string // where it is prepared
	body []byte // of the small files, from some place on
}

func newPeerData(work string, l peerLink) (*peerData, error) {
	d := &peerData{peerLink: l, dir: filepath.Join(work, "data"), body: make([]byte, 16<<20)}
	random(0).Read(d.body)
	for i := range l.small {
		path := filepath.Join(d.dir, d.smallName(i))
		if i%100 == 0 {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				return nil, err
			}
		}
		if err := os.WriteFile(path, d.content(i), 0o644); err != nil {
			return nil, err
		}
	}
	for i, size := range l.large {
		f, err := os.Create(filepath.Join(d.dir, largeName(i)))
		if err != nil {
			return nil, err
		}
		_, err = io.CopyN(f, random(1+i), int64(size)<<20)
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// random returns bytes of which no part comes twice, also not in those of other numbers: a program that knows what it has need not send the same again.
func random(number int) *rand.ChaCha8 {
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], uint64(number))
	return rand.NewChaCha8(seed)
}

// smallName puts half of the files below "a", which is renamed, and half below "b", which is removed.
func (d *peerData) smallName(i int) string {
	half := "a"
	if i >= d.small/2 {
		half = "b"
	}
	return fmt.Sprintf("%s/%d/%d", half, i/100, i)
}

func (d *peerData) content(i int) []byte {
	return append([]byte(fmt.Sprintf("%8d", i)), d.body[i*997:][:1024+i*7919%3072-8]...)
}

func largeName(i int) string { return fmt.Sprintf("large%d", i) }

// fact is something that is to become true on a host, and stays so.
type fact func() bool

// wait waits until all facts are true, one after the other.
func wait(ctx context.Context, pause time.Duration, facts []fact) error {
	ctx, end := context.WithTimeout(ctx, peersTried)
	defer end()
	for _, is := range facts {
		for !is() {
			select {
			case <-ctx.Done():
				return fmt.Errorf("what was done on one host is not seen on the other: %w", ctx.Err())
			case <-time.After(pause):
			}
		}
	}
	return nil
}

func holds(path string, want []byte) fact {
	return func() bool {
		got, err := os.ReadFile(path)
		return err == nil && bytes.Equal(got, want)
	}
}

func holdsAt(path string, at int64, want []byte) fact {
	return func() bool {
		f, err := os.Open(path)
		if err != nil {
			return false
		}
		defer f.Close()
		got := make([]byte, len(want))
		_, err = f.ReadAt(got, at)
		return err == nil && bytes.Equal(got, want)
	}
}

func gone(path string) fact {
	return func() bool {
		_, err := os.Lstat(path)
		return errors.Is(err, os.ErrNotExist)
	}
}

// everything lists what is true of a folder that holds all of the data.
func (d *peerData) everything(root string) (facts []fact) {
	for i := range d.small {
		facts = append(facts, holds(filepath.Join(root, d.smallName(i)), d.content(i)))
	}
	for i, size := range d.large {
		path := filepath.Join(root, largeName(i))
		facts = append(facts, func() bool {
			st, err := os.Stat(path)
			return err == nil && st.Size() == int64(size)<<20
		}, func() bool {
			return exec.Command("cmp", "-s", path, filepath.Join(d.dir, largeName(i))).Run() == nil
		})
	}
	return facts
}

// saves measures the time from the close of a file on one host until it can be read on the other.
func (d *peerData) saves(ctx context.Context, n *peerNet, p synced, t *table) error {
	r := t.row("close to readable, one file of 4 KiB", "ms", false, gate{against: "Syncthing", atLeast: 3}, gate{atMost: saveGoal(d.link)})
	for host := range 2 {
		if err := p.start(ctx, host); err != nil {
			return err
		}
	}
	var took []float64
	for i := range d.peerLink.saves {
		name, body := fmt.Sprintf("save%d", i%2), fmt.Appendf(d.body[:4<<10:4<<10], "%d", i) // a new file, and then new content of it
		if err := os.WriteFile(filepath.Join(p.root(0), name), body, 0o644); err != nil {
			return err
		}
		began := time.Now()
		if err := wait(ctx, time.Millisecond, []fact{holds(filepath.Join(p.root(1), name), body)}); err != nil {
			return err
		}
		if i > 0 { // the first one finds them just met
			took = append(took, ms(time.Since(began)))
		}
		time.Sleep(personPace)
	}
	r.add(p.name(), median(took))
	return nil
}

// personPace is the time between what one person does and what it does next, in which a program comes to rest.
const personPace = 3 * time.Second

// saveGoal is 100 ms on a LAN, and two times there and back more where that counts.
func saveGoal(l linkem.Conditions) float64 { return 100 + 4*ms(l.Delay) }

// firstSmall and firstLarge measure the first sync: the second host comes when all lies on the first.
func (d *peerData) firstSmall(ctx context.Context, n *peerNet, p synced, t *table) error {
	r := t.row(fmt.Sprintf("first sync, %d small files", d.small), "s", false, threeTimes...)
	return d.first(ctx, n, p, nil, r, "[ab]", d.everything(p.root(1))[:d.small])
}

func (d *peerData) firstLarge(ctx context.Context, n *peerNet, p synced, t *table) error {
	r := t.row(largeRow, "s", false, append(slices.Clip(threeTimes), gate{against: espAlone, atLeast: 0.8})...)
	return d.first(ctx, n, p, t, r, "large*", d.everything(p.root(1))[d.small:])
}

func (d *peerData) first(ctx context.Context, n *peerNet, p synced, t *table, r *row, glob string, facts []fact) error {
	p.stop(1)
	if err := command(ctx, d.dir, nil, "sh", "-c", "cp -r "+glob+` "$1"`, "sh", p.root(0)); err != nil {
		return err
	}
	if err := p.taken(ctx, 0); err != nil {
		return err
	}
	return comes(ctx, n, p, 1, t, r, facts)
}

// comes starts a program on a host and measures the time until some facts are true. Table, unless it is nil, has rows of what that took beside.
func comes(ctx context.Context, n *peerNet, p synced, host int, table *table, r *row, facts []fact) error {
	if table != nil {
		unix.Sync()
		if err := warmMemory(warmFor); err != nil {
			return err
		}
	}
	sent := n.sent(host)
	began := fromRest()
	before, err := spentBy(p.leaders())
	if err != nil {
		return err
	}
	if err := p.start(ctx, host); err != nil {
		return err
	}
	if err := wait(ctx, 20*time.Millisecond, facts); err != nil {
		return err
	}
	r.add(p.name(), time.Since(began).Seconds())
	if table == nil {
		return nil
	}
	after, err := spentBy(p.leaders())
	if err == nil {
		table.row(r.name+": sent for it", "MB", false).add(p.name(), float64(n.sent(host)-sent)/1e6)
		before.rows(table, r.name, p.name(), after)
	}
	return err
}

// fromRest returns when the time of a step begins: once the disk has all that was written before, by whichever program.
func fromRest() time.Time {
	unix.Sync()
	return time.Now()
}

// warmFor is about what the large files take in memory on a host that keeps them twice, and with the senders' reading.
const warmFor = 6 << 30

const largeRow = "first sync, large files"

var threeTimes = []gate{{against: "Syncthing", atLeast: 3}}

// change measures how long it takes until 1 % of a large file that was written anew can be read on the other host. One change is a matter of luck where packets are lost,
// so there are several.
func (d *peerData) change(ctx context.Context, n *peerNet, p synced, t *table) error {
	var took, sent []float64
	for i := range d.changes {
		if i > 0 {
			time.Sleep(personPace)
		}
		fromRest()
		before := n.sent(1)
		began, facts, err := d.changeSome(p, i)
		if err != nil {
			return err
		}
		if err := wait(ctx, 5*time.Millisecond, facts); err != nil {
			return err
		}
		took, sent = append(took, time.Since(began).Seconds()), append(sent, float64(n.sent(1)-before)/1e6)
	}
	t.row(fmt.Sprintf("change of 1 %% of a file of %d MiB", d.large[0]), "s", false, threeTimes...).add(p.name(), median(took))
	t.row("sent for it", "MB", false).add(p.name(), median(sent))
	return nil
}

// changeSome writes 1 % of a large file anew on the first host, in pieces of 64 KiB all over it, each time in other places, and returns when it was closed and what is
// then to be so on the second one.
func (d *peerData) changeSome(p synced, number int) (closed time.Time, facts []fact, err error) {
	const piece, each = 64 << 10, 100
	f, err := os.OpenFile(filepath.Join(p.root(0), largeName(0)), os.O_WRONLY, 0)
	if err != nil {
		return closed, nil, err
	}
	var failed error
	other, news := filepath.Join(p.root(1), largeName(0)), random(1+len(d.large)+number)
	for i := number * each / d.changes; i < d.large[0]<<20/piece; i += each {
		fresh, at := make([]byte, piece), int64(i)*piece
		news.Read(fresh)
		if _, err := f.WriteAt(fresh, at); err != nil {
			failed = err
		}
		facts = append(facts, holdsAt(other, at, fresh))
	}
	err = errors.Join(failed, f.Close())
	return time.Now(), facts, err
}

// rename renames a directory with half of the small files.
func (d *peerData) rename(ctx context.Context, n *peerNet, p synced, t *table) error {
	if err := p.taken(ctx, 0); err != nil {
		return err
	}
	var facts []fact
	for i := range d.small / 2 {
		path := filepath.Join(p.root(1), "renamed", d.smallName(i)[2:])
		facts = append(facts, func() bool {
			st, err := os.Stat(path)
			return err == nil && st.Size() == int64(len(d.content(i)))
		})
	}
	facts = append(facts, gone(filepath.Join(p.root(1), "a")))
	fromRest()
	sent := n.sent(1)
	if err := os.Rename(filepath.Join(p.root(0), "a"), filepath.Join(p.root(0), "renamed")); err != nil {
		return err
	}
	began := time.Now()
	if err := wait(ctx, 5*time.Millisecond, facts); err != nil {
		return err
	}
	t.row(fmt.Sprintf("rename of a directory of %d files", d.small/2), "s", false, append(slices.Clip(threeTimes), gate{atMost: 1})...).add(p.name(), time.Since(began).Seconds())
	t.row("sent for the rename", "MB", false).add(p.name(), float64(n.sent(1)-sent)/1e6)
	return nil
}

// remove removes a directory with the other half.
func (d *peerData) remove(ctx context.Context, n *peerNet, p synced, t *table) error {
	if err := p.taken(ctx, 0); err != nil {
		return err
	}
	fromRest()
	if err := command(ctx, "", nil, "rm", "-r", filepath.Join(p.root(0), "b")); err != nil {
		return err
	}
	began := time.Now()
	if err := wait(ctx, 5*time.Millisecond, []fact{gone(filepath.Join(p.root(1), "b"))}); err != nil {
		return err
	}
	t.row(fmt.Sprintf("removal of %d files", d.small-d.small/2), "s", false, threeTimes...).add(p.name(), time.Since(began).Seconds())
	return nil
}

// join has a third host come, which takes from both.
func (d *peerData) join(ctx context.Context, n *peerNet, p synced, t *table) error {
	if !d.third {
		return nil
	}
	for host := range 2 {
		if err := p.taken(ctx, host); err != nil {
			return err
		}
	}
	var facts []fact
	for i := range d.small / 2 {
		facts = append(facts, holds(filepath.Join(p.root(2), "renamed", d.smallName(i)[2:]), d.content(i)))
	}
	for i := range d.large {
		here, there := filepath.Join(p.root(0), largeName(i)), filepath.Join(p.root(2), largeName(i))
		facts = append(facts, func() bool {
			st, err := os.Stat(there)
			return err == nil && st.Size() == int64(d.large[i])<<20
		}, func() bool { return exec.Command("cmp", "-s", here, there).Run() == nil })
	}
	var before [2]uint64
	for k := range 2 {
		before[k] = n.links[[2]int{k, 2}].Stats(n.hosts[2]).Bytes
	}
	if err := comes(ctx, n, p, 2, t, t.row("a third host comes", "s", false, threeTimes...), facts); err != nil {
		return err
	}
	var share [2]float64
	for k := range 2 {
		share[k] = float64(n.links[[2]int{k, 2}].Stats(n.hosts[2]).Bytes - before[k])
	}
	t.row("of it from the one that gave less", "%", true).add(p.name(), 100*min(share[0], share[1])/(share[0]+share[1]))
	return nil
}
