package daemon

import (
	"errors"
	"strings"
	"testing"

	"sharefs/peers/replica"
)

// Which files cannot be read is not for everybody: who may not see peers is told how many there are.
func TestUnreadableFilesAreNotNamedToEverybody(t *testing.T) {
	list := []replica.Unread{{Path: "private/diary", Ino: 7, Err: errors.New("chunk of private/diary is damaged")}, {Ino: 9, Err: errors.New("damaged")}}
	if all := strings.Join(unreadable(list, true), "\n"); !strings.Contains(all, "private/diary cannot be read") || !strings.Contains(all, "inode 9 cannot be read") {
		t.Errorf("%s", all)
	}
	some := unreadable(list, false)
	if len(some) != 1 || !strings.HasPrefix(some[0], "2 files cannot be read") || strings.Contains(some[0], "diary") {
		t.Errorf("%q", some)
	}
	if none := unreadable(nil, false); len(none) > 0 {
		t.Errorf("%q", none)
	}
}
