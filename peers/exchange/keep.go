package exchange

import (
	"context"
	"fmt"
	"slices"
	"time"

	"sharefs"
	"sharefs/peers/exchange/wire"
	"sharefs/peers/record"
	"sharefs/peers/trust"
)

// keeps is what goes on with a peer about promises: to keep the content of versions, so that the other host need not, and to do so no longer. Guarded by the lock of the peer.
type keeps struct {
	number  uint32 // of the last question
	waiting map[uint32]*question
	out     []outgoing // to be sent, in this order
	working [2]int     // questions of each kind that are being answered, or whose answer was not sent yet
}

// question is one that waits for its answer.
type question struct {
	kind wire.Kind // of the answer
	c    chan answer
	no   []wire.Refusal // that came before it
}

// answer is what a peer says yes to, and why not to the rest.
type answer struct {
	yes []record.ID
	no  []wire.Refusal
}

// outgoing is a question or an answer that is to be sent.
type outgoing struct {
	message []byte
	done    *int // counts one less when it was sent, or cannot be any more; nil: nothing does
}

// sent counts it as done.
func (o *outgoing) sent() {
	if o.done != nil {
		*o.done--
	}
}

// mostKeeps is how many questions of each kind of a peer are answered at once; those beyond are answered with nothing.
const mostKeeps = 4

// askRate is how many questions about promises are read of a peer in a second: whoever frees many files asks for each.
const askRate = 200

// over ends what waits for answers.
func (k *keeps) over() {
	for _, q := range k.waiting {
		close(q.c)
	}
	for _, o := range k.out {
		o.sent()
	}
	k.waiting, k.out = nil, nil
}

// ask sends a question if the peer is connected and speaks a version of the protocol, and returns what its answer comes to: it is closed if none does.
func (p *peer) ask(least uint16, kind wire.Kind, message func(number uint32) []byte) (number uint32, c chan answer, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.control == nil || !p.greeted:
		return 0, nil, errNotConnected
	case p.version < least:
		return 0, nil, errOlder
	}
	k := &p.keeps
	k.number++
	c = make(chan answer, 1)
	if k.waiting == nil {
		k.waiting = map[uint32]*question{}
	}
	k.waiting[k.number] = &question{kind: kind, c: c}
	k.out = append(k.out, outgoing{message: message(k.number)})
	poke(p.poke)
	return k.number, c, nil
}

var (
	errNotConnected = &sharefs.Error{Op: op, Kind: sharefs.KindUnreachable, Detail: "it is not connected"}
	errOlder        = &sharefs.Error{Op: op, Kind: sharefs.KindNotSupported, Detail: "it runs an older ShareFS, that cannot give back what it was promised: update it there"}
)

// lifeEvery is how often a peer whose answer is waited for is looked for.
const lifeEvery = 500 * time.Millisecond

// whileThere returns a context that ends when a peer gives no sign of life any more: its answer need not be waited for.
func (p *peer) whileThere(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	if silent := p.x.cfg.Silent; silent != nil {
		look := func() {
			tick := time.NewTicker(lifeEvery)
			defer tick.Stop()
			for !silent(p.id) {
				select {
				case <-ctx.Done():
					return
				case <-p.x.ctx.Done():
					return
				case <-tick.C:
				}
			}
			cancel()
		}
		p.x.spawn(look)
	}
	return ctx, cancel
}

// await waits for the answer to a question; false: none came. What was not asked for is left out, and each is there once.
func (p *peer) await(ctx context.Context, number uint32, c chan answer, versions []record.ID) (out answer, ok bool) {
	ctx, end := p.whileThere(ctx)
	defer end()
	var all answer
	select {
	case all, ok = <-c:
	case <-ctx.Done():
		p.mu.Lock()
		delete(p.keeps.waiting, number)
		p.mu.Unlock()
	case <-p.x.ctx.Done():
	}
	if !ok {
		return out, false
	}
	wanted := map[record.ID]bool{}
	for _, id := range versions {
		wanted[id] = true
	}
	for _, id := range all.yes {
		if wanted[id] {
			delete(wanted, id)
			out.yes = append(out.yes, id)
		}
	}
	for _, r := range all.no {
		if wanted[r.Version] {
			delete(wanted, r.Version)
			out.no = append(out.no, r)
		}
	}
	return out, true
}

// Kept is what came of asking for promises.
type Kept struct {
	By     map[record.ID][]sharefs.PeerID                // who promised
	Asked  []sharefs.PeerID                              // all that were
	Silent []sharefs.PeerID                              // those of them that did not answer
	No     map[sharefs.PeerID]map[record.ID]wire.Refusal // why others of them do not promise some of the versions; older peers do not say
}

// heard takes what a peer answered.
func (k *Kept) heard(of sharefs.PeerID, a answer) {
	k.Silent = slices.DeleteFunc(k.Silent, func(id sharefs.PeerID) bool { return id == of })
	for _, id := range a.yes {
		k.By[id] = append(k.By[id], of)
	}
	for _, r := range a.no {
		if k.No[of] == nil {
			k.No[of] = map[record.ID]wire.Refusal{}
		}
		k.No[of][r.Version] = r
	}
}

// enough reports whether so many promised each of some versions.
func (k *Kept) enough(versions []record.ID, least int) bool {
	return !slices.ContainsFunc(versions, func(id record.ID) bool { return len(k.By[id]) < least })
}

// MayKeep reports whether a peer may be asked to promise to keep content: it may ask the same of this host, and its versions are merged here.
func MayKeep(policy trust.Policy, id sharefs.PeerID) bool {
	_, err := policy.Whole(id)
	return err == nil && policy.MergesAll(id)
}

// Keep asks the peers that are connected, of those that [MayKeep], to promise to keep the content of versions, at most
// wire.MaxKeep; but leaves some out. It returns when so many have promised each of them, all have answered or are silent, or the context has ended.
func (x *Exchange) Keep(ctx context.Context, versions []record.ID, least int, but ...sharefs.PeerID) (k Kept) {
	ctx, end := context.WithCancel(ctx)
	defer end()
	type one struct {
		of sharefs.PeerID
		answer
		ok bool
	}
	answers := make(chan one)
	policy := x.cfg.Policy()
	for _, p := range x.all() {
		if !MayKeep(policy, p.id) || slices.Contains(k.Asked, p.id) || slices.Contains(but, p.id) {
			continue
		}
		n, c, err := p.ask(0, wire.KindKept, func(n uint32) []byte { return wire.KeepMessage(wire.Keep{Number: n, Versions: versions}) })
		if err != nil {
			continue
		}
		wait := func() {
			out, ok := p.await(ctx, n, c, versions)
			select {
			case answers <- one{p.id, out, ok}:
			case <-ctx.Done():
			}
		}
		if x.spawn(wait) {
			k.Asked = append(k.Asked, p.id)
		}
	}
	k.By, k.No, k.Silent = map[record.ID][]sharefs.PeerID{}, map[sharefs.PeerID]map[record.ID]wire.Refusal{}, slices.Clone(k.Asked)
	for left := len(k.Asked); left > 0 && !k.enough(versions, least); left-- {
		select {
		case a := <-answers:
			if a.ok {
				k.heard(a.of, a.answer)
			}
		case <-ctx.Done():
			return k
		}
	}
	return k
}

// Release asks a peer which of some versions, at most wire.MaxKeep, it does not rely on any more, that this host promised it to keep, and returns them. Instead: it is to ask others to promise the
// same for the rest. Errors: KindUnreachable: it is not connected, or did not answer before the context ended; KindNotSupported: it cannot give anything back; KindPermission: it may not be told.
func (x *Exchange) Release(ctx context.Context, from sharefs.PeerID, versions []record.ID, instead bool) ([]record.ID, error) {
	p, err := x.releaser(from)
	if err != nil {
		return nil, err
	}
	n, c, err := p.ask(wire.VersionRelease, wire.KindReleased, func(n uint32) []byte {
		return wire.ReleaseMessage(wire.Release{Number: n, Instead: instead, Versions: versions})
	})
	if err != nil {
		return nil, err
	}
	out, ok := p.await(ctx, n, c, versions)
	if !ok {
		return nil, &sharefs.Error{Op: op, Kind: sharefs.KindUnreachable, Detail: "it is connected, and does not answer"}
	}
	return out.yes, nil
}

// releaser returns a session over which a peer can be asked to release this host.
func (x *Exchange) releaser(id sharefs.PeerID) (*peer, error) {
	if _, err := x.cfg.Policy().Whole(id); err != nil {
		return nil, &sharefs.Error{Op: op, Kind: sharefs.KindPermission, Detail: "it may not read all of this host's files any more, so it is not asked", Err: err}
	}
	err := error(errNotConnected)
	for _, p := range x.all() {
		if p.id != id {
			continue
		}
		p.mu.Lock()
		on, version := p.control != nil && p.greeted, p.version
		p.mu.Unlock()
		switch {
		case on && version >= wire.VersionRelease:
			return p, nil
		case on:
			err = errOlder
		}
	}
	return nil, err
}

// Releases says why a peer cannot be asked at present to release this host; nil: it can.
func (x *Exchange) Releases(id sharefs.PeerID) error {
	_, err := x.releaser(id)
	return err
}

// asked has a question answered, beside the work. What do returns is sent, its last message counts as the answer; busy is what is sent where nobody is there to do it.
func (p *peer) asked(kind int, do func() [][]byte, busy [][]byte) {
	p.mu.Lock()
	working := &p.keeps.working[kind]
	may := do != nil && *working < mostKeeps
	if may {
		*working++
	}
	p.mu.Unlock()
	send := func(messages [][]byte, done *int) {
		p.mu.Lock()
		for i, m := range messages {
			out := outgoing{message: m}
			if i == len(messages)-1 {
				out.done = done
			}
			p.keeps.out = append(p.keeps.out, out)
		}
		p.mu.Unlock()
		poke(p.poke)
	}
	if !may {
		send(busy, nil)
		return
	}
	if !p.x.spawn(func() { send(do(), working) }) {
		p.mu.Lock()
		*working--
		p.mu.Unlock()
	}
}

// hearsAnswers reports whether the peer may be told an answer. One for who may not would wait as long as the session lasts, with all that he asks after it.
func (p *peer) hearsAnswers() bool {
	_, err := p.x.cfg.Policy().Whole(p.id)
	return err == nil
}

// askedToKeep answers who asks for a promise.
func (p *peer) askedToKeep(m *wire.Keep) {
	if !p.hearsAnswers() {
		return
	}
	reply := func(yes []record.ID, no []wire.Refusal) (messages [][]byte) {
		if len(no) > 0 {
			messages = append(messages, wire.UnkeptMessage(wire.Unkept{Number: m.Number, Why: no}))
		}
		return append(messages, wire.KeptMessage(wire.Kept{Number: m.Number, Versions: yes}))
	}
	var do func() [][]byte
	if p.x.cfg.Keep != nil {
		do = func() [][]byte { return reply(p.x.cfg.Keep(p.id, m.Versions)) }
	}
	p.asked(0, do, reply(nil, nil)) // without reasons, which whoever asks too much and reads nothing would have kept here
}

// askedToRelease answers who asks whether its promises are relied on still.
func (p *peer) askedToRelease(m *wire.Release) error {
	p.mu.Lock()
	version := p.version
	p.mu.Unlock()
	if version < wire.VersionRelease {
		return refuse(fmt.Sprintf("a message of version %d of the exchange, where %d was agreed on", wire.VersionRelease, version))
	}
	if !p.hearsAnswers() {
		return nil
	}
	reply := func(yes []record.ID) [][]byte {
		return [][]byte{wire.ReleasedMessage(wire.Released{Number: m.Number, Versions: yes})}
	}
	var do func() [][]byte
	if p.x.cfg.Release != nil {
		do = func() [][]byte { return reply(p.x.cfg.Release(p.id, m.Versions, m.Instead)) }
	}
	p.asked(1, do, reply(nil))
	return nil
}

// refusals takes why a peer does not promise something, before its answer. That of a question that nobody asked is passed over.
func (p *peer) refusals(m *wire.Unkept) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if q, ok := p.keeps.waiting[m.Number]; ok && q.kind == wire.KindKept {
		q.no = m.Why
	}
}

// answered takes an answer. One that nobody asked for is passed over.
func (p *peer) answered(kind wire.Kind, number uint32, versions []record.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if q, ok := p.keeps.waiting[number]; ok && q.kind == kind {
		delete(p.keeps.waiting, number)
		q.c <- answer{versions, q.no}
	}
}

// pushKeep asks, and answers.
func (p *peer) pushKeep(w *wire.Writer) (did bool, err error) {
	plain, refused := p.x.cfg.Policy().Whole(p.id) // of this moment
	if refused != nil {
		return false, nil
	}
	p.mu.Lock()
	k := &p.keeps
	if len(k.out) == 0 {
		p.mu.Unlock()
		return false, nil
	}
	next := k.out[0]
	k.out = k.out[1:]
	p.mu.Unlock()
	err = send(w, plain, next.message)
	p.mu.Lock()
	next.sent()
	p.mu.Unlock()
	return true, err
}
