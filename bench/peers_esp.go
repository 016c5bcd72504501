package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// espAlone is the subject that carries the bytes of the large files over the link and does nothing else with them.
const espAlone = "ESP alone"

// alone measures how long ESP takes for the large files from one host to the other: from the start of the program that sends until the one that receives has all and ends.
func (d *peerData) alone(ctx context.Context, n *peerNet, s *peerShare, t *table) error {
	tool, log := filepath.Join(s.work, "sharefs"), filepath.Join(s.work, "esp.log")
	const port = "7070"
	receiver, err := n.run(1, log, "sh", "-c", `exec "$1" esp listen "0.0.0.0:$2" </dev/null >/dev/null`, "sh", tool, port)
	if err != nil {
		return err
	}
	defer receiver.end()
	if err := wait(ctx, 10*time.Millisecond, []fact{func() bool {
		said, err := os.ReadFile(log)
		return err == nil && strings.Contains(string(said), ":"+port)
	}}); err != nil {
		return fmt.Errorf("%s: it does not listen: %w", espAlone, err)
	}
	began := fromRest()
	sender, err := n.run(0, log, "sh", "-c", `cd "$1" && cat large* | "$2" esp dial "$3"`, "sh", d.dir, tool, n.addr(0, 1)+":"+port)
	if err != nil {
		return err
	}
	defer sender.end()
	select {
	case <-receiver.gone:
	case <-time.After(peersTried):
		return errors.New(espAlone + ": the receiver does not end")
	}
	t.row(largeRow, "s", false).add(espAlone, time.Since(began).Seconds())
	return nil
}
