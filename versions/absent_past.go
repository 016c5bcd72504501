package versions

import (
	"sync"

	"sharefs"
)

// awayChunks are the chunks of a version that is away: what packs have of it from there, the rest from elsewhere. Nothing of it is kept.
type awayChunks struct {
	h   *history
	v   *version
	cut chan struct{} // closed by close: nobody waits any more

	mu     sync.Mutex // guards what follows
	remote Remote     // nil: not asked for yet
	key    *shareKey
}

func (a *awayChunks) read(id sharefs.ChunkID) ([]byte, error) {
	h := a.h
	if ok, err := h.has(&id); err != nil {
		return nil, err
	} else if ok {
		if b, err := h.readChunk(id, nil); err == nil || !damage(err) {
			return b, err
		}
	}
	remote, key, err := a.from()
	if err != nil {
		return nil, err
	}
	data, err := remote.Get(a.cut, id, true)
	if err != nil {
		return nil, err
	}
	if h.t.keys.namers().of(key).ID(data) != id {
		return nil, &sharefs.Error{Op: "read a version", Kind: sharefs.KindCorrupt, Detail: "what was sent as chunk " + id.String() + " is another one"}
	}
	return data, nil
}

// from returns where the content comes from, and the key that names it.
func (a *awayChunks) from() (Remote, *shareKey, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.remote != nil {
		return a.remote, a.key, nil
	}
	t := a.h.t
	c, err := t.contentOf(a.v)
	if err != nil {
		return nil, nil, err
	}
	if a.key, err = t.keyFor(c); err != nil {
		return nil, nil, err
	}
	remote, err := t.remoteOf(a.v)
	if err != nil {
		return nil, nil, err
	}
	a.remote = remote
	return a.remote, a.key, nil
}

func (a *awayChunks) close() {
	close(a.cut)
	a.mu.Lock()
	remote := a.remote
	a.mu.Unlock()
	if remote != nil {
		remote.Drop()
	}
}
