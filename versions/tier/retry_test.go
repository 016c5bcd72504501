package tier

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"sharefs"
)

// scripted is a bucket that answers with one error after the other, then with none.
type scripted struct {
	errs  []error
	asked int
}

func (s *scripted) next() error {
	s.asked++
	if len(s.errs) == 0 {
		return nil
	}
	err := s.errs[0]
	s.errs = s.errs[1:]
	return err
}

func (s *scripted) Put(context.Context, string, io.ReaderAt, int64, Condition) (string, error) {
	return "tag", s.next()
}
func (s *scripted) ReadAt(context.Context, string, []byte, int64) (int, Info, error) {
	return 1, Info{}, s.next()
}
func (s *scripted) Delete(context.Context, string) error { return s.next() }

// List lists five objects; each error comes after two of them.
func (s *scripted) List(_ context.Context, _, after string, fn func(Info) bool) error {
	err, told := s.next(), 0
	for _, key := range []string{"a", "b", "c", "d", "e"} {
		if key <= after {
			continue
		}
		if err != nil && told == 2 {
			return err
		}
		told++
		if !fn(Info{Key: key}) {
			return nil
		}
	}
	return nil
}

func TestRetry(t *testing.T) {
	passing := errors.New("connection reset")
	final := &sharefs.Error{Kind: sharefs.KindAccess}
	for _, c := range []struct {
		name  string
		errs  []error
		asked int
		want  error
	}{
		{"none", nil, 1, nil}, {"one", []error{passing}, 2, nil}, {"one less", []error{passing, passing, passing}, 4, nil},
		{"all", []error{passing, passing, passing, passing, passing}, 4, passing}, {"final", []error{passing, final}, 2, final},
		{"canceled", []error{context.Canceled}, 1, context.Canceled},
	} {
		t.Run(c.name, func(t *testing.T) {
			calls := []func(b Bucket) error{
				func(b Bucket) error {
					_, err := b.Put(t.Context(), "a", strings.NewReader(""), 0, Condition{})
					return err
				},
				func(b Bucket) error { _, _, err := b.ReadAt(t.Context(), "a", nil, 0); return err },
				func(b Bucket) error { return b.Delete(t.Context(), "a") },
			}
			for n, call := range calls {
				s := &scripted{errs: append([]error(nil), c.errs...)}
				var slept []time.Duration
				b := &retrying{b: s, attempts: 4, sleep: func(_ context.Context, d time.Duration) error { slept = append(slept, d); return nil }}
				if err := call(b); !errors.Is(err, c.want) || s.asked != c.asked || len(slept) != c.asked-1 {
					t.Errorf("call %d: %v, asked %d times, slept %v", n, err, s.asked, slept)
				}
				for i, d := range slept {
					if longest := firstWait << i; d > longest || d < longest/2 {
						t.Errorf("wait %d is %v", i, d)
					}
				}
			}
		})
	}
}

func TestRetriedListTellsOfEachOnce(t *testing.T) {
	passing := errors.New("connection reset")
	b := &retrying{b: &scripted{errs: []error{passing, passing}}, attempts: 3, sleep: func(context.Context, time.Duration) error { return nil }}
	var got string
	if err := b.List(t.Context(), "", "", func(i Info) bool { got += i.Key; return true }); err != nil || got != "abcde" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestSleepEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := sleep(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := sleep(t.Context(), 0); err != nil {
		t.Error(err)
	}
}
