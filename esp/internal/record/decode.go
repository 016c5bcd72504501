package record

import "io"

// Decoder turns the bytes of one stream back into what was written. It is not safe for concurrent use.
//
// It holds a buffer of 256 KiB only while a compressed record is incomplete or waits to be read.
type Decoder struct {
	codec *Codec
	err   error

	head  [MaxHeader]byte // the first bytes of a header that was cut
	nhead int
	h     Header
	left  int     // bytes of the body still to come; 0 between records
	body  *[]byte // what has come of a compressed body, while it is incomplete
	plain *[]byte // a decoded record that did not fit where it was wanted
	read  int     // how much of plain was handed out
}

// NewDecoder returns a decoder for the bytes of one stream from its beginning.
func (c *Codec) NewDecoder() *Decoder { return &Decoder{codec: c} }

// Decode consumes bytes of the stream from in and puts plain bytes into out, as much as fits. Both counts are zero when
// it needs more input or out is full (or empty). An error is final and always an [*Error].
//
// A raw body goes straight from in to out, as far as it has come. A compressed one goes straight to out where out has
// room for all of it, else through a buffer of the decoder's own.
func (d *Decoder) Decode(out, in []byte) (nOut, nIn int, err error) {
	if d.err != nil {
		return 0, 0, d.err
	}
	for {
		o, i, more := d.step(out[nOut:], in[nIn:])
		nOut += o
		nIn += i
		if !more {
			break
		}
	}
	if nOut > 0 || nIn > 0 {
		return nOut, nIn, nil // an error is told by the next call, after the bytes before it
	}
	return 0, 0, d.err
}

// step does one piece of work; more is false when there is nothing left to do with what it has.
func (d *Decoder) step(out, in []byte) (nOut, nIn int, more bool) {
	switch {
	case d.err != nil:
		return 0, 0, false
	case d.plain != nil:
		n := copy(out, (*d.plain)[d.read:])
		d.read += n
		if d.read == len(*d.plain) {
			d.codec.putBuf(d.plain)
			d.plain, d.read = nil, 0
		}
		return n, 0, n > 0
	case d.left == 0:
		n := d.header(in)
		return 0, n, n > 0 && d.err == nil
	case d.h.Codec == codecRaw:
		n := copy(out, in[:min(len(in), d.left)])
		d.left -= n
		return n, n, n > 0
	}
	return d.compressed(out, in)
}

// header takes bytes of a header from in; it is known when left is not zero any more.
func (d *Decoder) header(in []byte) (nIn int) {
	had := d.nhead
	b := in
	if had > 0 { // join what was cut
		d.nhead += copy(d.head[had:], in)
		b = d.head[:d.nhead]
	}
	h, n, err := ParseHeader(b)
	switch {
	case err != nil:
		d.err = err
		d.release()
		return 0
	case n == 0: // b is shorter than a header, so head has room for it
		if had == 0 {
			d.nhead = copy(d.head[:], b)
		}
		return d.nhead - had
	}
	d.h, d.left, d.nhead = h, h.EncLen, 0
	return n - had
}

func (d *Decoder) compressed(out, in []byte) (nOut, nIn int, more bool) {
	if len(in) == 0 {
		return 0, 0, false
	}
	nIn = min(len(in), d.left)
	if nIn < d.left || d.body != nil {
		if d.body == nil {
			d.body = d.codec.getBuf()
		}
		*d.body = append(*d.body, in[:nIn]...)
		d.left -= nIn
		if d.left > 0 {
			return 0, nIn, false
		}
		in = *d.body
	} else {
		in = in[:nIn]
		d.left = 0
	}
	if len(out) >= d.h.RawLen {
		d.err = d.codec.decompress(out[:d.h.RawLen], in, d.h)
		nOut = d.h.RawLen
	} else {
		d.plain, d.read = d.codec.getBuf(), 0
		*d.plain = (*d.plain)[:d.h.RawLen]
		d.err = d.codec.decompress(*d.plain, in, d.h)
	}
	if d.err != nil {
		d.release()
		return 0, nIn, false
	}
	if d.body != nil {
		d.codec.putBuf(d.body)
		d.body = nil
	}
	return nOut, nIn, true
}

// Buffered returns how many plain bytes wait in the decoder for room in a reader's buffer.
func (d *Decoder) Buffered() int {
	if d.plain == nil {
		return 0
	}
	return len(*d.plain) - d.read
}

// End is to be called when the stream has ended and Decode has nothing more to give. It returns nil between two
// records, where the end is clean, the error of Decode where it failed, and [io.ErrUnexpectedEOF] within a record.
func (d *Decoder) End() error {
	switch {
	case d.err != nil:
		return d.err
	case d.left > 0 || d.nhead > 0 || d.plain != nil:
		return io.ErrUnexpectedEOF
	}
	return nil
}

// Close gives back the decoder's buffers; it may be called at any time and more than once. Decode fails afterwards.
func (d *Decoder) Close() {
	if d.err == nil {
		d.err = io.ErrClosedPipe
	}
	d.release()
}

func (d *Decoder) release() {
	for _, b := range []**[]byte{&d.body, &d.plain} {
		if *b != nil {
			d.codec.putBuf(*b)
			*b = nil
		}
	}
}
