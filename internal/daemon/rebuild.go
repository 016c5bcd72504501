package daemon

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"

	"sharefs"
	"sharefs/internal/logfile"
	"sharefs/internal/mountopt"
	"sharefs/internal/store"
	"sharefs/internal/term"
	"sharefs/versions"
)

// RebuildConfig says what is to be made anew.
type RebuildConfig struct {
	Source  string // name or path of the store; empty: the default one
	Options *mountopt.Options
	Force   bool // although meta.db reads whole
	Bare    bool // without a checkpoint, so without names
	// Progress is told how far it has come; may be nil.
	Progress func(stage string, done, total uint64, unit string)
}

// Rebuild makes the meta.db of a store anew that nobody has mounted; see [versions.Rebuild].
func Rebuild(ctx context.Context, c RebuildConfig) (report versions.RebuildReport, err error) {
	d := &Daemon{options: c.Options}
	dir, err := d.chooseStore(Config{Source: c.Source, Options: c.Options})
	if err != nil {
		return report, err
	}
	// Whoever mistypes the name of a store does not want a new one, and without its key an old one is nothing.
	if _, err := os.Stat(filepath.Join(dir, "share.key")); err != nil {
		return report, &sharefs.Error{Op: "rebuild", Path: term.Quote(dir), Kind: sharefs.KindOf(err),
			Detail: "it is no store, or its share.key is missing, without which nothing in it can be read: if share.key.copy is there, copy that to share.key", Err: err}
	}
	if d.store, err = store.Open(dir); err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, d.store.Close()) }()
	if d.store.ReadOnly {
		return report, &sharefs.Error{Op: "rebuild", Path: term.Quote(dir), Kind: sharefs.KindReadOnly}
	}
	if d.logFile, err = logfile.Open(LogPath(dir), logfile.DefaultLimit, false); err != nil {
		return report, err
	}
	defer d.logFile.Close()
	d.log = d.logFile.Logger(slog.LevelInfo)
	tell := func(p versions.Progress) {
		if c.Progress != nil {
			c.Progress(p.Stage, p.Done, p.Total, p.Unit)
		}
	}
	if err := d.openPacks(); err != nil {
		return report, err
	}
	defer d.closePacks()
	tree := d.treeConfig()
	tree.Packs = d.packs
	report, err = versions.Rebuild(ctx, tree, versions.RebuildOptions{Force: c.Force, Bare: c.Bare}, tell)
	if err != nil {
		d.log.Error("rebuild failed", "err", err)
		return report, err
	}
	d.log.Info("meta.db was made anew", "report", report.Text())
	return report, nil
}
