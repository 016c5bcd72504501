package versions

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"sharefs"
	"sharefs/versions/pack"
	"sharefs/versions/tier"
	"sharefs/versions/tier/near"
)

// Packs that a bucket alone has. What is below the packs is package near; here is what the tree has to know of it.

// cacheDir holds the notes of such packs, and what was fetched of them.
const cacheDir = "cache"

// OpenCache opens the packs of a store, those among them that a bucket alone has; c says all but where they are. What comes of it is for [Config].Packs.
func OpenCache(store string, c near.Config) (*near.FS, error) {
	const op = "open packs"
	c.Packs, c.Files = pack.Dir(filepath.Join(store, "packs")), pack.Dir(filepath.Join(store, cacheDir))
	if !c.ReadOnly {
		for _, name := range []string{"packs", cacheDir} {
			if name == cacheDir && c.Bucket == nil {
				break // there is nothing to be kept, or it is there
			}
			if err := os.Mkdir(filepath.Join(store, name), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
				return nil, failed(op, err)
			}
		}
		if err := pack.Dir(store).SyncDir("."); err != nil {
			return nil, failed(op, err)
		}
	}
	f, err := near.Open(c)
	return f, failed(op, err)
}

// openDisk returns where the packs lie.
func (h *history) openDisk() (pack.FS, error) {
	if disk := h.t.cfg.Packs; disk != nil {
		h.cache, _ = disk.(*near.FS)
	} else {
		packs, err := OpenCache(h.t.cfg.Dir, near.Config{ReadOnly: h.t.cfg.ReadOnly, Log: h.t.log, Missing: errors.New("share.toml has no [tier]")})
		if err != nil {
			return nil, err
		}
		h.cache, h.ownCache = packs, true
	}
	if h.cache == nil {
		return h.t.cfg.Packs, nil
	}
	if h.cache.HasBucket() {
		h.t.chunkSources = append(h.t.chunkSources, h.fromBucket)
	}
	return h.cache, nil
}

// TakeBack takes in packs of the bucket that the store has neither a file nor a note of and that rows of chunks lead to: somebody took cache/ for what can be made anew. It
// returns how many. What is damaged there is passed over, and said in the log.
func (t *Tree) TakeBack(ctx context.Context, list []tier.Info) (n int, err error) {
	h := &t.past
	if h.cache == nil {
		return 0, nil
	}
	candidates := make(map[pack.ID]tier.Info, len(list))
	for _, i := range list {
		if id, ok := near.IDOf(i.Key); ok {
			candidates[id] = i
		}
	}
	needed := map[pack.ID]bool{}
	if err := t.db.Scan(spaceChunk, nil, nil, func(_, value []byte) bool {
		if loc, err := pack.ParseLoc(value); err == nil {
			if _, ok := candidates[loc.Pack]; ok {
				needed[loc.Pack] = true
			}
		}
		return len(needed) < len(candidates) && ctx.Err() == nil
	}); err != nil {
		return 0, failed("take packs back", err)
	}
	for id := range needed {
		switch err := h.cache.Adopt(ctx, candidates[id]); {
		case errors.Is(err, sharefs.KindCorrupt):
			t.log.Error("a pack that the bucket alone has is damaged there", "pack", id.String(), "err", err)
		case err != nil:
			return n, err
		default:
			n++
		}
	}
	return n, ctx.Err()
}

// fromBucket reads a chunk out of the bucket's copy of the pack that it lies in.
func (h *history) fromBucket(id sharefs.ChunkID) ([]byte, error) {
	row, ok, err := h.t.db.Get(spaceChunk, id[:])
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, &sharefs.Error{Op: "read the bucket", Kind: sharefs.KindNotExist}
	}
	loc, err := pack.ParseLoc(row)
	if err != nil {
		return nil, err
	}
	return h.packs.ReadCopy(h.cache.InBucket(loc.Pack), loc, id, nil)
}

// outOfReach reports whether an error says that something lies elsewhere and cannot be had at present: nothing follows from it about what it is.
func outOfReach(err error) bool { return errors.Is(err, sharefs.KindUnreachable) }
