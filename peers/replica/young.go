package replica

import "time"

// youngFor is how long a file is young: no longer than needed to read a log, since whoever signs a record can say that it is old.
const youngFor = 10 * time.Minute

// young are those that came lately. Of young files it is known whether they had gone before they came.
type young[K comparable] struct {
	at    map[K]time.Time
	order []K
}

func newYoung[K comparable]() young[K] { return young[K]{at: map[K]time.Time{}} }

func (y *young[K]) add(id K, now time.Time) {
	if _, ok := y.at[id]; !ok {
		y.at[id] = now
		y.order = append(y.order, id)
	}
}

// prune forgets those that came before a time.
func (y *young[K]) prune(before time.Time) {
	for len(y.order) > 0 && y.at[y.order[0]].Before(before) {
		y.first()
	}
}

// trim forgets those that came first, where there are more than some.
func (y *young[K]) trim(most int) {
	for len(y.order) > most {
		y.first()
	}
}

// first forgets the first.
func (y *young[K]) first() {
	delete(y.at, y.order[0])
	y.order = y.order[1:]
}
