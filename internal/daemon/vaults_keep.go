package daemon

import (
	"context"
	"encoding/json"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sharefs"
	"sharefs/esp"
	"sharefs/internal/store"
	"sharefs/peers/report"
	"sharefs/peers/vault"
)

// keeper is what this host keeps for peers: sealed, of those for whom its user has set a quota.
type keeper struct {
	store  *vault.Store // nil: it keeps nothing, and err says why
	server *vault.Server
	err    error
	cancel context.CancelFunc
	scrub  sync.WaitGroup
}

// spareMost is how much of the disk is left free for this host's own files, bytes: a 16th, and no more than this.
const spareMost = 4 << 30

// startKeeper begins to serve givers, and who recovers. The hub is there.
func (d *Daemon) startKeeper() {
	k := &d.vaults.keeper
	if d.store.ReadOnly {
		return
	}
	var st unix.Statfs_t
	if k.err = unix.Statfs(d.store.Dir, &st); k.err == nil {
		k.store, k.err = vault.OpenStore(vault.StoreConfig{
			Dir: filepath.Join(d.store.Dir, store.VaultsDir), Quota: d.keptFor, Name: d.peerName, Spare: min(spareMost, st.Blocks*uint64(st.Bsize)/16), Log: d.log.With("part", "vaults"),
		})
	}
	if k.err != nil {
		d.log.Error("nothing is kept for peers", "error", k.err)
		return
	}
	k.server = vault.NewServer(vault.ServerConfig{Store: k.store, Pace: d.peers.pace})
	hub := d.peers.hub
	hub.Handle(vault.Purpose, func(peer sharefs.PeerID, c *esp.Conn, first json.RawMessage) { k.server.Serve(peer, c, first) })
	hub.HandleGuests(vault.Purpose, func(key esp.PublicKey) bool { return k.store.Fetches(key) },
		func(key esp.PublicKey, c *esp.Conn, first json.RawMessage) { k.server.ServeFetcher(key, c, first) })
	hub.Follow(func(peer sharefs.PeerID, _ *esp.Session) { d.vaults.connected(peer) })
	ctx, cancel := context.WithCancel(context.Background())
	k.cancel = cancel
	k.scrub.Go(func() { k.store.Scrub(ctx) })
}

// peerName is what a peer is called here; empty: it is none.
func (d *Daemon) peerName(id sharefs.PeerID) string {
	p, _ := d.peers.book.Peer(id)
	return p.Name
}

// keptFor returns how much is kept for a peer.
func (d *Daemon) keptFor(id sharefs.PeerID) (bytes uint64, why string) {
	if bytes = d.peers.book.Limits(id).Quota; bytes > 0 {
		return bytes, ""
	}
	name := "NAME"
	if p, ok := d.peers.book.Peer(id); ok {
		name = p.Name
	}
	return 0, "it keeps nothing for this host; there: " + allowing(name)
}

func (k *keeper) end() {
	if k.cancel == nil {
		return
	}
	k.cancel()
	k.server.Close()
	k.scrub.Wait()
}

// keeps tells what is kept for a peer of that name; nil: nothing, nor is anything to be.
func (v *vaults) keeps(id sharefs.PeerID, name string) *report.Keeps {
	k := &v.keeper
	if k.store == nil {
		return nil
	}
	kept, ok := k.store.Kept(id)
	_, connected := v.d.peers.hub.Connected(id)
	wants := connected && !kept.Vain.IsZero() && time.Since(kept.Vain) < fullQuiet
	if !ok && !wants {
		return nil
	}
	out := &report.Keeps{Files: kept.Objects, Bytes: kept.Bytes, Quota: kept.Quota, Damaged: kept.Damaged, Scrubbed: kept.Scrubbed}
	if wants {
		out.Wants = allowing(name)
	}
	if quiet := time.Since(kept.Refused.Tried); !connected || quiet < fullQuiet {
		out.Full = full(kept.Refused, kept.Quota, kept.Bytes+kept.Refused.Size, name)
	}
	return out
}

// fullQuiet is when a peer that is connected, and gives nothing, has given up what was refused, or that it wants a backup: it tries each minute as long as it has something to give.
const fullQuiet = 10 * time.Minute

// drop removes what is kept for a peer.
func (d *Daemon) dropKept(word string) error {
	p, err := d.peers.book.Find(word)
	if err != nil {
		return err
	}
	nothing := &sharefs.Error{Op: "drop the backup of", Path: p.Name, Kind: sharefs.KindNotExist, Detail: "nothing is kept for it; sharefs peers shows for whom something is"}
	k := &d.vaults.keeper
	switch {
	case k.err != nil:
		return k.err
	case k.store == nil:
		return nothing
	}
	kept, ok := k.store.Kept(p.ID)
	if err := k.store.Drop(p.ID); err != nil { // also what is no object, after a disk failed
		return err
	}
	if !ok || kept.Objects == 0 && kept.Damaged == 0 {
		return nothing
	}
	return nil
}
