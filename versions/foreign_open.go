package versions

import (
	"sharefs"
)

// OpenForeign opens a content for reading of which no version here has to know, and of which some or all may be elsewhere: what packs have is read out of them, what they lack
// comes from src, a chunk at a time as it is read, and is not kept. Src may be asked by several goroutines at once, and is not told of chunks before.
//
// Errors: KindInvalid for what is no content; KindAccess where its share key is not here. Reading errors with what src says of a chunk that it does not have.
func (t *Tree) OpenForeign(c Content, src Source) (VersionReader, error) {
	const op = "read a version of another host"
	top, ok := c.manifest()
	if !ok {
		return nil, fail(op, sharefs.KindInvalid)
	}
	key, err := t.keyFor(&c)
	if err != nil {
		return nil, err
	}
	f := &foreignChunks{h: &t.past, key: key, src: src}
	r := &keptReader{h: &t.past, size: int64(c.Size), from: f.read}
	r.walk = walker{top: top, size: r.size, load: func(id sharefs.ChunkID, _ uint8) ([]byte, error) { return f.read(id) }}
	return r, nil
}

// foreignChunks are the chunks of one content, wherever they are.
type foreignChunks struct {
	h   *history
	key *shareKey
	src Source
}

// read reads a chunk, or a node.
func (f *foreignChunks) read(id sharefs.ChunkID) ([]byte, error) {
	under := keptUnder{h: f.h}
	if ok, err := under.has(&id, f.key); err != nil {
		return nil, err
	} else if ok {
		if b, err := f.h.readChunk(id, nil); err == nil {
			return b, nil
		} // collected meanwhile, or damaged: others may have it
	}
	return f.src.Get(0, id, func(data []byte) bool {
		return f.h.t.keys.namers().of(f.key).ID(data) == id
	})
}
