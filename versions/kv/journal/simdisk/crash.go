package simdisk

import "math/rand/v2"

// Span is a part of a write, in bytes from its start.
type Span struct{ From, To int }

// Fate tells how much of an operation that was not synced landed: of a write these parts, of any other operation
// nothing where it returns none.
type Fate func(op Op) []Span

// Lost is the fate of landing nowhere.
func Lost(Op) []Span { return nil }

// Kept is the fate of landing whole.
func Kept(op Op) []Span { return []Span{{0, len(op.Data)}} }

// Torn lets all operations before one land whole, of that one the first cut bytes, and none after it.
func Torn(index, cut int) Fate {
	return func(op Op) []Span {
		switch {
		case op.Index < index:
			return Kept(op)
		case op.Index == index && cut > 0:
			return []Span{{0, min(cut, len(op.Data))}}
		}
		return nil
	}
}

// Sector is what a disk writes whole or not at all, in bytes.
const Sector = 512

// Scatter lets each operation, and each sector of each write, land or not by the toss of a coin.
func Scatter(r *rand.Rand) Fate {
	return func(op Op) (out []Span) {
		if op.Kind != Write {
			if r.IntN(2) == 0 {
				return Kept(op)
			}
			return nil
		}
		for from := 0; from < len(op.Data); {
			// Sectors lie at multiples of their size in the file.
			to := min(len(op.Data), from+Sector-int((op.Off+int64(from))%Sector))
			if r.IntN(2) == 0 {
				out = append(out, Span{from, to})
			}
			from = to
		}
		return out
	}
}

// Killed returns the disk as the process that died after the first n operations left it: what was not synced then still
// is not.
func (d *Disk) Killed(n int) *Disk {
	out := New()
	for _, op := range d.Log()[:n] {
		out.carryOut(op)
	}
	return out
}

// Unsynced returns those of the first n operations that the loss of power could undo.
func (d *Disk) Unsynced(n int) (out []Op) {
	log := d.Log()[:n]
	for i, op := range log {
		if !isSync(op) && !durable(log, i) {
			out = append(out, op)
		}
	}
	return out
}

func isSync(op Op) bool { return op.Kind == Datasync || op.Kind == SyncDir }

// durable reports whether a later operation synced the one at i.
func durable(log []Op, i int) bool {
	for _, later := range log[i+1:] {
		switch log[i].Kind {
		case Create, Remove:
			if later.Kind == SyncDir {
				return true
			}
		default:
			if later.Kind == Datasync && later.file == log[i].file {
				return true
			}
		}
	}
	return false
}

// PowerLoss returns the disk after power was lost behind the first n operations. All that is on it is durable.
func (d *Disk) PowerLoss(n int, fate Fate) *Disk {
	log := d.Log()[:n]
	after := New()
	for i, op := range log {
		if isSync(op) {
			continue
		}
		spans := Kept(op)
		if !durable(log, i) {
			spans = fate(op)
		}
		switch op.Kind {
		case Create:
			after.files = append(after.files, &content{}) // its content may land without its name
			if len(spans) > 0 {
				after.names[op.Name] = op.file
			}
		case Remove:
			if len(spans) > 0 && after.names[op.Name] == op.file {
				delete(after.names, op.Name)
			}
		case Truncate:
			if len(spans) > 0 {
				after.files[op.file].truncate(op.Off)
			}
		case Write:
			for _, s := range spans {
				after.files[op.file].write(op.Data[s.From:s.To], op.Off+int64(s.From))
			}
		}
	}
	out := New()
	for name, n := range after.names {
		f, _ := out.Create(name)
		f.WriteAt(after.files[n].data, 0)
		f.Datasync()
	}
	out.SyncDir()
	return out
}
