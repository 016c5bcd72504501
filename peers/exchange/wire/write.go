package wire

import (
	"encoding/binary"
	"io"
	"slices"
	"strings"
	"sync"

	"sharefs"
	"sharefs/peers/record"
	"sharefs/peers/trust"
)

// Writer writes messages to one peer, each in one write. It is used by one goroutine at a time.
type Writer struct {
	w  io.Writer
	to sharefs.PeerID
}

// NewWriter returns a writer to a peer.
func NewWriter(w io.Writer, to sharefs.PeerID) *Writer { return &Writer{w, to} }

// Send writes what tells something of a share: one of the messages that the functions below make, in an envelope that a permission made for this peer. Anything
// else is refused with an error of KindPermission, and nothing is written.
func (w *Writer) Send(e trust.Envelope) error {
	b := e.Body()
	if e.To() != w.to || !e.Plain() || len(b) < headSize || !permitted(Kind(b[4])) || binary.BigEndian.Uint32(b) != uint32(len(b)-4) {
		return &sharefs.Error{Op: "send to a peer", Kind: sharefs.KindPermission, Detail: "an envelope for somebody else, or without a message"}
	}
	_, err := w.w.Write(b)
	return err
}

// permitted reports whether a message tells something of a share, so that a permission must have been given for it.
func permitted(k Kind) bool {
	switch k {
	case KindRing, KindSeen, KindOffer, KindItems, KindHere, KindKeep, KindKept, KindUnkept, KindRelease, KindReleased, KindChunks:
		return true
	}
	return false
}

// finish fills in the length of a message.
func finish(b []byte) []byte {
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

func begin(k Kind, room int) []byte {
	b := make([]byte, headSize, headSize+room)
	b[4] = byte(k)
	return b
}

// RingMessage makes a message of share keys.
func RingMessage(ring []byte) []byte { return finish(append(begin(KindRing, len(ring)), ring...)) }

// SeenMessage shows somebody a batch of its own.
func SeenMessage(batch *record.Batch) []byte {
	return finish(append(begin(KindSeen, len(batch.Bytes())), batch.Bytes()...))
}

// OfferMessage offers a log.
func OfferMessage(o Offer) []byte {
	return finish(binary.BigEndian.AppendUint64(append(begin(KindOffer, 24), o.Log[:]...), o.Last))
}

// KeepMessage asks to promise to keep at most MaxKeep versions, KeptMessage answers with those for which that is promised.
func KeepMessage(m Keep) []byte { return keepMessage(KindKeep, m.Number, m.Versions) }

// KeptMessage answers a Keep.
func KeptMessage(m Kept) []byte { return keepMessage(KindKept, m.Number, m.Versions) }

// UnkeptMessage says why at most MaxKeep versions are not promised.
func UnkeptMessage(m Unkept) []byte {
	b := binary.BigEndian.AppendUint32(begin(KindUnkept, 4+refusalSize*len(m.Why)), m.Number)
	for i := range m.Why {
		r := &m.Why[i]
		b = append(append(b, r.Version[:]...), byte(r.Reason))
		b = binary.BigEndian.AppendUint64(b, r.Missing)
	}
	return finish(b)
}

// ReleaseMessage asks which of at most MaxKeep versions are not relied on any more, ReleasedMessage answers with those.
func ReleaseMessage(m Release) []byte {
	instead := byte(0)
	if m.Instead {
		instead = 1
	}
	b := binary.BigEndian.AppendUint32(begin(KindRelease, 5+32*len(m.Versions)), m.Number)
	return finish(appendIDs(append(b, instead), m.Versions))
}

// ReleasedMessage answers a Release.
func ReleasedMessage(m Released) []byte { return keepMessage(KindReleased, m.Number, m.Versions) }

func keepMessage(k Kind, number uint32, versions []record.ID) []byte {
	return finish(appendIDs(binary.BigEndian.AppendUint32(begin(k, 4+32*len(versions)), number), versions))
}

func appendIDs(b []byte, ids []record.ID) []byte {
	for i := range ids {
		b = append(b, ids[i][:]...)
	}
	return b
}

// HereMessage tells of at most MaxHere versions whose content is here now.
func HereMessage(versions []record.ID) []byte {
	return finish(appendIDs(begin(KindHere, 32*len(versions)), versions))
}

// ItemsWriter makes a message of items.
type ItemsWriter struct{ b []byte }

const itemsHead = 4 + 8 + 8

// NewItems begins a message of items of a run after a number.
func NewItems(run uint32, after uint64) *ItemsWriter {
	b := binary.BigEndian.AppendUint32(begin(KindItems, 4<<10), run)
	b = binary.BigEndian.AppendUint64(b, after)
	return &ItemsWriter{binary.BigEndian.AppendUint64(b, after)}
}

// Size returns how long the items are, in bytes.
func (w *ItemsWriter) Size() int { return len(w.b) - headSize - itemsHead }

// Batch adds a batch with some or all of its records.
func (w *ItemsWriter) Batch(batch *record.Batch, records []*record.Record) {
	w.b = append(w.b, itemBatch)
	w.b = appendBytes(w.b, batch.Bytes())
	w.b = binary.AppendUvarint(w.b, uint64(len(records)))
	for _, r := range records {
		w.b = r.AppendSized(w.b)
	}
}

// Record adds a record without its batch.
func (w *ItemsWriter) Record(r *record.Record) {
	w.b = r.AppendSized(append(w.b, itemRecord))
}

// Message completes the message, which tells of all up to a number.
func (w *ItemsWriter) Message(upTo uint64) []byte {
	binary.BigEndian.PutUint64(w.b[headSize+12:], upTo)
	return finish(w.b)
}

func appendBytes(b, data []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(data))), data...)
}

// ChunksWriter makes a message of answers.
type ChunksWriter struct {
	b []byte
	n int
}

// NewChunks begins a message of answers.
func NewChunks() *ChunksWriter { return &ChunksWriter{b: begin(KindChunks, 16<<10)} }

// large has room for messages of large chunks: to clear it anew for each message takes as long as to fill it.
var large = sync.Pool{New: func() any { return new(make([]byte, 0, chunksRoom)) }}

// Recycle gives the room of a message of answers back that was sent. It is not to be looked at after that.
func Recycle(message []byte) {
	if cap(message) >= chunksRoom && cap(message) < 2*chunksRoom {
		large.Put(&message)
	}
}

// Len returns how many answers there are, Size how long they are in bytes.
func (w *ChunksWriter) Len() int { return w.n }

// Size returns how long the answers are, in bytes.
func (w *ChunksWriter) Size() int { return len(w.b) - headSize }

// chunksRoom is made room for once an answer shows that they are large.
const chunksRoom = 320 << 10

// Add adds an answer; one without bytes says that it is not here.
func (w *ChunksWriter) Add(data []byte) {
	if room := len(w.b) + len(data) + 8; room > cap(w.b) && cap(w.b) < chunksRoom {
		if room <= chunksRoom {
			w.b = append((*large.Get().(*[]byte))[:0], w.b...)
		} else {
			w.b = slices.Grow(w.b, len(data)+8)
		}
	}
	w.b = appendBytes(w.b, data)
	w.n++
}

// Message completes the message.
func (w *ChunksWriter) Message() []byte { return finish(w.b) }

// Hello writes the versions of the protocol that are spoken here.
func (w *Writer) Hello(h Hello) error {
	return w.write(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(begin(KindHello, 4), h.Lowest), h.Highest))
}

// Withdraw takes an offer back.
func (w *Writer) Withdraw() error { return w.write(begin(KindWithdraw, 0)) }

// Begin asks for a log from a number on.
func (w *Writer) Begin(m Begin) error {
	b := binary.BigEndian.AppendUint32(begin(KindBegin, 28), m.Run)
	return w.write(binary.BigEndian.AppendUint64(append(b, m.Log[:]...), m.After))
}

// Ack says how far a log is on disk here.
func (w *Writer) Ack(m Ack) error {
	return w.write(binary.BigEndian.AppendUint64(append(begin(KindAck, 24), m.Log[:]...), m.UpTo))
}

// Stop says that nothing more is taken.
func (w *Writer) Stop() error { return w.write(begin(KindStop, 0)) }

// Bye ends the exchange; a text that is too long is cut.
func (w *Writer) Bye(m Bye) error {
	text := strings.ToValidUTF8(m.Text[:min(len(m.Text), MaxText)], "")
	return w.write(append(append(begin(KindBye, 1+len(text)), byte(m.Code)), text...))
}

// Want asks for at most MaxWanted chunks.
func (w *Writer) Want(m Want) error {
	b := begin(KindWant, 67*len(m.Groups))
	for i := range m.Groups {
		g := &m.Groups[i]
		b = append(b, g.Version[:]...)
		b = binary.AppendUvarint(b, uint64(len(g.IDs)))
		for j := range g.IDs {
			b = append(b, g.IDs[j][:]...)
		}
	}
	return w.write(b)
}

func (w *Writer) write(b []byte) error {
	_, err := w.w.Write(finish(b))
	return err
}
