package daemon

import (
	"testing"
	"time"

	"sharefs"
	"sharefs/fs"
	"sharefs/peers/record"
	"sharefs/peers/replica"
)

// Of a symlink no times travel: none is told of one that is proposed, and where it is shown it has that at which its author told of it. A file has its own.
func TestTimesOfWhatIsProposed(t *testing.T) {
	told, set := time.UnixMilli(1_700_000_000_123), time.Unix(1_600_000_000, 5)
	at := sharefs.HLC(told.UnixMilli()) << 16
	link := &record.Record{HLC: at, Body: &record.Version{Target: "elsewhere"}}
	file := &record.Record{HLC: at, Body: &record.Version{Size: 3, Mtime: sharefs.Time(set.UnixNano())}}
	if p := proposal(&replica.Change{Type: record.Symlink, Proposed: link, Added: true}); !p.Time.IsZero() || p.Target != "elsewhere" {
		t.Errorf("%+v", p)
	}
	if p := proposal(&replica.Change{Type: record.Regular, Proposed: file, Added: true}); !p.Time.Equal(set) || p.Size != 3 {
		t.Errorf("%+v", p)
	}
	for rec, want := range map[*record.Record]time.Time{link: told, file: set} {
		var o fs.Entry
		(&travel{}).fill(&o, rec)
		if a := &o.Attr; a.Mtime != sharefs.Time(want.UnixNano()) || a.Ctime != a.Mtime || a.Atime != a.Mtime || a.Btime != a.Mtime {
			t.Errorf("%+v, want %v", a, want)
		}
	}
}
