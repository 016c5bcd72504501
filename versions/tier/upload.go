package tier

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sharefs"
)

// File is a file of a store that a restore needs. Bytes that were listed never change: a file only ever grows, and one that is sealed does not even that.
type File struct {
	Name string // relative to the store, with slashes; it is the object's key
	Size int64  // bytes that survive the loss of power
	// Remote: the store has no file of it any more, the bucket alone has it.
	Remote bool
}

// Source is the store whose files are to be in the bucket.
type Source interface {
	// State returns a text that is another one whenever Files may return something else.
	State() string
	// Files lists what a restore needs, so that the files together are the store at one moment. Ready is false if there is nothing yet from which it could be
	// restored.
	Files() (files []File, ready bool, err error)
	// Removals counts how often the store was about to take bytes away that rows had led to: if it did so while files were read, what was read may not go
	// together with what was listed.
	Removals() uint64
	// Open opens a listed file. It errors with KindNotExist if it is gone, or sealed under another name by now.
	Open(name string) (interface {
		io.ReaderAt
		io.Closer
	}, error)
}

// Config says how a store is kept in a bucket.
type Config struct {
	Bucket Bucket
	Source Source
	Key    [32]byte // of the share: what is said in the bucket is authenticated with one that follows from it
	State  string   // path of a file that tells which root this store wrote last
	Host   string   // who this is, for people
	// Authors are the root's Authors.
	Authors []sharefs.PeerID
	// Peers, where not nil, returns the root's Peers.
	Peers func() []string
	Every time.Duration // at most so often the bucket is brought up to date
	Look  time.Duration // so often it is seen, while nothing changes here, whether the bucket is still this store's; 0: never
	Keep  time.Duration // for so long a file stays in the bucket that no root names any more
	// Ready, where not nil, errors as long as the bucket cannot be asked for anything: then nothing is looked at either.
	Ready func() error
	// Own: nobody but this store can write there. A root that is older than the one that was written last, or none at all, is then what the bucket was put back to, and is
	// replaced; and where another store is kept there, or a later root of this one, Elsewhere says what can be done.
	Own       bool
	Elsewhere string
	// Sums: the tag of an object is the SHA-256 of what was put, in hexadecimal. The root names those that this store has seen itself, so that a restore tells what was put from what
	// the bucket says was; an object of which it says another one is put again.
	Sums bool
	// Take, where not empty, is the nonce of a root, or its beginning, that another copy of this store wrote and this one may replace.
	Take string
	// Named, where not nil, is told of all that the bucket has whole and its root names, each time that a root was written.
	Named func([]Info)
	// TakeBack, where not nil, is told when the bucket is met of sealed packs that its root names and the store does not list. It takes those of them in that the
	// store needs nevertheless, for its notes of them are lost, and returns how many.
	TakeBack func(context.Context, []Info) (int, error)
	About    []byte // for the root's Config
	// Keys, where not nil, returns what the root's Keys are to be. It is asked when the files are listed that the root names.
	Keys func() []byte
	Log  *slog.Logger
}

// Stats tells how the bucket stands.
type Stats struct {
	Files        int       `json:"files"` // that the last root names
	Bytes        int64     `json:"bytes"`
	Complete     time.Time `json:"complete,omitzero"` // when a root was last written, or found, that names all
	BacklogFiles int       `json:"backlog_files"`     // not in the bucket as they are
	BacklogBytes int64     `json:"backlog_bytes"`
	Behind       time.Time `json:"behind,omitzero"`   // since when the bucket lacks something
	Sent         uint64    `json:"sent_bytes"`        // since the start
	Error        string    `json:"error,omitempty"`   // why it does not get on at present
	Refused      bool      `json:"refused,omitempty"` // and will not before somebody has seen to it
	PutBack      time.Time `json:"put_back,omitzero"` // when the bucket was found to have lost what it was given, the last time
}

// Uploader keeps the files of a store in a bucket, behind those who write them:
//
//  1. list     the checkpoint first, then the packs: all that the rows in it lead to is in the packs that are listed after it
//  2. upload   what is not there, one file after the other. A file that is gone meanwhile, or a garbage collection, has it begin anew: what was
//     uploaded counts still
//  3. root     an object that names all of it takes the place of the root before, if that is still the one that this store wrote
//  4. delete   what no root has named for a while
//
// The bucket itself tells what is in it: what was uploaded before the process was killed is found by a list at the next start. Objects are put whole or not at
// all, files only grow, so one of the right length is the file.
//
// Of the roots that it has written the store knows the last for certain, and the one that it was about to write when it was killed. Any other is the work of
// another store or of another copy of this one: then nothing is written, deleted or mixed, and the status says so.
type Uploader struct {
	cfg    Config
	cancel context.CancelFunc
	ended  sync.WaitGroup

	remote map[string]Info   // the objects that are there; nil: not known
	root   *Root             // the last one, nil: there is none
	etag   string            // its tag
	sums   map[string]string // with Sums: those of files that this store has seen, by their names
	state  state
	done   string    // state of the source that the root tells of; empty: none
	looked time.Time // when it was last seen that the root is this store's
	lost   error     // files that a bucket alone has, and this one has not

	anew   atomic.Bool      // what is known of the bucket is to be found out anew
	wake   chan struct{}    // capacity 1: try now
	had    map[string]int64 // lengths of files that the bucket took since the start
	doubts doubts

	mu    sync.Mutex // guards stats
	stats Stats
}

const (
	firstRest = time.Second // after a failure; doubled up to lastRest
	lastRest  = time.Minute
	lastDoubt = time.Hour // the longest rest from one loss of the bucket to the next
	attempts  = 5         // to list and upload while files change
)

// doubts bounds what a bucket costs that goes on losing what it took, or saying so: from one time to the next it is given twice as long, up to lastDoubt, and that ends when there was
// none for twice as long as that.
type doubts struct {
	new   bool // since rest was asked for
	last  time.Time
	pause time.Duration
}

// rest returns for how long nothing is to be done; now is the time.
func (d *doubts) rest(now time.Time) time.Duration {
	if !d.new {
		return 0
	}
	d.new = false
	if now.Sub(d.last) > 2*lastDoubt {
		d.pause = 0
	}
	d.pause = min(max(2*d.pause, firstRest), lastDoubt)
	d.last = now.Add(d.pause)
	return d.pause
}

// Start begins to upload. It does not wait for the bucket.
func Start(cfg Config) (*Uploader, error) {
	if cfg.Elsewhere == "" {
		cfg.Elsewhere = "give this one another prefix in [tier] url"
	}
	u := &Uploader{cfg: cfg, wake: make(chan struct{}, 1), had: map[string]int64{}}
	if err := u.state.load(cfg.State); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	u.cancel = cancel
	u.ended.Go(func() { u.run(ctx) })
	return u, nil
}

// Close ends what is under way, and waits for that.
func (u *Uploader) Close() {
	u.cancel()
	u.ended.Wait()
}

// Wake has it try now, as when a bucket that was out of reach can be reached again.
func (u *Uploader) Wake() {
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

// Recheck has it find out anew what is in the bucket, for something that was there may have been lost.
func (u *Uploader) Recheck() {
	u.anew.Store(true)
	u.Wake()
}

// Stats returns how the bucket stands. It does not wait.
func (u *Uploader) Stats() Stats {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.stats
}

func (u *Uploader) note(fn func(s *Stats)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	fn(&u.stats)
}

// refusal is why nothing is to be written before somebody has seen to it.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

func (u *Uploader) run(ctx context.Context) {
	rest := firstRest
	said := ""
	for {
		err := u.turn(ctx)
		if ctx.Err() != nil {
			return
		}
		text := ""
		if err != nil {
			text = err.Error()
		}
		var no refusal
		refused := errors.As(err, &no)
		u.note(func(s *Stats) { s.Error, s.Refused = text, refused })
		if refused && u.cfg.Named != nil {
			u.cfg.Named(nil) // what another one may delete is none to rely on
		}
		if text != said {
			if err != nil {
				u.cfg.Log.Warn("the bucket does not get on", "err", err)
			} else {
				u.cfg.Log.Info("the bucket gets on again")
			}
			said = text
		}
		wait := u.cfg.Every
		if err == nil {
			if rest = firstRest; u.root == nil {
				wait = min(wait, firstRest) // until there is a checkpoint
			}
		} else {
			wait, rest = rest, min(2*rest, lastRest)
		}
		if u.rest(ctx, u.doubts.rest(time.Now()), nil) != nil || u.rest(ctx, wait, u.wake) != nil {
			return
		}
	}
}

// rest waits, or until it is woken.
func (u *Uploader) rest(ctx context.Context, d time.Duration, wake <-chan struct{}) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
	case <-wake:
	}
	return nil
}

// turn brings the bucket up to date once.
func (u *Uploader) turn(ctx context.Context) error {
	if u.anew.Swap(false) {
		u.remote, u.done, u.doubts.new = nil, "", true
	}
	if u.root != nil && u.done == u.cfg.Source.State() && !u.taken(ctx) {
		return u.lost
	}
	if u.cfg.Ready != nil {
		if err := u.cfg.Ready(); err != nil {
			u.note(func(s *Stats) {
				if s.Behind.IsZero() {
					s.Behind = time.Now()
				}
			})
			return err
		}
	}
	for range attempts {
		state, removals := u.cfg.Source.State(), u.cfg.Source.Removals()
		files, ready, err := u.cfg.Source.Files()
		if err != nil {
			return err
		}
		u.backlog(files)
		if u.remote == nil {
			if err := u.meet(ctx); err != nil {
				return err
			}
			if n, err := u.takeBack(ctx, files); err != nil {
				u.remote = nil // nothing is given up before that is known
				return err
			} else if n > 0 {
				continue
			}
		}
		files, u.lost = u.without(files)
		u.backlog(files)
		files, damaged, err := u.upload(ctx, files)
		if errors.Is(err, sharefs.KindNotExist) {
			continue
		} else if err != nil {
			return err
		}
		u.lost = cmp.Or(u.lost, damaged)
		if u.cfg.Source.Removals() != removals {
			continue
		}
		if !ready {
			return nil
		}
		if err := u.swap(ctx, files); err != nil {
			return err
		}
		u.done = state
		return cmp.Or(u.tidy(ctx), u.lost)
	}
	return &sharefs.Error{Op: "upload", Kind: sharefs.KindAgain, Detail: "files of the store go faster than they can be listed"}
}

// taken looks now and then whether the root is another one than this store wrote last: another copy of it may have taken the bucket over. Then all that is known of
// the bucket is found out anew. A bucket that does not answer says nothing.
func (u *Uploader) taken(ctx context.Context) bool {
	if u.cfg.Look <= 0 || time.Since(u.looked) < u.cfg.Look {
		return false
	}
	_, info, err := u.cfg.Bucket.ReadAt(ctx, RootKey, make([]byte, 1), 0)
	u.looked = time.Now()
	if err == nil && info.ETag == u.etag || err != nil && !errors.Is(err, sharefs.KindNotExist) {
		return false
	}
	u.remote, u.done = nil, ""
	return true
}

// backlog writes down what is not in the bucket; before that is known all is, but what the last root named.
func (u *Uploader) backlog(files []File) {
	count, bytes := 0, int64(0)
	for _, f := range files {
		if u.remote[f.Name].Size != f.Size && !f.Remote {
			count++
			bytes += f.Size
		}
	}
	u.note(func(s *Stats) {
		s.BacklogFiles, s.BacklogBytes = count, bytes
		if s.Behind.IsZero() {
			s.Behind = time.Now()
		}
	})
}

// takeBack has the store take in what the root names and it lists no more, if it needs it.
func (u *Uploader) takeBack(ctx context.Context, files []File) (int, error) {
	if u.root == nil || u.cfg.TakeBack == nil {
		return 0, nil
	}
	listed := make(map[string]bool, len(files))
	for _, f := range files {
		listed[f.Name] = true
	}
	var unknown []Info
	for _, f := range u.root.Files {
		if i := u.remote[f.Name]; i.Size == f.Size && !listed[f.Name] && strings.HasPrefix(f.Name, "packs/") && !strings.HasPrefix(f.Name, "packs/open/") {
			unknown = append(unknown, i)
		}
	}
	if len(unknown) == 0 {
		return 0, nil
	}
	n, err := u.cfg.TakeBack(ctx, unknown)
	if n > 0 {
		u.cfg.Log.Warn("the store knew nothing more of packs that the bucket alone has: they are taken in again", "packs", n)
	}
	return n, err
}

// without leaves out what is neither here nor in the bucket: all else is to get there nevertheless. The error names it.
func (u *Uploader) without(files []File) (there []File, lost error) {
	var names []string
	for _, f := range files {
		if f.Remote && u.remote[f.Name].Size != f.Size {
			names = append(names, f.Name)
			continue
		}
		there = append(there, f)
	}
	if len(names) == 0 {
		return files, nil
	}
	return there, &sharefs.Error{Op: "use the bucket", Kind: sharefs.KindCorrupt,
		Detail: fmt.Sprintf("it does not have %d packs that left this disk for a bucket (the first is %s): sharefs fsck tells which versions that concerns", len(names), names[0])}
}

// meet finds out what is in the bucket, and whose it is.
func (u *Uploader) meet(ctx context.Context) error {
	root, etag, err := ReadRoot(ctx, u.cfg.Bucket, u.cfg.Key)
	switch {
	case errors.Is(err, sharefs.KindNotExist):
		if u.cfg.Own && u.state.Last != "" {
			u.wasPutBack("no root")
		}
		u.root, u.etag = nil, ""
	case errors.Is(err, sharefs.KindAccess) && etag != "" && u.cfg.Own && u.state.Last != "": // no other store can write there: it is damaged
		u.wasPutBack("a root that does not read")
		u.root, u.etag = nil, ""
		if err := u.cfg.Bucket.Delete(ctx, RootKey); err != nil {
			return notGone(err)
		}
	case errors.Is(err, sharefs.KindAccess) && etag != "":
		return refusal{&sharefs.Error{Op: "use the bucket", Kind: sharefs.KindAccess, Detail: "another store, with another share key, is kept there: " + u.cfg.Elsewhere}}
	case err != nil:
		return err
	default:
		if err := u.mine(root); err != nil {
			return err
		}
		u.root, u.etag = root, etag
	}
	remote := map[string]Info{}
	for _, prefix := range []string{"packs/", "checkpoints/"} {
		err := u.cfg.Bucket.List(ctx, prefix, "", func(i Info) bool {
			remote[i.Key] = i
			return true
		})
		if err != nil {
			return err
		}
	}
	u.remote, u.sums = remote, map[string]string{}
	if u.root != nil {
		for _, f := range u.root.Files {
			u.sums[f.Name] = f.Sum
		}
	}
	return nil
}

// wasPutBack notes that the bucket has lost what it was given.
func (u *Uploader) wasPutBack(has string) {
	u.cfg.Log.Warn("the bucket has lost what it was given, and gets it again", "has", has, "written", u.state.Number)
	u.note(func(s *Stats) { s.PutBack = time.Now() })
}

// first notes that there is a root now, where none was known to be: until the next one is to be written nothing else would tell so ([Written]).
func (u *Uploader) first(root *Root) {
	if u.state.Last != "" {
		return
	}
	next := state{Store: root.Store, Last: root.Nonce, Number: root.Number}
	if err := next.save(u.cfg.State); err != nil {
		u.cfg.Log.Warn("that the bucket has all of the store is not noted", "error", err)
		return
	}
	u.state = next
}

// mine sees that a root is one that this store wrote.
func (u *Uploader) mine(root *Root) error {
	switch {
	case root.Store == u.state.Store && (root.Nonce == u.state.Last || root.Nonce == u.state.Next):
		u.first(root)
		return nil
	case u.cfg.Own && root.Store == u.state.Store && root.Number < u.state.Number:
		u.wasPutBack(fmt.Sprint("root ", root.Number))
		return nil
	case u.cfg.Take != "" && strings.HasPrefix(root.Nonce, u.cfg.Take):
		u.cfg.Log.Warn("what another copy of the store wrote is taken over", "host", root.Host, "written", root.Written)
		next := state{Store: root.Store, Last: root.Nonce, Number: root.Number}
		if err := next.save(u.cfg.State); err != nil {
			return err
		}
		u.state = next
		return nil
	}
	who := "another store with the same share key"
	if root.Store == u.state.Store {
		who = "another copy of this store"
	}
	return refusal{&sharefs.Error{Op: "use the bucket", Kind: sharefs.KindBusy, Detail: who + " is kept there, which " + root.Host + " wrote to at " +
		root.Written.Format(time.RFC3339) + ": " + u.cfg.Elsewhere + " or, if that one is gone for good, let this one take its place with take_over = \"" +
		root.Nonce + "\""}}
}

// upload puts what is not there, and returns what is then. A file that is damaged here is left out, so that all else gets there: damaged names it.
func (u *Uploader) upload(ctx context.Context, files []File) (there []File, damaged, err error) {
	for _, f := range files {
		is, err := u.isThere(f)
		if is {
			there = append(there, f)
			continue
		}
		etag := ""
		if err == nil {
			etag, err = u.put(ctx, f)
		}
		if errors.Is(err, sharefs.KindCorrupt) {
			if damaged == nil {
				damaged = &sharefs.Error{Op: "upload", Path: f.Name, Kind: sharefs.KindCorrupt, Detail: "it is left out: sharefs fsck --scrub --repair", Err: err}
			}
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		there = append(there, f)
		u.remote[f.Name] = Info{Key: f.Name, Size: f.Size, ETag: etag}
		u.sums[f.Name] = etag
		if n, ok := u.had[f.Name]; ok && n == f.Size {
			u.doubts.new = true
		}
		u.had[f.Name] = f.Size
		u.note(func(s *Stats) { s.BacklogFiles, s.BacklogBytes = s.BacklogFiles-1, s.BacklogBytes-f.Size })
	}
	return there, damaged, nil
}

// isThere reports whether the bucket has a file as it is now. Where it says of itself what it has, and no root that this store sealed says the same, the file here tells.
func (u *Uploader) isThere(f File) (bool, error) {
	i, ok := u.remote[f.Name]
	if !ok || i.Size != f.Size {
		return false, nil
	}
	if !u.cfg.Sums || u.sums[f.Name] == i.ETag {
		return true, nil
	}
	body, err := u.cfg.Source.Open(f.Name)
	if err != nil {
		return false, err
	}
	defer body.Close()
	sum, err := sumOf(body, f.Size)
	return err == nil && sum == i.ETag, err
}

// sumOf returns the SHA-256 of the first bytes of a file, in hexadecimal.
func sumOf(body io.ReaderAt, size int64) (string, error) {
	h := sha256.New()
	if n, err := io.Copy(h, io.NewSectionReader(body, 0, size)); err != nil || n != size {
		e := &sharefs.Error{Op: "read", Kind: sharefs.KindOf(err), Err: err}
		if err == nil {
			e.Kind, e.Detail = sharefs.KindCorrupt, "the file is shorter than it was"
		}
		return "", e
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func (u *Uploader) put(ctx context.Context, f File) (etag string, err error) {
	body, err := u.cfg.Source.Open(f.Name)
	if err != nil {
		return "", err
	}
	defer body.Close()
	if etag, err = u.cfg.Bucket.Put(ctx, f.Name, body, f.Size, Condition{}); err != nil {
		return "", notGone(err)
	}
	u.note(func(s *Stats) { s.Sent += uint64(f.Size) })
	return etag, nil
}

// notGone keeps a bucket's "there is no such thing" from being taken for a file of the store that is gone.
func notGone(err error) error {
	if errors.Is(err, sharefs.KindNotExist) {
		return &sharefs.Error{Op: "upload", Kind: sharefs.KindOther, Detail: err.Error()}
	}
	return err
}

// swap puts a root that names the files in the place of the one before.
func (u *Uploader) swap(ctx context.Context, files []File) error {
	next := u.next(files, time.Now().UTC())
	body, err := next.encode(&u.cfg.Key)
	if err != nil {
		return err
	}
	// Whether it was written cannot be told after a crash, or when the answer is lost: the nonce tells then.
	intent := state{Store: next.Store, Last: u.state.Last, Next: next.Nonce, Number: next.Number - 1}
	if u.root != nil {
		intent.Last = u.root.Nonce
	}
	if err := intent.save(u.cfg.State); err != nil {
		return err
	}
	u.state = intent
	only := Condition{Absent: true}
	if u.root != nil {
		only = Condition{ETag: u.etag}
	}
	etag, err := u.cfg.Bucket.Put(ctx, RootKey, bytes.NewReader(body), int64(len(body)), only)
	if err != nil {
		u.remote = nil // it may be there nevertheless, or another one's
		return notGone(err)
	}
	u.root, u.etag, u.looked = next, etag, time.Now()
	u.first(next)
	total := int64(0)
	for _, f := range files {
		total += f.Size
	}
	u.note(func(s *Stats) {
		s.Files, s.Bytes, s.Complete, s.Behind = len(files), total, next.Written, time.Time{}
		s.BacklogFiles, s.BacklogBytes = 0, 0
		s.Sent += uint64(len(body))
	})
	if u.cfg.Named != nil {
		list := make([]Info, 0, len(files))
		for _, f := range files {
			list = append(list, u.remote[f.Name])
		}
		u.cfg.Named(list)
	}
	return nil
}

// next returns the root that names the files.
func (u *Uploader) next(files []File, now time.Time) *Root {
	r := &Root{Store: u.state.Store, Nonce: random(), Number: u.state.Number + 1, Host: u.cfg.Host, Authors: u.cfg.Authors, Written: now, Config: u.cfg.About}
	if u.cfg.Keys != nil {
		r.Keys = u.cfg.Keys()
	}
	if u.cfg.Peers != nil {
		r.Peers = u.cfg.Peers()
	}
	named := map[string]bool{}
	for _, f := range files {
		named[f.Name] = true
		file := RootFile{Name: f.Name, Size: f.Size}
		if u.cfg.Sums {
			file.Sum = u.remote[f.Name].ETag // isThere or put has seen that it is so
		}
		r.Files = append(r.Files, file)
	}
	dropped := map[string]bool{}
	if u.root != nil {
		r.Number = max(u.root.Number, u.state.Number) + 1
		for _, d := range u.root.Dropped {
			if _, there := u.remote[d.Name]; there && !named[d.Name] {
				dropped[d.Name] = true
				r.Dropped = append(r.Dropped, d)
			}
		}
	}
	for name := range u.remote {
		if !named[name] && !dropped[name] {
			r.Dropped = append(r.Dropped, Dropped{name, now})
		}
	}
	return r
}

// tidy deletes what the root, which is there, says to be dropped for long enough.
func (u *Uploader) tidy(ctx context.Context) error {
	for _, d := range u.root.Dropped {
		if _, there := u.remote[d.Name]; !there || time.Since(d.Since) < u.cfg.Keep {
			continue
		}
		if err := u.cfg.Bucket.Delete(ctx, d.Name); err != nil {
			return notGone(err)
		}
		delete(u.remote, d.Name)
		delete(u.had, d.Name)
	}
	return nil
}

func random() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
