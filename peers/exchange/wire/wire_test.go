package wire

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"sharefs"
	"sharefs/peers/record"
	"sharefs/peers/trust"
)

var (
	key    = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))
	author = sharefs.PeerID(key.Public().(ed25519.PublicKey))
	log1   = LogID(bytes.Repeat([]byte{0xa1}, 16))
	id1    = [32]byte(bytes.Repeat([]byte{1}, 32))
	id2    = [32]byte(bytes.Repeat([]byte{2}, 32))
)

// made returns records, and a batch of them.
func made(t testing.TB, n int) ([]*record.Record, *record.Batch) {
	t.Helper()
	var list []*record.Record
	b := &record.Batch{Share: record.ShareID{1}, Author: author, Incarnation: 1, Number: 1, HLC: 9}
	for i := range n {
		r, err := record.New(record.ShareID{1}, author, sharefs.HLC(i+1), &record.Attr{File: sharefs.FileID{byte(i + 1)}, Mode: 0o644})
		if err == nil {
			err = r.Sign(key)
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
		b.Records = append(b.Records, r.ID())
	}
	if n > 0 {
		if err := b.Seal(); err != nil {
			t.Fatal(err)
		}
		if err := b.Sign(key); err != nil {
			t.Fatal(err)
		}
	}
	return list, b
}

var peer = sharefs.PeerID{1}

// permit returns a permission to send the peer anything.
func permit(t testing.TB, id sharefs.PeerID) trust.Plain {
	t.Helper()
	plain, err := trust.Policy{}.Grant(trust.Rule{Peer: id, Level: trust.Read}).Whole(id)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

// sent returns what a writer writes.
func sent(t testing.TB, message []byte, fn func(*Writer) error) []byte {
	t.Helper()
	var b bytes.Buffer
	w := NewWriter(&b, peer)
	err := error(nil)
	if fn != nil {
		err = fn(w)
	} else {
		e, bad := permit(t, peer).Envelope(message)
		if bad != nil {
			t.Fatal(bad)
		}
		err = w.Send(e)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func x32(digits string) string { return strings.Repeat(digits, 32) }
func x16(digits string) string { return strings.Repeat(digits, 16) }

// cases are all messages: what is written, its bytes, and what is read. Records stand for themselves: package record pins their bytes.
func cases(t testing.TB) map[string]struct {
	bytes []byte
	hex   string
	want  Message
} {
	list, batch := made(t, 2)
	type c = struct {
		bytes []byte
		hex   string
		want  Message
	}
	h := func(b []byte) string { return hex.EncodeToString(b) }
	length := func(n int) string { return h(binary.BigEndian.AppendUint32(nil, uint32(n))) }
	varint := func(n int) string { return h(binary.AppendUvarint(nil, uint64(n))) }
	w := NewItems(3, 7)
	w.Batch(batch, list)
	w.Record(list[0])
	items := "00000003" + "0000000000000007" + "000000000000000a" + "01" + varint(len(batch.Bytes())) + h(batch.Bytes()) + "02" +
		varint(len(list[0].Bytes())) + h(list[0].Bytes()) + varint(len(list[1].Bytes())) + h(list[1].Bytes()) + "02" + varint(len(list[0].Bytes())) + h(list[0].Bytes())
	chunks := NewChunks()
	chunks.Add([]byte("abc"))
	chunks.Add(nil)
	chunks.Add(bytes.Repeat([]byte{0xee}, 128))
	return map[string]c{
		"hello":    {sent(t, nil, func(w *Writer) error { return w.Hello(Hello{1, 2}) }), "00000005" + "01" + "0001" + "0002", &Hello{1, 2}},
		"ring":     {sent(t, RingMessage([]byte("ring")), nil), "00000005" + "02" + h([]byte("ring")), &Ring{[]byte("ring")}},
		"seen":     {sent(t, SeenMessage(batch), nil), length(1+len(batch.Bytes())) + "03" + h(batch.Bytes()), &Seen{batch}},
		"offer":    {sent(t, OfferMessage(Offer{log1, 258}), nil), "00000019" + "04" + x16("a1") + "0000000000000102", &Offer{log1, 258}},
		"withdraw": {sent(t, nil, (*Writer).Withdraw), "00000001" + "05", &Withdraw{}},
		"begin": {sent(t, nil, func(w *Writer) error { return w.Begin(Begin{5, log1, 258}) }), "0000001d" + "06" + "00000005" + x16("a1") + "0000000000000102",
			&Begin{5, log1, 258}},
		"items": {sent(t, w.Message(10), nil), length(1+len(items)/2) + "07" + items,
			&Items{3, 7, 10, []Item{{Batch: batch, Records: list}, {Records: list[:1]}}}},
		"no items": {sent(t, NewItems(1, 2).Message(3), nil), "00000015" + "07" + "00000001" + "0000000000000002" + "0000000000000003", &Items{1, 2, 3, nil}},
		"ack":      {sent(t, nil, func(w *Writer) error { return w.Ack(Ack{log1, 258}) }), "00000019" + "08" + x16("a1") + "0000000000000102", &Ack{log1, 258}},
		"stop":     {sent(t, nil, (*Writer).Stop), "00000001" + "09", &Stop{}},
		"here":     {sent(t, HereMessage([]record.ID{id1, id2}), nil), "00000041" + "0a" + x32("01") + x32("02"), &Here{[]record.ID{id1, id2}}},
		"keep":     {sent(t, KeepMessage(Keep{258, []record.ID{id1, id2}}), nil), "00000045" + "0c" + "00000102" + x32("01") + x32("02"), &Keep{258, []record.ID{id1, id2}}},
		"kept":     {sent(t, KeptMessage(Kept{258, []record.ID{id2}}), nil), "00000025" + "0d" + "00000102" + x32("02"), &Kept{258, []record.ID{id2}}},
		"unkept": {sent(t, UnkeptMessage(Unkept{258, []Refusal{{id1, RefusedBudget, 259}, {id2, 200, 0}}}), nil),
			"00000057" + "80" + "00000102" + x32("01") + "05" + "0000000000000103" + x32("02") + "c8" + "0000000000000000", &Unkept{258, []Refusal{{id1, RefusedBudget, 259}, {id2, 200, 0}}}},
		"release": {sent(t, ReleaseMessage(Release{258, true, []record.ID{id1, id2}}), nil), "00000046" + "0e" + "00000102" + "01" + x32("01") + x32("02"),
			&Release{258, true, []record.ID{id1, id2}}},
		"release alone": {sent(t, ReleaseMessage(Release{1, false, []record.ID{id1}}), nil), "00000026" + "0e" + "00000001" + "00" + x32("01"), &Release{1, false, []record.ID{id1}}},
		"released":      {sent(t, ReleasedMessage(Released{258, []record.ID{id2}}), nil), "00000025" + "0f" + "00000102" + x32("02"), &Released{258, []record.ID{id2}}},
		"bye":           {sent(t, nil, func(w *Writer) error { return w.Bye(Bye{ByeLimit, "no"}) }), "00000004" + "0b" + "04" + "6e6f", &Bye{ByeLimit, "no"}},
		"want": {sent(t, nil, func(w *Writer) error { return w.Want(Want{[]Group{{id1, []ID{id2, id1}}, {id2, []ID{id2}}}}) }),
			"000000a3" + "10" + x32("01") + "02" + x32("02") + x32("01") + x32("02") + "01" + x32("02"), &Want{[]Group{{id1, []ID{id2, id1}}, {id2, []ID{id2}}}}},
		"chunks": {sent(t, chunks.Message(), nil), "00000088" + "11" + "03616263" + "00" + "8001" + strings.Repeat("ee", 128),
			&Chunks{[][]byte{[]byte("abc"), nil, bytes.Repeat([]byte{0xee}, 128)}}},
	}
}

func TestMessages(t *testing.T) {
	for name, c := range cases(t) {
		if got := hex.EncodeToString(c.bytes); got != c.hex {
			t.Errorf("%s: %s, want %s", name, got, c.hex)
		}
		// Behind it something that may be skipped, and the same again; the bytes come one by one.
		stream := append(bytes.Clone(c.bytes), 0, 0, 0, 3, 200, 1, 2)
		r := NewReader(iotest.OneByteReader(bytes.NewReader(append(stream, c.bytes...))))
		for range 2 {
			if m, err := r.Next(); err != nil || !reflect.DeepEqual(m, c.want) {
				t.Errorf("%s: %+v, %v", name, m, err)
			}
		}
		if _, err := r.Next(); err != io.EOF {
			t.Errorf("%s: %v at the end", name, err)
		}
		// Cut at any byte it is none.
		for n := range c.bytes {
			want := io.ErrUnexpectedEOF
			if n == 0 {
				want = io.EOF
			}
			if _, err := NewReader(bytes.NewReader(c.bytes[:n])).Next(); err != want {
				t.Errorf("%s cut after %d bytes: %v", name, n, err)
			}
		}
	}
}

// body makes a message of a body.
func body(k Kind, hexes ...string) []byte {
	raw, err := hex.DecodeString(strings.Join(hexes, ""))
	if err != nil {
		panic(err)
	}
	return finish(append(begin(k, 0), raw...))
}

func TestMalformedMessages(t *testing.T) {
	list, batch := made(t, 2)
	h := func(b []byte) string { return hex.EncodeToString(b) }
	varint := func(n int) string { return h(binary.AppendUvarint(nil, uint64(n))) }
	withLength := func(b []byte) string { return varint(len(b)) + h(b) }
	itemsHead := "00000001" + "0000000000000002" + "0000000000000003"
	other := append(bytes.Clone(list[1].Bytes()[:1+16]), bytes.Repeat([]byte{9}, 32)...) // another author
	other = append(other, list[1].Bytes()[1+16+32:]...)
	newer := bytes.Clone(list[0].Bytes())
	newer[0] = 2
	many := strings.Repeat(x32("01")+"01"+x32("02"), MaxWanted+1)
	for name, c := range map[string]struct {
		bytes []byte
		want  error
	}{
		"of no length":                            {[]byte{0, 0, 0, 0, 1}, sharefs.KindInvalid},
		"of an unknown kind":                      {body(99, "00"), sharefs.KindNotSupported},
		"of kind 0":                               {body(0, "00"), sharefs.KindNotSupported},
		"hello that is long":                      {body(KindHello, "0001000100"), sharefs.KindInvalid},
		"hello that is short":                     {body(KindHello, "000100"), sharefs.KindInvalid},
		"a length beyond all bounds":              {[]byte{0xff, 0xff, 0xff, 0xff, byte(KindItems)}, sharefs.KindInvalid},
		"a length that is a lie":                  {[]byte{0, 0x80, 0, 0, byte(KindItems), 1}, io.ErrUnexpectedEOF},
		"a skipped message beyond bounds":         {[]byte{0, 0x80, 0, 0, 200}, sharefs.KindInvalid},
		"a ring beyond bounds":                    {finish(append(begin(KindRing, 0), make([]byte, MaxRing+1)...)), sharefs.KindInvalid},
		"seen: no batch":                          {body(KindSeen, "01"), sharefs.KindInvalid},
		"offer: short":                            {body(KindOffer, x16("a1")), sharefs.KindInvalid},
		"withdraw: long":                          {body(KindWithdraw, "00"), sharefs.KindInvalid},
		"begin: short":                            {body(KindBegin, x16("a1")), sharefs.KindInvalid},
		"items: short":                            {body(KindItems, "00000001"), sharefs.KindInvalid},
		"items: backwards":                        {body(KindItems, "00000001"+"0000000000000003"+"0000000000000002"), sharefs.KindInvalid},
		"items: of an unknown kind":               {body(KindItems, itemsHead, "03"), sharefs.KindInvalid},
		"items: no record":                        {body(KindItems, itemsHead, "02", "0101"), sharefs.KindInvalid},
		"items: a record that is cut":             {body(KindItems, itemsHead, "02", varint(len(list[0].Bytes())), h(list[0].Bytes()[:50])), sharefs.KindInvalid},
		"items: a record too long":                {body(KindItems, itemsHead, "02", "ffffffff0f"), sharefs.KindInvalid},
		"items: a record of a newer format":       {body(KindItems, itemsHead, "02", withLength(newer)), sharefs.KindNotSupported},
		"items: a length that is not shortest":    {body(KindItems, itemsHead, "02", "8100", "01"), sharefs.KindInvalid},
		"items: a batch without its count":        {body(KindItems, itemsHead, "01", withLength(batch.Bytes())), sharefs.KindInvalid},
		"items: more records than there are":      {body(KindItems, itemsHead, "01", withLength(batch.Bytes()), "03", withLength(list[0].Bytes()), withLength(list[1].Bytes())), sharefs.KindInvalid},
		"items: a count beyond bounds":            {body(KindItems, itemsHead, "01", withLength(batch.Bytes()), "8120"), sharefs.KindInvalid},
		"items: records in another order":         {body(KindItems, itemsHead, "01", withLength(batch.Bytes()), "02", withLength(list[1].Bytes()), withLength(list[0].Bytes())), sharefs.KindInvalid},
		"items: a record twice":                   {body(KindItems, itemsHead, "01", withLength(batch.Bytes()), "02", withLength(list[1].Bytes()), withLength(list[1].Bytes())), sharefs.KindInvalid},
		"items: a record that is not named":       {body(KindItems, itemsHead, "01", withLength(batch.Bytes()), "01", withLength(other)), sharefs.KindInvalid},
		"ack: long":                               {body(KindAck, x16("a1"), "000000000000000100"), sharefs.KindInvalid},
		"keep: a part of an id":                   {body(KindKeep, "00000001", x32("01"), "02"), sharefs.KindInvalid},
		"kept: no number":                         {body(KindKept, "000001"), sharefs.KindInvalid},
		"unkept: a part of a refusal":             {body(KindUnkept, "00000001", x32("01"), "05", "00000000000001"), sharefs.KindInvalid},
		"unkept: no number":                       {body(KindUnkept, "000001"), sharefs.KindInvalid},
		"unkept: too many":                        {finish(append(begin(KindUnkept, 0), make([]byte, 4+41*(MaxKeep+1))...)), sharefs.KindInvalid},
		"release: a part of an id":                {body(KindRelease, "00000001", "00", x32("01"), "02"), sharefs.KindInvalid},
		"release: neither yes nor no":             {body(KindRelease, "00000001", "02", x32("01")), sharefs.KindInvalid},
		"release: too many":                       {finish(append(begin(KindRelease, 0), make([]byte, 5+32*(MaxKeep+1))...)), sharefs.KindInvalid},
		"released: no number":                     {body(KindReleased, "000001"), sharefs.KindInvalid},
		"here: a part of an id":                   {body(KindHere, x32("01"), "02"), sharefs.KindInvalid},
		"bye: nothing":                            {body(KindBye), sharefs.KindInvalid},
		"bye: a text beyond bounds":               {body(KindBye, "01", strings.Repeat("41", MaxText+1)), sharefs.KindInvalid},
		"want: nothing":                           {body(KindWant), sharefs.KindInvalid},
		"want: nothing of a version":              {body(KindWant, x32("01"), "00"), sharefs.KindInvalid},
		"want: fewer ids than said":               {body(KindWant, x32("01"), "02", x32("01")), sharefs.KindInvalid},
		"want: more ids than allowed":             {body(KindWant, x32("01"), "8108", x32("01")), sharefs.KindInvalid},
		"want: more than allowed of all together": {body(KindWant, many), sharefs.KindInvalid},
		"chunks: nothing":                         {body(KindChunks), sharefs.KindInvalid},
		"chunks: fewer bytes than said":           {body(KindChunks, "056162"), sharefs.KindInvalid},
		"chunks: a chunk beyond bounds":           {body(KindChunks, "81808001", "00"), sharefs.KindInvalid},
		"chunks: too many":                        {body(KindChunks, strings.Repeat("00", MaxWanted+1)), sharefs.KindInvalid},
	} {
		if m, err := NewReader(bytes.NewReader(c.bytes)).Next(); !errors.Is(err, c.want) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
}

// What tells something of a share leaves in an envelope for the peer alone.
func TestOnlyEnvelopesAreSent(t *testing.T) {
	var b bytes.Buffer
	w := NewWriter(&b, peer)
	envelope := func(id sharefs.PeerID, body []byte) trust.Envelope {
		e, err := permit(t, id).Envelope(body)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	good := OfferMessage(Offer{})
	for name, e := range map[string]trust.Envelope{
		"nothing":                       {},
		"for somebody else":             envelope(sharefs.PeerID{2}, good),
		"no message":                    envelope(peer, []byte("content")),
		"too short":                     envelope(peer, good[:4]),
		"two messages":                  envelope(peer, append(bytes.Clone(good), good...)),
		"a message that needs no grant": envelope(peer, finish(begin(KindStop, 0))),
	} {
		if err := w.Send(e); !errors.Is(err, sharefs.KindPermission) || b.Len() > 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := w.Send(envelope(peer, good)); err != nil || !bytes.Equal(b.Bytes(), good) {
		t.Error(err)
	}
	if _, err := (trust.Policy{}).Grant(trust.Rule{Peer: peer, Level: trust.Store}).Whole(peer); err == nil {
		t.Error("a permission for who stores sealed objects")
	}
	// No method of a writer takes bytes, and what the others take has no room for content.
	typ := reflect.TypeFor[*Writer]()
	may := map[string]reflect.Type{"Send": reflect.TypeFor[trust.Envelope](), "Hello": reflect.TypeFor[Hello](), "Begin": reflect.TypeFor[Begin](), "Ack": reflect.TypeFor[Ack](),
		"Bye": reflect.TypeFor[Bye](), "Want": reflect.TypeFor[Want](), "Withdraw": nil, "Stop": nil}
	for i := range typ.NumMethod() {
		m := typ.Method(i)
		want, ok := may[m.Name]
		if !ok || want == nil && m.Type.NumIn() != 1 || want != nil && (m.Type.NumIn() != 2 || m.Type.In(1) != want) {
			t.Errorf("%s writes what nobody permits", m.Name)
		}
	}
}

// A text by a peer is fit for a terminal, and one that is too long is cut between letters.
func TestTexts(t *testing.T) {
	long := strings.Repeat("ä", MaxText)
	b := sent(t, nil, func(w *Writer) error { return w.Bye(Bye{1, long}) })
	if m, err := NewReader(bytes.NewReader(b)).Next(); err != nil || m.(*Bye).Text != long[:MaxText] {
		t.Errorf("%+v, %v", m, err)
	}
	b = sent(t, nil, func(w *Writer) error { return w.Bye(Bye{1, "\x1b[31m\u202e\n"}) })
	if m, err := NewReader(bytes.NewReader(b)).Next(); err != nil || m.(*Bye).Text != "?[31m??" {
		t.Errorf("%+v, %v", m, err)
	}
}

// A length that is said makes no room: it is made for what has come.
func TestLengthsCostNothing(t *testing.T) {
	head := []byte{0, 0x7f, 0xff, 0xff, byte(KindItems), 1, 2, 3}
	n := testing.AllocsPerRun(10, func() {
		if _, err := NewReader(bytes.NewReader(head)).Next(); err != io.ErrUnexpectedEOF {
			t.Fatal(err)
		}
	})
	got, err := read(bytes.NewReader(make([]byte, 100)), 8<<20)
	if err == nil || got != nil || n > 8 {
		t.Errorf("%d bytes, %v, %v allocations", len(got), err, n)
	}
}

// What is read, written again, is the same.
func FuzzNext(f *testing.F) {
	for _, c := range cases(f) {
		f.Add(c.bytes)
	}
	f.Add([]byte{0, 0, 0, 3, 200, 1, 2})
	f.Add(body(KindWant, x32("01"), "8108", x32("01")))
	f.Add(body(KindChunks, "056162"))
	plain := permit(f, peer)
	f.Fuzz(func(t *testing.T, data []byte) {
		r := NewReader(bytes.NewReader(data))
		for {
			m, err := r.Next()
			if err != nil {
				return
			}
			again := encode(t, m, plain)
			n, err := NewReader(bytes.NewReader(again)).Next()
			if err != nil || !reflect.DeepEqual(n, m) {
				t.Fatalf("%+v became %+v, %v", m, n, err)
			}
		}
	})
}

// encode writes a message that was read.
func encode(t testing.TB, m Message, plain trust.Plain) []byte {
	var message []byte
	var fn func(*Writer) error
	switch m := m.(type) {
	case *Hello:
		fn = func(w *Writer) error { return w.Hello(*m) }
	case *Ring:
		message = RingMessage(m.Bytes)
	case *Seen:
		message = SeenMessage(m.Batch)
	case *Offer:
		message = OfferMessage(*m)
	case *Withdraw:
		fn = (*Writer).Withdraw
	case *Begin:
		fn = func(w *Writer) error { return w.Begin(*m) }
	case *Items:
		w := NewItems(m.Run, m.After)
		for _, it := range m.Items {
			if it.Batch != nil {
				w.Batch(it.Batch, it.Records)
			} else {
				w.Record(it.Records[0])
			}
		}
		message = w.Message(m.UpTo)
	case *Ack:
		fn = func(w *Writer) error { return w.Ack(*m) }
	case *Stop:
		fn = (*Writer).Stop
	case *Here:
		message = HereMessage(m.Versions)
	case *Keep:
		message = KeepMessage(*m)
	case *Kept:
		message = KeptMessage(*m)
	case *Unkept:
		message = UnkeptMessage(*m)
	case *Release:
		message = ReleaseMessage(*m)
	case *Released:
		message = ReleasedMessage(*m)
	case *Bye:
		fn = func(w *Writer) error { return w.Bye(*m) }
		if len(m.Text) > MaxText { // what is not printable grows
			m.Text = strings.ToValidUTF8(m.Text[:MaxText], "")
		}
	case *Want:
		fn = func(w *Writer) error { return w.Want(*m) }
	case *Chunks:
		w := NewChunks()
		for _, d := range m.Data {
			w.Add(d)
		}
		message = w.Message()
	}
	return sent(t, message, fn)
}
