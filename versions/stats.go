package versions

import (
	"sharefs/versions/kv"
	"sharefs/versions/writers"
)

// Stats tells what a tree is at; cheap to ask for at any time.
type Stats struct {
	InodesCached   int           `json:"inodes_cached"`
	NamesCached    int           `json:"names_cached"`
	InodesHeld     int           `json:"inodes_held_by_kernel"`
	FilesInUse     int           `json:"files_in_use"`     // open, or closed so shortly that their rows are not final
	Descriptors    int64         `json:"open_descriptors"` // of backing files
	Marked         int64         `json:"marked_files"`     // those that a start after a crash would look at
	Orphans        int           `json:"orphans_waiting"`  // removed, and still open or not yet cleared away
	OrphanBytes    uint64        `json:"orphan_bytes"`     // that those hold which nobody has open
	FilesPrepared  int           `json:"files_prepared"`
	EventsWaiting  int           `json:"close_events_waiting"`
	JournalCommits uint64        `json:"commits"` // number of the last
	Writers        writers.Stats `json:"writers"`
	KV             kv.Stats      `json:"kv"`
}

// Stats returns counts of the moment. What a file on its way from its last close to its version is at is asked for in the order of that
// way, so that no file is missed that goes on meanwhile.
func (t *Tree) Stats() Stats {
	s := Stats{
		InodesCached: t.rows.count(), NamesCached: t.dents.count(), InodesHeld: t.refs.count(), FilesInUse: t.files.count(),
		Descriptors: t.files.open.Load(), Marked: t.marked.Load(), JournalCommits: t.lastSeq.Load(),
	}
	t.orphans.mu.Lock()
	s.Orphans, s.OrphanBytes = len(t.orphans.waiting), t.orphans.blocks*512
	t.orphans.mu.Unlock()
	t.stock.mu.Lock()
	s.FilesPrepared = len(t.stock.ready)
	t.stock.mu.Unlock()
	if t.db != nil {
		s.KV = t.db.Stats()
	}
	if t.track != nil {
		s.Writers = t.track.Stats()
	}
	t.settler.mu.Lock()
	s.EventsWaiting = len(t.settler.events) + len(t.settler.busy) + t.settler.atWork
	t.settler.mu.Unlock()
	return s
}
