package vault

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
)

// StoreConfig says where objects of others are kept, and how much.
type StoreConfig struct {
	Dir string // it is made when the first giver comes
	// Quota returns how many bytes are kept for a peer; 0: none, and why says what its user is to be told.
	Quota func(sharefs.PeerID) (bytes uint64, why string)
	// Name, where not nil, returns what a peer is called here, which it is told; empty: it is none.
	Name func(sharefs.PeerID) string
	// Spare is how much of the disk is left free, bytes.
	Spare uint64
	Log   *slog.Logger
}

// Store holds the objects of all givers. It may be used by several goroutines.
type Store struct {
	cfg  StoreConfig
	free func() (uint64, error) // bytes on the disk

	held atomic.Uint64 // bytes of the disk, by what is being received in all vaults

	mu     sync.Mutex // guards what follows
	vaults map[sharefs.PeerID]*Vault
	vain   map[sharefs.PeerID]time.Time // when peers without a quota wanted to give something the last time

	givers sync.Mutex // guards the givers of all vaults; nothing is read or written under it
}

// OpenStore looks who has given something. What is kept is looked at when it is asked for first.
func OpenStore(cfg StoreConfig) (*Store, error) {
	s := &Store{cfg: cfg, vaults: map[sharefs.PeerID]*Vault{}, vain: map[sharefs.PeerID]time.Time{}}
	s.free = func() (uint64, error) {
		var st unix.Statfs_t
		err := unix.Statfs(cfg.Dir, &st)
		return st.Bavail * uint64(st.Bsize), err
	}
	entries, err := os.ReadDir(cfg.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, s.failed("open", cfg.Dir, err)
	}
	for _, e := range entries {
		if id, err := sharefs.ParsePeerID(e.Name()); err == nil && id.Plain() == e.Name() && e.IsDir() {
			v := &Vault{store: s, peer: id, dir: filepath.Join(cfg.Dir, e.Name())}
			if err := v.readGiver(); err != nil {
				cfg.Log.Error("what is kept for a peer cannot be fetched by a recovery sheet", "peer", id.Short(), "error", err)
			}
			s.vaults[id] = v
		}
	}
	return s, nil
}

// failed dresses what the disk says; a full one is named. All else is for this host's own log: the peer hears the kind alone.
func (s *Store) failed(op, path string, err error) error {
	if err == nil {
		return nil
	}
	if s.cfg.Log != nil && !errors.Is(err, errObject) && sharefs.KindOf(err) != sharefs.KindNoSpace {
		s.cfg.Log.Error("what is kept for peers", "op", op, "object", path, "error", err)
	}
	e := &sharefs.Error{Op: op, Path: path, Kind: sharefs.KindOf(err), Err: err}
	if e.Kind == sharefs.KindNoSpace {
		e.Detail, e.Err = "its disk is full", nil
	}
	return e
}

// Vault is what is kept for one giver. Its methods may be called by several goroutines.
type Vault struct {
	store *Store
	peer  sharefs.PeerID
	dir   string

	placing sync.Mutex // held while an object gets its name, or loses it; before mu

	mu      sync.Mutex // guards what follows
	loaded  bool
	objects map[string]*object
	keys    []string          // of those that are listed, sorted; nil: not known
	used    uint64            // of the quota, by objects and by what is broken
	held    uint64            // likewise, by those that are being received
	broken  map[string]uint64 // files that tell nothing of what they are, by their names below the directory, and what each takes of the quota
	bad     int               // objects that are damaged
	refused Refused           // the last object for which there was no room
	written time.Time
	serial  uint64
	scrub   scrubbed

	giver giver // guarded by the store's lock of givers
}

// giver is what stands in the file of that name.
type giver struct {
	Fetcher []byte `json:"fetcher"`
}

func (v *Vault) readGiver() error {
	b, err := os.ReadFile(filepath.Join(v.dir, "giver"))
	if err == nil {
		err = json.Unmarshal(b, &v.giver)
	}
	return err
}

// of returns the vault of a peer, which is made if it is wanted; nil: there is none.
func (s *Store) of(id sharefs.PeerID, wanted bool) (*Vault, error) {
	s.mu.Lock()
	v := s.vaults[id]
	if v == nil && wanted {
		v = &Vault{store: s, peer: id, dir: filepath.Join(s.cfg.Dir, id.Plain())}
		s.vaults[id] = v
	}
	s.mu.Unlock()
	if v == nil {
		return nil, nil
	}
	return v, v.load()
}

func (v *Vault) make() error {
	for _, dir := range []string{v.store.cfg.Dir, v.dir, filepath.Join(v.dir, "new")} {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := syncDir(filepath.Dir(dir)); err != nil {
			return err
		}
	}
	return nil
}

// load looks what there is. What was being received when the process ended goes.
func (v *Vault) load() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.loaded {
		return nil
	}
	if err := v.make(); err != nil {
		return v.store.failed("open", v.dir, err)
	}
	objects, used, broken := map[string]*object{}, uint64(0), map[string]uint64{}
	err := filepath.WalkDir(v.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(v.dir, path)
		if strings.HasPrefix(rel, "new"+string(filepath.Separator)) {
			return os.Remove(path)
		}
		if filepath.Dir(rel) == "." {
			return nil
		}
		key, o, err := readEnd(path)
		switch {
		case sharefs.KindOf(err) == sharefs.KindCorrupt, err == nil && nameOf(key) != rel:
			st, err := d.Info()
			if err != nil {
				return err
			}
			broken[rel] = uint64(st.Size()) + charge // it is not known what it is; the giver, to whom it is not listed, puts it anew
			used += broken[rel]
			return nil
		case err != nil:
			return err
		}
		objects[key] = &o
		used += o.charge()
		if o.written.After(v.written) {
			v.written = o.written
		}
		return nil
	})
	if err != nil {
		return v.store.failed("open", v.dir, err)
	}
	v.objects, v.used, v.broken, v.loaded = objects, used, broken, true
	v.readScrubbed()
	return nil
}

func readEnd(path string) (string, object, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", object{}, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "", object{}, err
	}
	return decodeEnd(f, st.Size())
}

// setFetcher notes whose key may fetch.
func (v *Vault) setFetcher(key []byte) error {
	v.placing.Lock()
	defer v.placing.Unlock()
	if len(key) != 32 || slices.Equal(key, v.fetcher()) {
		return nil
	}
	b, err := json.Marshal(giver{key})
	if err == nil {
		err = replace(filepath.Join(v.dir, "giver"), b)
	}
	if err == nil {
		v.store.givers.Lock()
		v.giver.Fetcher = slices.Clone(key)
		v.store.givers.Unlock()
	}
	return v.store.failed("keep", v.dir, err)
}

func (v *Vault) fetcher() []byte {
	v.store.givers.Lock()
	defer v.store.givers.Unlock()
	return v.giver.Fetcher
}

// state is what is told with each answer.
func (v *Vault) state() state {
	quota, _ := v.store.cfg.Quota(v.peer)
	v.mu.Lock()
	defer v.mu.Unlock()
	return state{Used: v.used, Quota: quota, Damaged: v.bad + len(v.broken)}
}

// begin looks whether an object may come, and makes room for it. Errors: KindInvalid, KindStale, KindPermission, KindNoSpace.
func (v *Vault) begin(key string, want object, only condition) (*incoming, error) {
	no := func(kind sharefs.Kind, format string, args ...any) error {
		return &sharefs.Error{Op: "keep", Path: key, Kind: kind, Detail: fmt.Sprintf(format, args...)}
	}
	if !validKey(key) || want.size < 0 || want.size > maxObject {
		return nil, no(sharefs.KindInvalid, "there can be no such object")
	}
	quota, why := v.store.cfg.Quota(v.peer)
	if quota == 0 {
		return nil, v.store.unwanted(v.peer, why)
	}
	free, err := v.store.free()
	if err != nil {
		return nil, v.store.failed("keep", key, err)
	}
	in := &incoming{v: v, key: key, want: want, only: only, sum: newSum(), held: want.charge()}
	v.mu.Lock()
	old := v.objects[key]
	if !only.holds(old) {
		v.mu.Unlock()
		return nil, no(sharefs.KindStale, "another object is there, or none")
	}
	replaced := v.broken[nameOf(key)]
	if old != nil {
		replaced = old.charge()
	}
	switch {
	case old == nil && len(v.objects) >= maxObjects:
		err = no(sharefs.KindPermission, "%d objects are kept, and no more than that", maxObjects) // no room that anybody gives would help
	case v.used+v.held+in.held > quota+replaced, !v.store.reserve(in.held, uint64(want.size), free):
		err = v.noRoom(in, quota, replaced, free)
	default:
		v.held += in.held
		v.serial++
		v.refused.Tried = time.Now()
	}
	serial := v.serial
	v.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if in.file, err = os.OpenFile(filepath.Join(v.dir, "new", strconv.FormatUint(serial, 10)), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
		v.release(in.held)
		return nil, v.store.failed("keep", key, err)
	}
	return in, nil
}

// reserve notes that an object is being received, if there is room on the disk for it beside those that are received for anybody.
func (s *Store) reserve(held, size, free uint64) bool {
	if all := s.held.Add(held); all-held+size+s.cfg.Spare > free {
		s.held.Add(-held)
		return false
	}
	return true
}

func (v *Vault) release(held uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.held -= held
	v.store.held.Add(-held)
}

// enter gives an object that was received its name, if the condition holds still.
func (v *Vault) enter(in *incoming, o *object) error {
	v.placing.Lock()
	defer v.placing.Unlock()
	v.mu.Lock()
	holds := in.only.holds(v.objects[in.key])
	v.mu.Unlock()
	if !holds {
		return &sharefs.Error{Op: "keep", Path: in.key, Kind: sharefs.KindStale, Detail: "another object is there by now"}
	}
	path := filepath.Join(v.dir, nameOf(in.key))
	err := os.Mkdir(filepath.Dir(path), 0o700)
	if err == nil {
		err = syncDir(v.dir)
	} else if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	if err == nil {
		err = os.Rename(in.file.Name(), path)
	}
	if err != nil {
		return v.store.failed("keep", in.key, err)
	}
	err = syncDir(filepath.Dir(path))
	v.mu.Lock()
	defer v.mu.Unlock()
	v.put(in.key, o) // it is there, whether or not it survives
	return v.store.failed("keep", in.key, err)
}

// put notes that an object is there in the place of another one, or of something broken; nil: none is. v.mu is held.
func (v *Vault) put(key string, o *object) {
	v.used -= v.broken[nameOf(key)]
	delete(v.broken, nameOf(key))
	if old := v.objects[key]; old != nil {
		v.used -= old.charge()
		if old.damaged {
			v.bad--
		}
		delete(v.objects, key)
	}
	if o != nil {
		v.objects[key] = o
		v.used += o.charge()
		v.written = o.written
		v.refused.came(key)
	}
	v.keys = nil
}

// open opens an object to be read.
func (v *Vault) open(key string) (*os.File, *object, error) {
	for {
		v.mu.Lock()
		o := v.objects[key]
		damaged := o != nil && o.damaged
		v.mu.Unlock()
		if o == nil {
			return nil, nil, &sharefs.Error{Op: "read", Path: key, Kind: sharefs.KindNotExist, Detail: "there is no such object"}
		}
		f, err := os.Open(filepath.Join(v.dir, nameOf(key)))
		if err == nil {
			// Another one may have taken its place.
			var st os.FileInfo
			if st, err = f.Stat(); err == nil {
				var end object
				if _, end, err = decodeEnd(f, st.Size()); err == nil && end.sum == o.sum || damaged {
					return f, o, nil
				}
			}
			f.Close()
		}
		v.mu.Lock()
		same := v.objects[key] == o
		v.mu.Unlock()
		if same {
			if err == nil || errors.Is(err, fs.ErrNotExist) {
				err = errObject
			}
			v.damage(key, o)
			return nil, nil, v.store.failed("read", key, err)
		}
	}
}

// damage notes that an object does not read back.
func (v *Vault) damage(key string, o *object) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.objects[key] != o || o.damaged {
		return
	}
	o.damaged = true
	v.bad++
	v.keys = nil
	v.store.cfg.Log.Warn("an object that is kept for a peer is damaged: the peer is told, and puts it anew", "peer", v.peer.Short(), "object", key)
}

// list returns objects whose key begins with prefix and comes behind after, in the order of keys, as many as fit into an answer.
func (v *Vault) list(prefix, after string) (page []entry, more bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.keys == nil {
		v.keys = make([]string, 0, len(v.objects))
		for key, o := range v.objects {
			if !o.damaged {
				v.keys = append(v.keys, key)
			}
		}
		slices.Sort(v.keys)
	}
	at, _ := slices.BinarySearch(v.keys, max(prefix, after))
	bytes := 0
	for ; at < len(v.keys) && strings.HasPrefix(v.keys[at], prefix); at++ {
		key := v.keys[at]
		if key == after {
			continue
		}
		if bytes += 2*len(key) + 128; bytes > maxPage && len(page) > 0 {
			return page, true
		}
		o := v.objects[key]
		page = append(page, entry{key, o.size, o.tag()})
	}
	return page, false
}

// remove removes an object.
func (v *Vault) remove(key string) error {
	v.placing.Lock()
	defer v.placing.Unlock()
	v.mu.Lock()
	there := v.objects[key] != nil || v.broken[nameOf(key)] > 0
	v.mu.Unlock()
	if !there {
		return nil
	}
	path := filepath.Join(v.dir, nameOf(key))
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return v.store.failed("remove", key, err)
	}
	v.mu.Lock()
	v.put(key, nil)
	v.mu.Unlock()
	return v.store.failed("remove", key, syncDir(filepath.Dir(path)))
}

// Kept is what is kept for one giver.
type Kept struct {
	Objects  int
	Bytes    uint64
	Quota    uint64
	Damaged  int
	Refused  Refused   // for which there is no room at present
	Vain     time.Time // when it wanted to give something the last time without having a quota; zero: it has one, or never did
	Scrubbed time.Time // when all of it had been read back the last time; zero: not yet
}

// Kept tells what is kept for a peer; ok is false where that is nothing, and nothing is to be.
func (s *Store) Kept(id sharefs.PeerID) (k Kept, ok bool) {
	k.Quota, _ = s.cfg.Quota(id)
	s.mu.Lock()
	v := s.vaults[id]
	if k.Quota == 0 {
		k.Vain = s.vain[id]
	}
	s.mu.Unlock()
	if v == nil {
		return k, k.Quota > 0
	}
	if err := v.load(); err != nil {
		return k, true
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	k.Objects, k.Bytes, k.Damaged, k.Refused, k.Scrubbed = len(v.objects), v.used, v.bad+len(v.broken), v.wants(k.Quota), v.scrub.Done
	return k, true
}

// all lists the vaults.
func (s *Store) all() (out []*Vault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.vaults {
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b *Vault) int { return slices.Compare(a.peer[:], b.peer[:]) })
	return out
}

// fetched lists the vaults that who has a key may fetch, those written last first.
func (s *Store) fetched(key [32]byte) (out []*Vault) {
	for _, v := range s.all() {
		if slices.Equal(v.fetcher(), key[:]) && v.load() == nil {
			out = append(out, v)
		}
	}
	slices.SortStableFunc(out, func(a, b *Vault) int { return b.lastWritten().Compare(a.lastWritten()) })
	return out
}

func (v *Vault) lastWritten() time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.written
}

// Fetches reports whether somebody who has this key may fetch something.
func (s *Store) Fetches(key [32]byte) bool {
	return slices.ContainsFunc(s.all(), func(v *Vault) bool { return slices.Equal(v.fetcher(), key[:]) })
}

// Drop removes all that is kept for a peer, which may give again.
func (s *Store) Drop(id sharefs.PeerID) error {
	v, err := s.of(id, false)
	if v == nil || err != nil {
		return err
	}
	v.mu.Lock()
	var keys []string
	for key := range v.objects {
		keys = append(keys, key)
	}
	v.mu.Unlock()
	for _, key := range keys {
		if err := v.remove(key); err != nil {
			return err
		}
	}
	return v.removeBroken()
}

// removeBroken removes files that tell nothing of what they are.
func (v *Vault) removeBroken() error {
	v.placing.Lock()
	defer v.placing.Unlock()
	v.mu.Lock()
	defer v.mu.Unlock()
	for rel, n := range v.broken {
		if err := os.Remove(filepath.Join(v.dir, rel)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return v.store.failed("remove", rel, err)
		}
		v.used -= n
		delete(v.broken, rel)
	}
	return nil
}
