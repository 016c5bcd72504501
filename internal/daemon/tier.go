package daemon

import (
	"os"
	"path/filepath"
	"time"

	"sharefs/internal/status"
	"sharefs/versions"
	"sharefs/versions/tier"
	"sharefs/versions/tier/s3"
)

const (
	tierEvery    = 15 * time.Second // at most so often the bucket is brought up to date
	tierKeep     = 24 * time.Hour   // what nobody needs any more stays in the bucket
	tierAttempts = 4                // for each request, before all of it rests
)

// startTier begins to keep the store in its bucket, if it has one. The mount goes on whatever becomes of that; what is wrong is in the status.
func (d *Daemon) startTier() {
	c := &d.store.Config.Tier
	if c.URL == "" || d.store.ReadOnly {
		return
	}
	u, err := d.openTier()
	if err != nil {
		d.tierError = err.Error()
		d.log.Error("the store is not kept in its bucket", "err", err)
		return
	}
	d.tier = u
}

func (d *Daemon) openTier() (*tier.Uploader, error) {
	c := &d.store.Config.Tier
	place, err := c.Place()
	if err != nil {
		return nil, err
	}
	bucket, err := s3.Open(s3.Config{
		Host: place.Host, Plain: place.HTTP, Bucket: place.Bucket, Prefix: place.Prefix, Region: c.Region, Credentials: c.Credentials, Rate: int64(c.Rate),
	})
	if err != nil {
		return nil, err
	}
	host, err := os.Hostname()
	if err != nil {
		host = "an unknown host"
	}
	return tier.Start(tier.Config{
		Bucket: tier.Retry(bucket, tierAttempts), Source: d.tree.TierSource(), Key: versions.TierKey(d.store.Keys.Share), State: filepath.Join(d.store.Dir, "tier"),
		Host: host, Every: tierEvery, Keep: tierKeep, Take: c.TakeOver, Log: d.log.With("part", "tier"),
	})
}

// stopTier ends it; what is not in the bucket then follows with the next mount.
func (d *Daemon) stopTier() {
	if d.tier != nil {
		d.tier.Close()
	}
}

// tierStatus tells how the bucket stands; nil where there is none.
func (d *Daemon) tierStatus() *status.Tier {
	url := d.store.Config.Tier.URL
	if url == "" {
		return nil
	}
	t := &status.Tier{URL: url, Error: d.tierError, Refused: d.tierError != ""}
	if d.tier != nil {
		s := d.tier.Stats()
		*t = status.Tier{
			URL: url, Files: s.Files, Bytes: s.Bytes, Complete: s.Complete, BacklogFiles: s.BacklogFiles, BacklogBytes: s.BacklogBytes, BehindSince: s.Behind,
			SentBytes: s.Sent, Error: s.Error, Refused: s.Refused,
		}
	}
	return t
}
