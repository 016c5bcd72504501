package versions

import "sync"

// collecting is what all garbage collections of a tree share.
type collecting struct {
	run sync.Mutex // held while one is at work
	// packs is held while a pack is looked through and changed, and by whoever makes a row lead to a record that lay there before.
	packs sync.Mutex
}
