package daemon

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"time"

	"sharefs"
	"sharefs/internal/config"
	"sharefs/internal/status"
	"sharefs/internal/store"
	"sharefs/versions"
	"sharefs/versions/pack"
	"sharefs/versions/tier"
	"sharefs/versions/tier/near"
	"sharefs/versions/tier/s3"
)

const (
	tierEvery    = 15 * time.Second // at most so often the bucket is brought up to date
	tierLook     = 5 * time.Minute  // and so often its root is looked at while nothing changes
	tierKeep     = 24 * time.Hour   // what nobody needs any more stays in the bucket
	tierAttempts = 4                // for each request, before all of it rests
	tierState    = "tier"           // the file in the store that tells which root it wrote last
)

// openBucket makes a client of the bucket that a configuration names.
func openBucket(c *config.Tier) (*s3.Bucket, error) {
	place, err := c.Place()
	if err != nil {
		return nil, err
	}
	return s3.Open(s3.Config{
		Host: place.Host, Plain: place.HTTP, Bucket: place.Bucket, Prefix: place.Prefix, Region: c.Region, Credentials: c.Credentials, Rate: int64(c.Rate),
	})
}

// hostName is what a host of that configuration is called where it keeps its store.
func hostName(c *config.Peers) string { return cmp.Or(c.HostName(), hostname()) }

// authors are the keys by which this store was known, the one in use first.
func (d *Daemon) authors() []sharefs.PeerID {
	all := []sharefs.PeerID{d.store.Keys.Peer()}
	if b := d.peers.book; b != nil {
		all = append(all, b.Former()...)
	}
	return all
}

// writers are the names of the hosts that may write to all of the share: of those somebody promised to keep what was freed.
func (d *Daemon) writers() (names []string) {
	if d.peers.book == nil {
		return nil
	}
	policy := d.peers.book.Policy()
	for _, p := range d.peers.book.Peers() {
		if policy.MergesAll(p.ID) {
			names = append(names, p.Name)
		}
	}
	return names
}

func hostname() string {
	host, err := os.Hostname()
	if err != nil {
		return "an unknown host"
	}
	return host
}

// openPacks opens the packs of the store, those that its bucket alone has among them. What is wrong with the configuration of the bucket does not keep the mount from
// coming up; it is in the status.
func (d *Daemon) openPacks() (err error) {
	c := &d.store.Config.Tier
	packs := near.Config{URL: c.URL, Budget: int64(c.Cache), ReadOnly: d.store.ReadOnly, Log: d.log.With("part", "tier"), Missing: errors.New("share.toml has no [tier]")}
	if c.URL != "" {
		if bucket, err := openBucket(c); err != nil {
			d.tierError, packs.Missing = err.Error(), err
			d.log.Error("the store is not kept in its bucket", "err", err)
		} else {
			d.bucket = tier.Retry(bucket, tierAttempts)
			packs.Bucket = d.bucket
			if copies := c.Copies; copies > 1 {
				packs.May = func(id pack.ID, size int64) bool { return 1+d.vaults.domains("packs/"+pack.PathOf(id), size) >= copies }
			}
		}
	}
	d.packs, err = versions.OpenCache(d.store.Dir, packs)
	return err
}

// beginRoots has the roots that are written to a bucket, or to a peer, for the first time be numbered above those elsewhere: a recovery sheet that was printed before that names one number for all.
func (d *Daemon) beginRoots(state, name string) error {
	above := uint64(0)
	given, err := os.ReadDir(filepath.Join(d.store.Dir, store.GivenDir))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return &sharefs.Error{Op: "begin a backup", Path: d.store.Dir, Kind: sharefs.KindOf(err), Err: err}
	}
	others := []string{tierState}
	for _, e := range given {
		others = append(others, filepath.Join(store.GivenDir, e.Name()))
	}
	for _, other := range others {
		if of, n, err := tier.Known(filepath.Join(d.store.Dir, other)); err == nil && of == name { // the uploader says of its own what is wrong with it
			above = max(above, n)
		}
	}
	return tier.Begin(state, name, above)
}

// startTier begins to keep the store in its bucket, if it has one. The mount goes on whatever becomes of that; what is wrong is in the status.
func (d *Daemon) startTier() {
	if d.bucket == nil || d.store.ReadOnly {
		return
	}
	about, err := os.ReadFile(filepath.Join(d.store.Dir, "share.toml"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		d.log.Warn("the bucket is not told the configuration", "err", err)
	}
	first := d.store.Keys.Ring.First().Secret
	state := filepath.Join(d.store.Dir, tierState)
	if name, err := tier.Identify(state); err == nil {
		if err := d.beginRoots(state, name); err != nil {
			d.log.Warn("the roots of the bucket are not numbered above those that peers have", "err", err)
		}
	}
	d.tier, err = tier.Start(tier.Config{
		Bucket: d.bucket, Source: d.tree.TierSource(), Key: versions.TierKey(first), State: state,
		Host: hostName(&d.store.Config.Peers), Authors: d.authors(), Peers: d.writers, Every: tierEvery, Look: tierLook, Keep: tierKeep, Take: d.store.Config.Tier.TakeOver, Named: d.packs.Named, TakeBack: d.tree.TakeBack, About: versions.SealForTier(first, about),
		Keys: func() []byte { return versions.SealKeysForTier(d.tree.Keys()) }, Log: d.log.With("part", "tier"),
	})
	if err != nil {
		d.tierError = err.Error()
		d.log.Error("the store is not kept in its bucket", "err", err)
	}
}

// stopTier ends it; what is not in the bucket then follows with the next mount.
func (d *Daemon) stopTier() {
	if d.tier != nil {
		d.tier.Close()
	}
}

// closePacks ends what is fetched, behind the tree.
func (d *Daemon) closePacks() {
	if d.packs != nil {
		d.packs.Close()
	}
}

// tierStatus tells how the bucket stands; nil where there is none.
func (d *Daemon) tierStatus() *status.Tier {
	url := d.store.Config.Tier.URL
	p := d.packs.Stats()
	if url == "" && p.Remote == 0 {
		return nil
	}
	if url == "" {
		url = "none: share.toml has no [tier]"
	}
	t := &status.Tier{URL: url, Error: d.tierError, Refused: d.tierError != ""}
	if d.tier != nil {
		s := d.tier.Stats()
		*t = status.Tier{
			URL: url, Files: s.Files, Bytes: s.Bytes, Complete: s.Complete, BacklogFiles: s.BacklogFiles, BacklogBytes: s.BacklogBytes, BehindSince: s.Behind,
			SentBytes: s.Sent, Error: s.Error, Refused: s.Refused,
		}
	}
	t.Cache = status.Cache{
		BudgetBytes: p.Budget, HeldBytes: p.Held, LocalPacks: p.Local, RemotePacks: p.Remote, RemoteBytes: p.RemoteBytes, CacheBytes: p.CacheBytes,
		HitBytes: p.Hits, FetchedBytes: p.Fetched, Fetches: p.Fetches, LeftPacks: p.Left, OutOfReachSince: p.Since, Error: p.Error,
	}
	return t
}
