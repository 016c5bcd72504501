package versions

import (
	"math"

	"sharefs/versions/writers"
)

// noLimit stands for no upper bound of the own numbers of an inode.
const noLimit = math.MaxUint64

func (h *history) stillHeld(ev writers.Event) {}

func (h *history) pending(from versionID, n int) (ids []versionID) { return nil }

type timedJob struct{}
