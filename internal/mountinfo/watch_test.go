package mountinfo

import (
	"reflect"
	"sync"
	"testing"
	"time"
)

// The table is that which is read, once nobody mounts anything for a moment.
func TestWatch(t *testing.T) {
	var w Watch
	same := func() bool {
		want, err := Read()
		if err != nil {
			t.Error(err)
		}
		got, err := w.Table()
		if err != nil {
			t.Error(err)
		}
		return reflect.DeepEqual(got, want)
	}
	for range 2 {
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for range 10 {
					for end := time.Now().Add(time.Minute); !same(); time.Sleep(10 * time.Millisecond) {
						if time.Now().After(end) {
							t.Error("it is never the one that is read")
							return
						}
					}
				}
			})
		}
		all.Wait()
		w.Close()
	}
}

func BenchmarkWatch(b *testing.B) {
	var w Watch
	defer w.Close()
	for b.Loop() {
		if _, err := w.Table(); err != nil {
			b.Fatal(err)
		}
	}
}
