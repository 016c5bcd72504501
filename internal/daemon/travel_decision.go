package daemon

import (
	"fmt"
	"strings"
	"time"

	"sharefs"
	"sharefs/internal/term"
	"sharefs/peers/replica"
)

// Of who decided and waits for the tree to show it.
const (
	// idleTurns is how many turns, one after the other, do nothing of a decision before what is left of it is known to wait for something else: in the first one somebody
	// may have been faster, which the next one knows.
	idleTurns = 2
	// decidedPatience is how long nothing of a decision is done, although the engine has not said that it waits for something else, before who decided is told so.
	decidedPatience = 30 * time.Second
)

// carried writes down by do what was decided, has peers told, and waits until the tree shows it, so that who has decided sees what he decided. What waits for something
// else, as for a content that is elsewhere, or a file that is open, comes later. What is the command, as operations name it.
func (t *travel) carried(r *replica.Replica, what string, do func(*replica.Decision) error) error {
	d := r.Decision(what)
	if err := do(d); err != nil {
		return err
	}
	t.tellAll()
	return t.await(r, d, false)
}

// await waits until the tree is as a decision says, or what is left of it waits for something else, as the engine's turns tell; whole: for that as well. Errors:
// KindAgain: it is decided, and the tree is not as it says yet; those of the database.
func (t *travel) await(r *replica.Replica, d *replica.Decision, whole bool) error {
	left, _, _, err := r.Left(d)
	patience := time.NewTimer(decidedPatience)
	defer patience.Stop()
	for idle := 0; err == nil && left > 0; {
		turned := t.engine.Turned()
		if !whole || idle < idleTurns {
			t.engine.Wake()
		}
		late := false
		select {
		case <-turned:
		case <-t.stop:
			return nil
		case <-patience.C:
			late = true
		}
		var skipped int
		var one string
		was := left
		left, skipped, one, err = r.Left(d)
		switch {
		case left < was:
			idle = 0
			patience.Reset(decidedPatience)
		case late:
			return t.undone(d, left, one)
		case skipped > 0:
			idle = 0 // others did something meanwhile: the next turn comes to it
		default:
			idle++
		}
		if idle >= idleTurns && !whole {
			return nil
		}
	}
	return err
}

// undone says that a decision is still to be done.
func (t *travel) undone(d *replica.Decision, left int, one string) error {
	detail := fmt.Sprintf("it is decided, and not done yet at %s", term.Of(uint64(left), "name"))
	if one != "" {
		detail += " such as " + term.Quote(one)
	}
	s := t.engine.Status()
	if why := append(s.Troubles, s.Waits...); len(why) > 0 {
		detail += ": " + strings.Join(why, "; ")
	} else if s.Fetching > 0 {
		detail += ": content comes"
	}
	return &sharefs.Error{Op: d.Command, Kind: sharefs.KindAgain, Detail: detail + "; it will be when files there come to rest and their content is here (sharefs status, sharefs peers)"}
}
