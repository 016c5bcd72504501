package versions

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"sharefs/integration/race"
	"sharefs/versions/kv/journal/simdisk"
	"sharefs/versions/pack/memdisk"
)

// asKilled copies a disk as it is: what a process that was killed leaves to the next one.
func asKilled(d *memdisk.Disk) *memdisk.Disk {
	to := memdisk.New()
	for _, name := range d.Names() {
		to.Put(name, d.Data(name))
	}
	return to
}

// The daemon is killed and the power fails before each operation on packs of a collection, and in places between those on the journal. Every version
// whose row is there reads afterwards, those too that were dropped and came back with the power; a further collection finishes, and
// they read still.
func TestGCKilledAnywhere(t *testing.T) {
	race.Leave(t, race.OneHand)
	t.Parallel()
	dir := t.TempDir()
	journal, packs := simdisk.New(), memdisk.New()
	tree := testTree(t, dir, byHand, func(c *Config) { c.Journal, c.Packs, c.packSize, c.MaxDelay = journal, packs, 200_000, 1<<40 })
	m := newGCModel(t, tree, 30)
	m.fill(7)
	m.mix()
	m.thin(2)
	meta, err := os.ReadFile(filepath.Join(dir, "meta.db"))
	check(t, err)
	r := rand.New(rand.NewPCG(30, 30))
	soak := os.Getenv("SHAREFS_SOAK") != ""
	moments := 0
	look := func() {
		n := journal.Len()
		moments++
		if !soak && moments%12 != 1 {
			return
		}
		reopen(t, m, meta, journal.Killed(n), asKilled(packs))
		fates := []simdisk.Fate{simdisk.Lost, simdisk.Scatter(r)}
		if !soak {
			fates = fates[moments/12%2:][:1]
		}
		for _, fate := range fates {
			reopen(t, m, meta, journal.PowerLoss(n, fate), packs.PowerLoss(r))
		}
	}
	packs.Before = look
	opts := smallGC
	opts.at = func(string) { look() }
	rep := collect(t, tree, opts)
	look()
	packs.Before = nil
	if moments < 40 || rep.PacksRemoved == 0 || rep.PacksRewritten == 0 || rep.PacksPunched == 0 {
		t.Errorf("%d moments of %+v", moments, rep)
	}
	m.verify()
}

// reopen opens what the disks of a model's tree held and looks whether all is there, before and after a collection.
func reopen(t *testing.T, m *gcModel, meta []byte, journal *simdisk.Disk, packs *memdisk.Disk) {
	t.Helper()
	dir := t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, "meta.db"), meta, 0o600))
	tree, err := Open(Config{Dir: dir, Settle: 1000 * 3600e9, Journal: journal, Packs: packs, byHand: true, packSize: 200_000})
	check(t, err)
	defer tree.Close()
	want := map[versionID]string{}
	check(t, tree.db.Scan(spaceVersion, nil, nil, func(key, value []byte) bool {
		v := must[*version](t)(decodeVersion(key, value))
		want[versionID{v.ino, v.own}] = m.all[versionID{v.ino, v.own}]
		return true
	}))
	for id := range m.kept {
		if _, ok := want[id]; !ok {
			t.Errorf("the row of version %d of inode %d is gone", id.own, id.ino)
		}
	}
	verifyKept(t, tree, want)
	rep := collect(t, tree, smallGC)
	if len(rep.Left) > 0 {
		t.Errorf("%+v", rep)
	}
	verifyKept(t, tree, want)
	noGarbage(t, tree)
	if t.Failed() {
		t.FailNow()
	}
}
