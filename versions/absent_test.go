package versions

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
)

// faraway has contents for trees, as other hosts have them.
type faraway struct {
	mu    sync.Mutex
	data  map[sharefs.ChunkID][]byte
	down  bool
	sent  int
	spoil bool // what it sends is something else
}

func newFaraway() *faraway { return &faraway{data: map[sharefs.ChunkID][]byte{}} }

func (f *faraway) Find(sharefs.Ino, *Content) (Remote, error) { return f, nil }
func (f *faraway) Want(...sharefs.ChunkID)                    {}
func (f *faraway) Drop()                                      {}

func (f *faraway) Get(_ <-chan struct{}, id sharefs.ChunkID, _ bool) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	data, ok := f.data[id]
	if f.down || !ok {
		return nil, &sharefs.Error{Op: "fetch", Kind: sharefs.KindUnreachable, Detail: "no peer has it"}
	}
	f.sent++
	if f.spoil {
		data = append([]byte{data[0] ^ 1}, data[1:]...)
	}
	return data, nil
}

func (f *faraway) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// keep takes all of a content from a tree.
func (f *faraway) keep(tree *Tree, c *Content) error {
	var all func(level uint8, spans []Span) error
	all = func(level uint8, spans []Span) error {
		for _, s := range spans {
			if s.Hole {
				continue
			}
			data, err := tree.Chunk(s.ID, nil)
			if err != nil {
				return err
			}
			f.set(func() { f.data[s.ID] = data })
			if level > 0 {
				below, ok := decodeSpans(data, int64(s.Len))
				if !ok {
					return errors.New("no node")
				}
				list := make([]Span, len(below))
				for i, b := range below {
					list[i] = Span{uint64(b.len), b.hole, b.id}
				}
				if err := all(level-1, list); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return all(c.Level, c.Spans)
}

// Want and Get make it a source of nodes as well.
type farSource struct{ f *faraway }

func (s farSource) Want(int, ...sharefs.ChunkID) {}
func (s farSource) Get(_ int, id sharefs.ChunkID, _ func([]byte) bool) ([]byte, error) {
	return s.f.Get(nil, id, true)
}

// all reads a whole file.
func all(t testing.TB, tree *Tree, ino sharefs.Ino) string {
	t.Helper()
	h := must[*Handle](t)(tree.Open(ino, unix.O_RDONLY, root))
	defer h.Close()
	a := must[sharefs.Attr](t)(tree.Getattr(ino))
	b, err := io.ReadAll(io.NewSectionReader(readerAt{h}, 0, int64(a.Size)+1))
	check(t, err)
	return string(b)
}

// arrive has a content of another tree arrive as an absent file, and returns it.
func arrive(t testing.TB, here *Tree, f *faraway, name string, c Content) sharefs.Attr {
	t.Helper()
	s := absentStage(t, here, f, c)
	return must[sharefs.Attr](t)(here.Put(sharefs.RootIno, name, New{Mode: sharefs.ModeRegular | 0o644, Staged: s}, root))
}

func absentStage(t testing.TB, here *Tree, f *faraway, c Content) *Staged {
	t.Helper()
	l, errs, err := here.GatherSome([]Content{c}, func(int) bool { return true }, nil, farSource{f})
	check(t, err)
	check(t, errs[0])
	defer l.End()
	if !must[bool](t)(here.Shell(&c)) {
		t.Fatal("the nodes are not here")
	}
	s, err := here.StageAbsent(Foreign{Content: c, Author: sharefs.PeerID{2}})
	check(t, err)
	t.Cleanup(s.Drop)
	return s
}

func isAbsent(tree *Tree, ino sharefs.Ino) bool { return tree.absentNow(ino) }

func wantErrno(t testing.TB, err error, want unix.Errno) {
	t.Helper()
	if err == nil || sharefs.Errno(err) != want {
		t.Fatalf("got %v, want %v", err, want)
	}
}

// absentFiles has a tree and another one of which some files of all sizes arrived absent.
func absentFiles(t testing.TB) (here *Tree, f *faraway, inos []sharefs.Ino, texts []string, list []Content) {
	t.Helper()
	here, there := pair(t)
	f = newFaraway()
	here.SetElsewhere(f)
	for i, size := range []int{1, 70_000, 1 << 20, 2 << 20} {
		text := blob(uint64(i), size)
		if i == 2 {
			text = text[:300_000] + strings.Repeat("\x00", 400_000) + text[700_000:]
		}
		c := newestKept(t, there.Tree, create(t, there.Tree, sharefs.RootIno, fmt.Sprint(i), text).Ino).Content
		check(t, f.keep(there.Tree, &c))
		texts, list = append(texts, text), append(list, c)
		inos = append(inos, arrive(t, here, f, fmt.Sprint(i), c).Ino)
	}
	if list[3].Level == 0 {
		t.Fatal("the largest has no nodes")
	}
	return here, f, inos, texts, list
}

// A file that arrives absent tells its size, takes no room, is read in any order, and is full when all of it was read.
func TestAbsentIsRead(t *testing.T) {
	here, f, inos, texts, list := absentFiles(t)
	for i, ino := range inos {
		a := must[sharefs.Attr](t)(here.Getattr(ino))
		if a.Size != uint64(len(texts[i])) || a.Blocks != 0 || a.Mtime != list[i].Mtime || !isAbsent(here, ino) {
			t.Fatalf("file %d: %+v", i, a)
		}
		if must[bool](t)(here.Here(&list[i])) {
			t.Fatalf("the content of file %d is here", i)
		}
	}
	wantClean(t, here, FsckScrub)
	collect(t, here, GCOptions{})
	f.set(func() { f.sent = 0 })
	for i, ino := range inos {
		h := must[*Handle](t)(here.Open(ino, unix.O_RDONLY, root))
		if !h.Served() {
			t.Error("it is passed through")
		}
		b := make([]byte, 1000)
		for off := len(texts[i]) - 1; off >= 0; off -= 200_001 { // backwards
			n := must[int](t)(h.ReadAt(b, int64(off)))
			if string(b[:n]) != texts[i][off:min(off+len(b), len(texts[i]))] {
				t.Fatalf("file %d differs at %d", i, off)
			}
		}
		check(t, h.Close())
		if i == 3 {
			a := must[sharefs.Attr](t)(here.Getattr(ino))
			if !isAbsent(here, ino) || a.Blocks == 0 || a.Blocks*512 > a.Size*9/10 {
				t.Errorf("%+v, absent: %v", a, isAbsent(here, ino))
			}
		}
		if got := all(t, here, ino); got != texts[i] {
			t.Fatalf("file %d differs", i)
		}
		if isAbsent(here, ino) {
			t.Errorf("file %d is absent still", i)
		}
		v := must[VersionReader](t)(here.OpenVersion(ino, 1))
		got, err := io.ReadAll(io.NewSectionReader(v, 0, v.Size()))
		check(t, err)
		check(t, v.Close())
		if string(got) != texts[i] {
			t.Errorf("version 1 of file %d differs", i)
		}
	}
	collect(t, here, GCOptions{})
	f.set(func() { f.down = true })
	for i, ino := range inos {
		h := must[*Handle](t)(here.Open(ino, unix.O_RDONLY, root))
		if h.Served() {
			t.Errorf("file %d is not passed through", i)
		}
		check(t, h.Close())
		if got := all(t, here, ino); got != texts[i] {
			t.Fatalf("file %d differs", i)
		}
		if a := must[sharefs.Attr](t)(here.Getattr(ino)); a.Blocks == 0 || a.Mtime != list[i].Mtime {
			t.Errorf("%+v", a)
		}
		if l := must[Latest](t)(here.Latest(ino)); l.Own != 1 || !l.Kept {
			t.Errorf("%+v", l)
		}
	}
	wantClean(t, here, FsckScrub)
}

// waiting is a faraway whose first question is answered when who asked does not want it any more, with whatever that comes to.
type waiting struct {
	*faraway
	once  sync.Once
	asked chan struct{}
}

func (w *waiting) Find(sharefs.Ino, *Content) (Remote, error) { return w, nil }

func (w *waiting) Get(cancel <-chan struct{}, id sharefs.ChunkID, patient bool) (data []byte, err error) {
	w.once.Do(func() {
		close(w.asked)
		<-cancel
		err = &sharefs.Error{Op: "read", Kind: sharefs.KindUnreachable, Detail: "no peer has sent it in time"}
	})
	if err != nil {
		return nil, err
	}
	return w.faraway.Get(cancel, id, patient)
}

// Of several who read one chunk, the one who is told to end ends, and the others get it.
func TestAbsentReaderThatGivesUp(t *testing.T) {
	here, f, inos, texts, _ := absentFiles(t)
	w := &waiting{faraway: f, asked: make(chan struct{})}
	here.SetElsewhere(w)
	var all sync.WaitGroup
	read := func(cancel chan struct{}, check func(n int, text string, err error)) {
		all.Go(func() {
			h, err := here.Open(inos[1], unix.O_RDONLY, root)
			if err != nil {
				t.Error(err)
				return
			}
			b := make([]byte, 1000)
			n, err := h.ReadUntil(cancel, b, 0)
			check(n, string(b[:n]), err)
			if err := h.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	cancel := make(chan struct{})
	read(cancel, func(_ int, _ string, err error) {
		if err == nil {
			t.Error("it was read")
		}
	})
	<-w.asked
	for range 3 {
		read(make(chan struct{}), func(n int, text string, err error) {
			if err != nil || text != texts[1][:1000] {
				t.Errorf("%d bytes, %v", n, err)
			}
		})
	}
	time.Sleep(20 * time.Millisecond) // so that they wait for the first
	close(cancel)
	all.Wait()
}

// What changes an absent file brings it here before; what takes all of it away asks nobody, and each makes a version.
func TestAbsentIsChanged(t *testing.T) {
	here, f, inos, texts, _ := absentFiles(t)
	want := map[sharefs.Ino]string{}
	h := must[*Handle](t)(here.Open(inos[3], unix.O_RDWR, root))
	must[int](t)(h.WriteAt([]byte("changed"), 1<<20))
	check(t, h.Close())
	want[inos[3]] = texts[3][:1<<20] + "changed" + texts[3][1<<20+7:]
	size := uint64(500)
	must[sharefs.Attr](t)(here.Setattr(inos[2], &SetAttr{Size: &size}, root))
	want[inos[2]] = texts[2][:500]
	f.set(func() { f.down = true })
	rewrite(t, here, inos[1], "anew")
	want[inos[1]] = "anew"
	size = 0
	must[sharefs.Attr](t)(here.Setattr(inos[0], &SetAttr{Size: &size}, root))
	want[inos[0]] = ""
	for i, ino := range inos {
		settle(t, here, ino)
		capture(t, here)
		if isAbsent(here, ino) || all(t, here, ino) != want[ino] {
			t.Errorf("file %d is another one", i)
		}
		if l := must[Latest](t)(here.Latest(ino)); l.Own != 2 || !l.Kept || l.Content.Size != uint64(len(want[ino])) {
			t.Errorf("file %d: %+v", i, l)
		}
		if st, err := here.live.stat(ino); err != nil || st.Mode&unix.S_ISVTX != 0 {
			t.Errorf("%o %v", st.Mode, err)
		}
	}
	collect(t, here, GCOptions{})
	for i, ino := range inos {
		if i < 2 || i == 3 {
			v := must[VersionReader](t)(here.OpenVersion(ino, 1))
			_, err := v.ReadAt(make([]byte, 1), 1<<20*int64(i/3)) // where the next version has other chunks
			check(t, v.Close())
			wantErrno(t, err, unix.EHOSTUNREACH)
		}
		v := must[VersionReader](t)(here.OpenVersion(ino, 2))
		got, err := io.ReadAll(io.NewSectionReader(v, 0, v.Size()))
		check(t, err)
		check(t, v.Close())
		if string(got) != want[ino] {
			t.Errorf("version 2 of file %d differs", i)
		}
	}
	wantClean(t, here, FsckScrub)
}

// Without anybody who has it, reading and changing err, and nothing changes; looking and giving names, times and modes does neither.
func TestAbsentAndNobodyHasIt(t *testing.T) {
	here, f, inos, texts, _ := absentFiles(t)
	f.set(func() { f.down = true })
	size := uint64(10)
	for i, ino := range inos {
		h := must[*Handle](t)(here.Open(ino, unix.O_RDONLY, root))
		_, err := h.ReadAt(make([]byte, 10), 0)
		wantErrno(t, err, unix.EHOSTUNREACH)
		if at := must[int64](t)(h.Seek(0, unix.SEEK_DATA)); at != 0 {
			t.Errorf("data at %d", at)
		}
		if hole := must[int64](t)(h.Seek(0, unix.SEEK_HOLE)); i == 2 && (hole < 300_000 || hole > 400_000) || i != 2 && hole != int64(len(texts[i])) {
			t.Errorf("file %d: a hole at %d", i, hole)
		}
		check(t, h.Close())
		_, err = here.Open(ino, unix.O_RDWR, root)
		wantErrno(t, err, unix.EHOSTUNREACH)
		_, err = here.Setattr(ino, &SetAttr{Size: &size}, root)
		wantErrno(t, err, unix.EHOSTUNREACH)
		mode, mtime := uint32(0o600), sharefs.Time(1e18)
		a := must[sharefs.Attr](t)(here.Setattr(ino, &SetAttr{Mode: &mode, Mtime: &mtime}, root))
		if a.Size != uint64(len(texts[i])) || a.Mtime != mtime || a.Blocks != 0 {
			t.Errorf("%+v", a)
		}
	}
	check(t, here.Rename(sharefs.RootIno, "0", sharefs.RootIno, "1", 0))
	f.set(func() { f.down, f.spoil = false, true })
	h := must[*Handle](t)(here.Open(inos[2], unix.O_RDONLY, root))
	_, err := h.ReadAt(make([]byte, 10), 0)
	wantErrno(t, err, unix.EIO)
	check(t, h.Close())
	f.set(func() { f.spoil = false })
	for i, ino := range inos {
		if i == 1 { // replaced
			continue
		}
		if all(t, here, ino) != texts[i] {
			t.Errorf("file %d differs", i)
		}
		if a := must[sharefs.Attr](t)(here.Getattr(ino)); a.Mtime != 1e18 {
			t.Errorf("%+v", a)
		}
	}
	wantClean(t, here, FsckScrub)
}

// What others promise to keep is one version: another one that is written meanwhile stays here.
func TestFreeIsOfWhatWasPromised(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	f := newFaraway()
	tree.SetElsewhere(f)
	ino := create(t, tree, sharefs.RootIno, "f", blob(1, 1<<20)).Ino
	newestKept(t, tree, ino)
	text := blob(2, 1<<20)
	_, errs := tree.Free([]sharefs.Ino{ino}, func(_ sharefs.Ino, c *Content) error {
		if err := f.keep(tree, c); err != nil {
			return err
		}
		h := must[*Handle](t)(tree.Open(ino, unix.O_WRONLY, root))
		must[int](t)(h.WriteAt([]byte(text), 0))
		check(t, h.Close())
		newestKept(t, tree, ino)
		return nil
	})
	wantKind(t, errs[0], sharefs.KindBusy)
	if isAbsent(tree, ino) {
		t.Error("what nobody has promised to keep is gone")
	}
	collect(t, tree, GCOptions{})
	if all(t, tree, ino) != text {
		t.Error("it is another one")
	}
	wantClean(t, tree, FsckScrub)
}

// What is here is freed when others promise to keep it and nobody has it open, and comes again.
func TestFree(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	f := newFaraway()
	tree.SetElsewhere(f)
	text := blob(1, 2<<20)
	ino := create(t, tree, sharefs.RootIno, "f", text).Ino
	free := func(promised func(sharefs.Ino, *Content) error) (uint64, error) {
		n, errs := tree.Free([]sharefs.Ino{ino}, promised)
		return n, errs[0]
	}
	promise := func(_ sharefs.Ino, c *Content) error { return f.keep(tree, c) }
	_, err := free(promise)
	wantKind(t, err, sharefs.KindBusy) // it has no version
	newestKept(t, tree, ino)
	no := errors.New("no")
	if _, err := free(func(sharefs.Ino, *Content) error { return no }); err != no {
		t.Fatal(err)
	}
	h := must[*Handle](t)(tree.Open(ino, unix.O_RDONLY, root))
	_, err = free(promise)
	wantKind(t, err, sharefs.KindBusy)
	check(t, h.Close())
	mapped, err := os.Open(tree.live.path + "/" + tree.live.name(ino)) // as whoever has it mapped under passthrough
	check(t, err)
	defer mapped.Close()
	before := must[uint64](t)(tree.PackBytes())
	if n, err := free(promise); err != nil || n < uint64(len(text)) {
		t.Fatal(n, err)
	}
	old := make([]byte, 100)
	must[int](t)(mapped.ReadAt(old, 1<<20))
	if string(old) != text[1<<20:1<<20+100] {
		t.Error("who had it mapped sees something else")
	}
	if a := must[sharefs.Attr](t)(tree.Getattr(ino)); !isAbsent(tree, ino) || a.Blocks != 0 || a.Size != uint64(len(text)) {
		t.Errorf("%+v", a)
	}
	collect(t, tree, GCOptions{})
	if now := must[uint64](t)(tree.PackBytes()); now > before/10 {
		t.Errorf("packs have %d bytes, and had %d", now, before)
	}
	wantClean(t, tree, FsckScrub)
	dir := killed(t, tree)
	if all(t, tree, ino) != text || isAbsent(tree, ino) {
		t.Error("it is another one")
	}
	if _, err := free(nil); err != nil || !isAbsent(tree, ino) { // it is away already
		t.Error(err)
	}
	h = must[*Handle](t)(tree.Open(ino, unix.O_RDONLY, root))
	must[int](t)(h.ReadAt(make([]byte, 10), 0))
	check(t, h.Close())
	if n, err := free(nil); err != nil || n == 0 || must[sharefs.Attr](t)(tree.Getattr(ino)).Blocks != 0 { // what is here in part
		t.Error(n, err)
	}
	after := testTree(t, dir, byHand)
	after.SetElsewhere(f)
	if !isAbsent(after, ino) || all(t, after, ino) != text {
		t.Error("after a restart it is another one")
	}
	wantClean(t, after, FsckScrub)
}

// Who has a file open that becomes another absent one goes on with that; one that is here and open stays as it is.
func TestAdoptAbsent(t *testing.T) {
	here, f, inos, texts, list := absentFiles(t)
	h := must[*Handle](t)(here.Open(inos[3], unix.O_RDONLY, root))
	b := make([]byte, 100)
	must[int](t)(h.ReadAt(b, 0))
	if own := must[uint64](t)(here.Adopt(inos[3], absentStage(t, here, f, list[2]), 1)); own != 2 {
		t.Error(own)
	}
	for _, off := range []int64{0, 100_000, 800_000, int64(len(texts[2])) - 100} {
		must[int](t)(h.ReadAt(b, off))
		if string(b) != texts[2][off:off+100] {
			t.Errorf("at %d it is something else", off)
		}
	}
	check(t, h.Close())
	ino := create(t, here, sharefs.RootIno, "mine", "mine").Ino
	own := newestKept(t, here, ino).Own
	h = must[*Handle](t)(here.Open(ino, unix.O_RDONLY, root))
	s := absentStage(t, here, f, list[3])
	_, err := here.Adopt(ino, s, own)
	wantKind(t, err, sharefs.KindBusy)
	if n := must[int](t)(h.ReadAt(b, 0)); string(b[:n]) != "mine" {
		t.Error("it is another one")
	}
	check(t, h.Close())
	must[uint64](t)(here.Adopt(ino, s, own))
	if !isAbsent(here, ino) || all(t, here, ino) != texts[3] {
		t.Error("it is not what was adopted")
	}
	wantTexts(t, here, ino, "mine", texts[3])
	capture(t, here)
	collect(t, here, GCOptions{})
	wantTexts(t, here, ino, "mine", texts[3])
	must[uint64](t)(here.Adopt(ino, absentStage(t, here, f, list[1]), own+1))
	gathered(t, here, &other{here, t, map[sharefs.ChunkID]bool{}, 0, nil}).End()
	l, errs, err := here.Gather([]Content{list[0]}, farSource{f})
	check(t, err)
	check(t, errs[0])
	must[uint64](t)(here.Adopt(ino, staged(t, here, Foreign{Content: list[0]}), own+2)) // over an absent one
	l.End()
	if isAbsent(here, ino) || all(t, here, ino) != texts[0] {
		t.Error("it is not what was adopted")
	}
	wantTexts(t, here, ino, "mine", texts[3], texts[1], texts[0])
	wantClean(t, here, FsckScrub)
}

// wantTexts is wantHistory that tells no contents.
func wantTexts(t testing.TB, tree *Tree, ino sharefs.Ino, want ...string) {
	t.Helper()
	all := must[[]sharefs.Version](t)(tree.Versions(ino))
	if len(all) != len(want) {
		t.Fatalf("%d versions, want %d", len(all), len(want))
	}
	for i, v := range all {
		if readVersion(t, tree, ino, v.Number) != want[i] {
			t.Errorf("version %d differs", v.Number)
		}
	}
}

// readUnder is a kernel in which somebody reads each file who is to be answered before its pages are dropped.
type readUnder struct {
	holding
	answered chan struct{}
	dropped  chan sharefs.Ino
}

func (readUnder) DropBacking(sharefs.Ino) bool { return true }

func (k readUnder) ForgetContent(ino sharefs.Ino, _, _ int64) {
	<-k.answered
	k.dropped <- ino
}

// Whoever frees waits for nobody who reads: he may wait for the room that is made. Nor does he hold what else he frees meanwhile.
func TestFreeWaitsForNobodyWhoReads(t *testing.T) {
	tree := testTree(t, t.TempDir(), byHand)
	f := newFaraway()
	tree.SetElsewhere(f)
	var inos []sharefs.Ino
	for i := range 3 {
		ino := create(t, tree, sharefs.RootIno, fmt.Sprint(i), blob(uint64(i), 1<<20)).Ino
		newestKept(t, tree, ino)
		inos = append(inos, ino)
	}
	k := readUnder{answered: make(chan struct{}), dropped: make(chan sharefs.Ino, len(inos))}
	tree.SetKernel(k)
	freed := make(chan []error, 1)
	go func() {
		_, errs := tree.Free(inos, func(_ sharefs.Ino, c *Content) error { return f.keep(tree, c) })
		freed <- errs
	}()
	select {
	case errs := <-freed:
		check(t, errors.Join(errs...))
	case <-time.After(time.Minute):
		close(k.answered)
		t.Fatal("it waits for those who read")
	}
	for _, ino := range inos {
		rewrite(t, tree, ino, "another")
	}
	close(k.answered)
	seen := map[sharefs.Ino]bool{}
	for range inos {
		seen[<-k.dropped] = true
	}
	if len(seen) != len(inos) {
		t.Errorf("pages of %d files are dropped", len(seen))
	}
}
