package daemon

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/internal/config"
	"sharefs/internal/logfile"
	"sharefs/internal/mountopt"
	"sharefs/internal/recovery"
	"sharefs/internal/store"
	"sharefs/internal/term"
	"sharefs/versions"
	"sharefs/versions/tier"
)

// RecoverConfig says what store is to come back, and from where.
type RecoverConfig struct {
	Source      string // name or path of a new store; empty: the default one
	Options     *mountopt.Options
	Sheet       *recovery.Sheet // nil: go on with what was begun
	Bucket      string          // its URL where it is not what the sheet says; empty: it is
	Credentials string          // a file of them; empty: the usual places
	Peer        string          // where a peer that keeps the store is now, as ID@HOST:PORT or HOST:PORT, where it is not what the sheet says
	Force       bool            // although the bucket holds an older state than the sheet knows of, or another store with the same share key
	// Progress is told how far it has come; may be nil.
	Progress func(stage string, done, total uint64, unit string)
}

// RecoverReport tells what came of it.
type RecoverReport struct {
	Store   string                 `json:"store"`   // its directory
	ID      string                 `json:"id"`      // of the store
	Host    string                 `json:"host"`    // that wrote last what it was made of
	From    string                 `json:"from"`    // the bucket, or the peer
	Written time.Time              `json:"written"` // when
	Fetched tier.Fetched           `json:"fetched"`
	Peers   []string               `json:"peers"` // what it called the hosts that could write to it
	Notes   []string               `json:"notes"`
	Tree    versions.RebuildReport `json:"tree"`
	Seconds float64                `json:"seconds"`
}

// Whole reports whether nothing is missing.
func (r *RecoverReport) Whole() bool {
	return len(r.Fetched.Missing) == 0 && r.Tree.Elsewhere.Files == 0 && r.Tree.Whole()
}

// Text returns the report for a person.
func (r *RecoverReport) Text() string {
	var b strings.Builder
	in := "in the bucket"
	if !strings.Contains(r.From, "://") {
		in = "with " + r.From
	}
	fmt.Fprintf(&b, "The store %s is as %s kept it %s at %s.\n", term.Quote(r.Store), r.Host, in, term.Second(r.Written))
	fmt.Fprintf(&b, "%s of packs and checkpoints came in %s", term.Size(uint64(r.Fetched.Bytes)), term.Of(uint64(r.Fetched.Files), "file"))
	if r.Fetched.Here > 0 {
		fmt.Fprintf(&b, ", %s were there already", term.Of(uint64(r.Fetched.Here), "file"))
	}
	fmt.Fprintf(&b, "; all took %.1f s.\n", r.Seconds)
	for _, s := range r.Notes {
		fmt.Fprintf(&b, "Note: %s\n", s)
	}
	for _, s := range r.Tree.Notes {
		fmt.Fprintf(&b, "Note: %s\n", s)
	}
	for _, s := range r.Fetched.Missing {
		fmt.Fprintf(&b, "Missing %s: %s\n", in, s)
	}
	b.WriteString(r.Tree.Losses())
	b.WriteString(r.elsewhere())
	if r.Whole() {
		b.WriteString("Nothing is missing.\n")
	}
	return b.String()
}

// mostElsewhere is how many files are named whose content is with other hosts.
const mostElsewhere = 10

// elsewhere tells of files whose content is with other hosts; empty: there are none.
func (r *RecoverReport) elsewhere() string {
	e := &r.Tree.Elsewhere
	if e.Files == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Not in the backup: the content of %s, %s, that had been freed on %s or had not come there:\n", term.Of(e.Files, "file"), term.Size(e.Bytes), r.Host)
	named := e.Named[:min(len(e.Named), mostElsewhere)]
	for _, name := range named {
		fmt.Fprintf(&b, "  %s\n", term.Clean(name))
	}
	if more := e.Files - uint64(len(named)); more > 0 {
		fmt.Fprintf(&b, "  and %s: sharefs here --absent DIR, when it is mounted\n", term.Of(more, "more file"))
	}
	who := "other hosts"
	if len(r.Peers) > 0 {
		who = strings.Join(r.Peers, ", ")
	}
	fmt.Fprintf(&b, "It is with %s, and comes when it is read and one that has it is connected; until then reading fails (No route to host).\n", who)
	return b.String()
}

// recoverNote is what is kept of a call until the store is whole, so that the next one can go on.
type recoverNote struct {
	Sheet       string `json:"sheet"` // as its line
	Bucket      string `json:"bucket,omitempty"`
	Credentials string `json:"credentials,omitempty"`
	Peer        string `json:"peer,omitempty"`
	Force       bool   `json:"force,omitempty"`
}

// RecoveryBegun reports whether the recovery of a store was begun and not ended, so that no sheet is needed for it.
func RecoveryBegun(source string, options *mountopt.Options) (bool, error) {
	d := &Daemon{options: options}
	dir, err := d.chooseStore(Config{Source: source, Options: options})
	if err != nil {
		return false, err
	}
	_, begun, err := store.Recovering(dir)
	return begun, err
}

// Recover makes a store of what its bucket holds, or peers, in these stages, each of which may be interrupted in any way and is gone on with by the same call:
//
//  1. read the root of the bucket, and see whether it is what the sheet says; only then is there a directory
//  2. fetch all packs and the checkpoint that it names
//  3. write down that this store is the one that goes on with the bucket
//  4. make meta.db and the live files ([versions.Rebuild])
//
// What the bucket lacks is named, and the rest comes. The other machine, should it be alive, is refused when this one has written to the bucket. Once meta.db is
// there, only the last stage is gone on with: what it led to was the root that was read then, and packs and checkpoint have gone on from there.
func Recover(ctx context.Context, c RecoverConfig) (report RecoverReport, err error) {
	began := time.Now()
	r := &recoverer{ctx: ctx, cfg: c, report: &report}
	defer func() { report.Seconds = time.Since(began).Seconds() }()
	d := &Daemon{options: c.Options}
	if report.Store, err = d.chooseStore(Config{Source: c.Source, Options: c.Options}); err != nil {
		return report, err
	}
	if err := r.resume(); err != nil {
		return report, err
	}
	defer r.close()
	if err := r.meet(); err != nil {
		return report, err
	}
	note, err := r.note()
	if err != nil {
		return report, err
	}
	ring, err := versions.KeysFromTier(r.cfg.Sheet.Share, r.root.Keys)
	if err != nil {
		return report, err
	}
	if d.store, err = store.Recover(report.Store, ring, note); err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, d.store.Close()) }()
	if d.logFile, err = logfile.Open(LogPath(report.Store), logfile.DefaultLimit, false); err != nil {
		return report, err
	}
	defer d.logFile.Close()
	d.log = d.logFile.Logger(slog.LevelInfo)
	d.log.Info("the store is made of what is kept of it elsewhere", "from", report.From, "host", r.root.Host, "written", r.root.Written)
	if err = r.work(d); err != nil {
		d.log.Error("the recovery was broken off", "err", err)
		return report, err
	}
	d.log.Info("the store was made anew", "report", report.Text())
	return report, nil
}

type recoverer struct {
	ctx    context.Context
	cfg    RecoverConfig
	report *RecoverReport
	tier   config.Tier
	bucket tier.Bucket
	peers  *fetcher      // nil: it comes from a bucket
	others []tier.Bucket // that have the same
	root   *tier.Root
}

func (r *recoverer) close() {
	if r.peers != nil {
		r.peers.close()
	}
}

// recoverAttempts is how often a request is tried: a minute and a half of a network that is away.
const recoverAttempts = 12

const opRecover = "recover"

func (r *recoverer) tell(stage string, done, total uint64, unit string) {
	if r.cfg.Progress != nil {
		r.cfg.Progress(stage, done, total, unit)
	}
}

// resume takes what an earlier call noted where this one says nothing.
func (r *recoverer) resume() error {
	text, begun, err := store.Recovering(r.report.Store)
	if err != nil {
		return err
	}
	var n recoverNote
	var sheet *recovery.Sheet
	if begun {
		if err := json.Unmarshal(text, &n); err == nil {
			sheet, _ = recovery.Parse(n.Sheet)
		}
	}
	switch {
	case r.cfg.Sheet == nil && sheet == nil:
		return &sharefs.Error{Op: opRecover, Path: term.Quote(r.report.Store), Kind: sharefs.KindInvalid, Detail: "without a recovery sheet nothing comes back"}
	case r.cfg.Sheet == nil:
		r.cfg.Sheet = sheet
	}
	if sheet != nil {
		if r.cfg.Bucket == "" {
			r.cfg.Bucket = n.Bucket
		}
		if r.cfg.Credentials == "" {
			r.cfg.Credentials = n.Credentials
		}
		if r.cfg.Peer == "" {
			r.cfg.Peer = n.Peer
		}
		r.cfg.Force = r.cfg.Force || n.Force
	}
	return nil
}

func (r *recoverer) note() ([]byte, error) {
	line, err := r.cfg.Sheet.Line()
	if err != nil {
		return nil, err
	}
	return json.Marshal(recoverNote{Sheet: line, Bucket: r.cfg.Bucket, Credentials: r.cfg.Credentials, Peer: r.cfg.Peer, Force: r.cfg.Force})
}

// meet reads the root, and sees whether it is the one that is meant: of the bucket if the sheet has one, else, or if that gives nothing, of the peers.
func (r *recoverer) meet() error {
	s := r.cfg.Sheet
	if r.cfg.Peer != "" {
		peers, err := peerOf(s, r.cfg.Peer)
		if err != nil {
			return err
		}
		with := *s
		with.Peers = append(peers, slices.DeleteFunc(slices.Clone(s.Peers), func(p recovery.Peer) bool {
			return slices.ContainsFunc(peers, func(q recovery.Peer) bool { return q.ID == p.ID })
		})...)
		return r.meetPeers(&with)
	}
	if s.URL == "" && r.cfg.Bucket == "" {
		return r.meetPeers(s)
	}
	err := r.meetBucket(s)
	if err == nil || len(s.Peers) == 0 || r.cfg.Bucket != "" || r.ctx.Err() != nil {
		return err
	}
	if err2 := r.meetPeers(s); err2 != nil {
		return errors.Join(err, err2)
	}
	r.report.Notes = append(r.report.Notes, "it comes from a peer, for the bucket gives nothing: "+err.Error())
	return nil
}

// meetPeers reads the roots that peers have.
func (r *recoverer) meetPeers(s *recovery.Sheet) (err error) {
	r.tell("reach the peers", 0, 0, "")
	if r.peers, err = newFetcher(s); err != nil {
		return err
	}
	return r.readRoot()
}

func (r *recoverer) meetBucket(s *recovery.Sheet) error {
	r.tier = config.Tier{URL: s.URL, Region: s.Region, Credentials: r.cfg.Credentials}
	if s.HTTP != "" {
		plain := s.HTTP == "true"
		r.tier.HTTP = &plain
	}
	if r.cfg.Bucket != "" {
		r.tier.URL = r.cfg.Bucket
	}
	if _, err := r.tier.Place(); err != nil {
		return &sharefs.Error{Op: opRecover, Kind: sharefs.KindInvalid, Err: err}
	}
	bucket, err := openBucket(&r.tier)
	if err != nil {
		return err
	}
	r.bucket = tier.Retry(bucket, recoverAttempts)
	return r.readRoot()
}

// readRoot reads it, and sees whether it is one of what the sheet is of.
func (r *recoverer) readRoot() error {
	r.tell("read the root", 0, 0, "")
	from := r.tier.URL
	no := func(kind sharefs.Kind, format string, args ...any) error {
		return &sharefs.Error{Op: opRecover, Path: from, Kind: kind, Detail: fmt.Sprintf(format, args...)}
	}
	var root *tier.Root
	var etag string
	var err error
	if r.peers != nil {
		r.peers.readRoots(r.ctx, versions.TierKey(r.cfg.Sheet.Share))
		first := r.peers.places[0]
		if root = first.root; root == nil {
			return cmp.Or(r.ctx.Err(), r.peers.whyNot())
		}
		from = "the peer " + first.ID.Short()
		all := r.peers.buckets()
		r.bucket, r.others = all[0], all[1:]
	} else {
		root, etag, err = tier.ReadRoot(r.ctx, r.bucket, versions.TierKey(r.cfg.Sheet.Share))
	}
	switch {
	case errors.Is(err, sharefs.KindNotExist):
		return no(sharefs.KindNotExist, "there is no store below this prefix: compare the bucket with that on the sheet, or name where its content is now with --bucket")
	case errors.Is(err, sharefs.KindAccess) && etag != "":
		return no(sharefs.KindAccess, "another store is kept there, with another share key than that of the sheet: it is the wrong bucket or prefix, or an object was changed")
	case err != nil:
		return err
	}
	if id := root.Store; !strings.HasPrefix(id, r.cfg.Sheet.Store) && !r.cfg.Force {
		return no(sharefs.KindInvalid, "the store %.12s is kept there, with the same share key, and the sheet is of the store %s: name the right bucket or prefix with --bucket, or take that one with --force",
			id, r.cfg.Sheet.Store)
	}
	if root.Number < uint64(r.cfg.Sheet.Number) && !r.cfg.Force {
		return no(sharefs.KindStale, "it holds state %d of the store, of %s by %s, and the sheet knows of state %d: the bucket was put back from an older copy. Name another one with --bucket, or take what is there with --force",
			root.Number, root.Written.Format(time.RFC3339), root.Host, r.cfg.Sheet.Number)
	}
	r.root = root
	r.report.ID, r.report.Host, r.report.Written, r.report.From = root.Store, root.Host, root.Written, from
	r.report.Peers = append([]string{}, root.Peers...)
	return nil
}

// roots is how often a recovery looks for another root where objects are missing: somebody may write to the bucket still.
const roots = 5

func (r *recoverer) work(d *Daemon) error {
	if err := r.configure(d.store); err != nil {
		return err
	}
	there, err := r.isFetched(d.store.Dir)
	if err == nil && !there {
		err = r.fetch(d)
	}
	if err != nil {
		return err
	}
	tree, err := versions.Rebuild(r.ctx, d.treeConfig(), versions.RebuildOptions{Recovered: true}, func(p versions.Progress) { r.tell(p.Stage, p.Done, p.Total, p.Unit) })
	r.report.Tree = tree
	if err != nil {
		return d.explain(err)
	}
	if err := r.succeed(d.store); err != nil {
		return err
	}
	return d.store.Recovered()
}

// isFetched reports whether an earlier call has come as far as to put meta.db in its place. It errors with KindStale where the bucket has another state by now: to
// go on with that under what was made of the one before would lose what lies between them.
func (r *recoverer) isFetched(dir string) (bool, error) {
	if _, err := os.Lstat(filepath.Join(dir, "meta.db")); errors.Is(err, os.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, &sharefs.Error{Op: opRecover, Path: dir, Kind: sharefs.KindOf(err), Err: err}
	}
	id, number, err := tier.Known(filepath.Join(dir, tierState))
	if err != nil {
		return false, err
	}
	if (id != r.root.Store || number != r.root.Number) && !r.cfg.Force {
		return false, &sharefs.Error{Op: opRecover, Path: term.Quote(dir), Kind: sharefs.KindStale, Detail: fmt.Sprintf("what is there was made of state %d of the store, and since it was interrupted %s has put state %d "+
			"into the bucket: remove the directory and recover anew, or finish the earlier state with --force", number, r.root.Host, r.root.Number)}
	}
	r.report.Notes = append(r.report.Notes, "an earlier call has fetched packs and checkpoints: what it did not find, and what it could not bring back, is in daemon.log")
	return true, nil
}

// fetch brings all that the root names, and writes down that this store goes on with it.
func (r *recoverer) fetch(d *Daemon) error {
	for n := 1; ; n++ {
		if err := r.room(); err != nil {
			return err
		}
		check, err := versions.SealedFiles(d.store.Dir, d.store.Keys.Ring)
		if err != nil {
			return err
		}
		got, err := (&tier.Fetch{
			Bucket: r.bucket, Others: r.others, Check: check, Dir: d.store.Dir, Files: r.root.Files, Progress: func(done, total uint64) { r.tell("fetch", done, total, "bytes") },
		}).Run(r.ctx)
		was := &r.report.Fetched
		got.Files, got.Bytes, got.Here = got.Files+was.Files, got.Bytes+was.Bytes, got.Here-was.Files
		*was = got
		if err != nil {
			return err
		}
		if len(got.Missing) == 0 || n == roots {
			break
		}
		nonce := r.root.Nonce
		if err := r.readRoot(); err != nil {
			return err
		}
		if r.root.Nonce == nonce {
			break
		}
	}
	r.report.Fetched.Here = max(0, r.report.Fetched.Here)
	for _, what := range r.report.Fetched.Missing { // the report may be of a later call, if this one is interrupted
		d.log.Error("the bucket lacks a file of the store", "what", what)
	}
	ring, err := versions.KeysFromTier(r.cfg.Sheet.Share, r.root.Keys) // it may be another root than the first
	if err != nil {
		return err
	}
	if err := d.store.TakeKeys(ring); err != nil {
		return err
	}
	if r.peers != nil { // with each of them a new host begins anew
		return tier.TakeName(filepath.Join(d.store.Dir, tierState), r.root)
	}
	return tier.TakeUp(filepath.Join(d.store.Dir, tierState), r.root)
}

// configure gives the store the configuration that it had, with where its bucket is now.
func (r *recoverer) configure(s *store.Store) error {
	values := map[string]string{}
	if r.peers == nil {
		values["url"] = r.tier.URL
	}
	if r.tier.Region != "" {
		values["region"] = r.tier.Region
	}
	if r.tier.Credentials != "" {
		values["credentials"] = r.tier.Credentials
	}
	path := filepath.Join(s.Dir, "share.toml")
	text, err := versions.OpenFromTier(s.Keys.Ring.First().Secret, r.root.Config)
	if err == nil {
		if text, err = config.SetTier(text, path, values); err == nil {
			return s.Configure(text)
		}
	}
	r.report.Notes = append(r.report.Notes, "share.toml is a new one, look through it before history is thinned: "+err.Error())
	if text, err = config.SetTier([]byte(config.File), path, values); err != nil {
		return err
	}
	return s.Configure(text)
}

// room refuses what the disk cannot hold before it is begun; how much live files take is not known yet.
func (r *recoverer) room() error {
	need := int64(0)
	for _, f := range r.root.Files {
		var st unix.Stat_t
		if unix.Lstat(filepath.Join(r.report.Store, filepath.FromSlash(f.Name)), &st) != nil || st.Size != f.Size {
			need += f.Size
		}
	}
	var st unix.Statfs_t
	if err := unix.Statfs(r.report.Store, &st); err != nil {
		return &sharefs.Error{Op: opRecover, Path: r.report.Store, Kind: sharefs.KindOf(err), Err: err}
	}
	if have := int64(st.Bavail) * st.Bsize; have < need {
		return &sharefs.Error{Op: opRecover, Path: r.report.Store, Kind: sharefs.KindNoSpace, Detail: fmt.Sprintf("the packs and checkpoints that are still to come take %s, beside the live files, and the disk has %s left: "+
			"free some space or name a directory on another disk, and call again", term.Size(uint64(need)), term.Size(uint64(have)))}
	}
	return nil
}
