package esp

import (
	"errors"
	"fmt"
	"net"
	"syscall"
)

// KeyError reports that the peer at an address has another key than the one that was dialed. It unwraps to
// ECONNREFUSED.
type KeyError struct {
	Expected PublicKey
	Seen     PublicKey
}

func (e *KeyError) Error() string {
	return fmt.Sprintf("esp: wrong peer: expected key %v, seen key %v", e.Expected, e.Seen)
}

func (e *KeyError) Unwrap() error { return syscall.ECONNREFUSED }

// CloseCode says on the wire why a session or a stream ended.
type CloseCode uint64

// The codes of CLOSE, RESET and STOP_SENDING.
const (
	CodeNone      CloseCode = 0 // closed in the ordinary way
	CodeRefused   CloseCode = 1 // nobody listens, or the peer's key is not welcome
	CodeLimit     CloseCode = 2 // a limit on streams, memory or sessions was reached
	CodeProtocol  CloseCode = 3 // the peer broke the protocol
	CodeFlow      CloseCode = 4 // the peer sent more than it had credit for
	CodeFrame     CloseCode = 5 // a frame could not be read, or a critical one was unknown
	CodeRecord    CloseCode = 6 // a record could not be decoded (corrupt, oversize, a decompression bomb)
	CodeTimeout   CloseCode = 7 // the peer was not heard for too long
	CodeCancelled CloseCode = 8 // the program gave up on this stream
	CodeKeys      CloseCode = 9 // the packet limit of the keys was reached
)

var codeTexts = [...]string{"closed", "refused", "limit reached", "protocol violation", "flow control violation",
	"malformed frame", "malformed record", "timed out", "cancelled", "keys used up"}

func (c CloseCode) String() string {
	if c < CloseCode(len(codeTexts)) {
		return codeTexts[c]
	}
	return fmt.Sprintf("code %d", uint64(c))
}

// SessionError is why a session ended. It unwraps to the errno that net gives in the like case (ECONNRESET,
// ECONNREFUSED, ETIMEDOUT, ECONNABORTED) or to net.ErrClosed after a local Close.
type SessionError struct {
	Code   CloseCode
	Remote bool   // the peer said so
	Reason string // free text, from the peer when Remote
	err    error
}

func (e *SessionError) Error() string {
	who := "session"
	if e.Remote {
		who = "session (by the peer)"
	}
	s := who + ": " + e.Code.String()
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	return s
}

func (e *SessionError) Unwrap() error { return e.err }

// Timeout reports whether silence ended the session; net.Error and net.OpError ask for it.
func (e *SessionError) Timeout() bool { return e.Code == CodeTimeout }

// Temporary is always false: a session that ended does not come back.
func (e *SessionError) Temporary() bool { return false }

// errno picks what the programs of this host see.
func newSessionError(code CloseCode, remote bool, reason string) *SessionError {
	e := &SessionError{Code: code, Remote: remote, Reason: reason}
	switch {
	case code == CodeTimeout:
		e.err = syscall.ETIMEDOUT
	case code == CodeRefused:
		e.err = syscall.ECONNREFUSED
	case remote:
		e.err = syscall.ECONNRESET
	case code == CodeNone:
		e.err = net.ErrClosed
	default:
		e.err = syscall.ECONNABORTED
	}
	return e
}

// Errors that the callers of Dial and New see wrapped in a net.OpError.
var (
	// ErrNoKey reports an address without a key when Config.Authorize is not set: nobody would check who answers.
	ErrNoKey = errors.New("esp: the address names no key and Config.Authorize is nil")
	// ErrNoAnswer reports that no reply came. Over the paths that carry ESP this is also how a host with another key
	// answers (it stays silent to those who do not know its key). It unwraps to ETIMEDOUT.
	ErrNoAnswer error = &noAnswer{}
	// ErrVersion reports a peer that speaks no version of the protocol that this package speaks.
	ErrVersion = errors.New("esp: the peer speaks no common version of the protocol")
	// errNoPath reports that every path of a session is gone.
	errNoPath = errors.New("esp: no path to the peer")
)

type noAnswer struct{}

func (*noAnswer) Error() string   { return "esp: no answer (host down, blocked, or it has another key)" }
func (*noAnswer) Unwrap() error   { return syscall.ETIMEDOUT }
func (*noAnswer) Timeout() bool   { return true }
func (*noAnswer) Temporary() bool { return true }

// RefusedError is the answer of a peer that knows us and does not want us: Config.Authorize there refused the key. It
// unwraps to ECONNREFUSED.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string {
	if e.Reason == "" {
		return "esp: refused by the peer"
	}
	return "esp: refused by the peer: " + e.Reason
}

func (e *RefusedError) Unwrap() error { return syscall.ECONNREFUSED }
