// Package wire has the messages by which hosts exchange records and chunks, over streams of a session. docs/peers-wire.md has them byte by byte.
//
//	4  length of all that follows
//	1  kind
//	…  body
//
// Integers are big endian, varint is unsigned LEB128 in its shortest form.
//
//	control stream                                            who sends it
//	1   hello     2 lowest, 2 highest version                 both, first
//	2   ring      the share keys                              who grants read or more
//	3   seen      the last batch of the receiver's own chain  "
//	4   offer     16 log, 8 last number                       "
//	5   withdraw  nothing                                     "
//	6   begin     4 run, 16 log, 8 number                     who takes: send what arrived after that
//	7   items     4 run, 8 after, 8 up to, items              who grants
//	8   ack       16 log, 8 number                            who takes: it is on disk
//	9   stop      nothing                                     who takes
//	10  here      versions, 32 each                           who grants: content that it lacked before
//	11  bye       1 code, text                                both, last
//	12  keep      4 number, versions                          who grants: asks to promise to keep them
//	13  kept      4 number, versions                          who grants: answers keep
//	14  release   4 number, 1 instead, versions               who grants, from version 2 on: asks who relies on them no more
//	15  released  4 number, versions                          who grants, from version 2 on: answers release
//	128 unkept    4 number, refusals                          who grants: why it does not keep some, before the kept of that number
//	chunk stream
//	16  want      versions with ids                           who opened it
//	17  chunks    one answer for each id, in order            who serves it
//
// A message of an unknown kind ends the stream, but one from 128 on is skipped: that is how later versions add what need not be understood.
//
// What tells something of a share is written in an envelope of package trust alone ([Writer.Send]); the other messages have no room for it.
package wire

import "sharefs/peers/record"

// Versions of the protocol that this package speaks. From VersionRelease on promises can be given back.
const (
	Lowest         = 1
	VersionRelease = 2
	Version        = 2 // the highest
)

// Kind tells messages apart.
type Kind uint8

// The kinds.
const (
	KindHello    Kind = 1
	KindRing     Kind = 2
	KindSeen     Kind = 3
	KindOffer    Kind = 4
	KindWithdraw Kind = 5
	KindBegin    Kind = 6
	KindItems    Kind = 7
	KindAck      Kind = 8
	KindStop     Kind = 9
	KindHere     Kind = 10
	KindBye      Kind = 11
	KindKeep     Kind = 12
	KindKept     Kind = 13
	KindRelease  Kind = 14
	KindReleased Kind = 15
	KindWant     Kind = 16
	KindChunks   Kind = 17
	KindUnkept   Kind = 128
	kindSkipped  Kind = 128 // those from here on that are not known
)

// Bounds of what messages hold.
const (
	MaxRing   = 64 << 10 // bytes
	MaxItems  = 8 << 20  // bytes of the body; a batch with more of records than MaxBatchBytes is sent in parts
	MaxHere   = 4096     // versions
	MaxKeep   = 1024     // versions
	MaxWanted = 1024     // ids
	MaxChunk  = 1 << 20  // bytes
	MaxChunks = MaxChunk + 512<<10
	MaxText   = 200 // bytes of the text of a bye

	MaxBatchBytes = 4 << 20 // of the records of a batch in one message

	maxBatch = 256 << 10 // bytes of a batch without its records
	maxSkip  = 1 << 20
	headSize = 4 + 1

	refusalSize = 32 + 1 + 8
)

// LogID names a log of records: 16 random bytes, made with it.
type LogID [16]byte

// Item is what stands in a log: a batch with its records, or one record without a batch.
type Item struct {
	Batch *record.Batch // nil: a single record
	// Records are those of the batch in its order, or some of them where a batch is too large for one message and the others were sent before it.
	Records []*record.Record
	Next    uint64 // number of arrival to go on from after it; not sent
}

// Message is one of the types below, as a pointer.
type Message interface{ kind() Kind }

// Hello begins a control stream: the versions of the protocol that the sender speaks.
type Hello struct{ Lowest, Highest uint16 }

// Ring has share keys, in whatever encoding.
type Ring struct{ Bytes []byte }

// Seen shows the receiver the last batch of its own chain that the sender has.
type Seen struct{ Batch *record.Batch }

// Offer says that the sender's log may be taken.
type Offer struct {
	Log  LogID
	Last uint64 // number of arrival
}

// Withdraw takes the offer back.
type Withdraw struct{}

// Begin asks for what arrived in the log after a number. Items of earlier runs count no more.
type Begin struct {
	Run   uint32
	Log   LogID
	After uint64
}

// Items are those that arrived after a number, up to another one.
type Items struct {
	Run         uint32
	After, UpTo uint64
	Items       []Item
}

// Ack says that all up to a number is on the sender's disk.
type Ack struct {
	Log  LogID
	UpTo uint64
}

// Stop says that the sender takes nothing any more.
type Stop struct{}

// Keep asks to promise to keep the content of versions, and Kept answers the one of that number with those for which it does.
type Keep struct {
	Number   uint32
	Versions []record.ID
}

// Kept is the answer to Keep.
type Kept struct {
	Number   uint32
	Versions []record.ID
}

// Unkept says why some of the versions that the Keep of that number asked for are not promised. The Kept follows.
type Unkept struct {
	Number uint32
	Why    []Refusal
}

// Refusal says why a version is not promised.
type Refusal struct {
	Version record.ID
	Reason  Reason
	Missing uint64 // with RefusedBudget: bytes of room that are missing at most, for something may still go there
}

// Reason is why a host does not promise to keep a content. Later ones than these are as RefusedOther.
type Reason uint8

// The reasons.
const (
	RefusedOther   Reason = 0
	RefusedVersion Reason = 1 // its tree does not show that version
	RefusedLevel   Reason = 2 // nor can it, for what the asking host writes does not count there
	RefusedMissing Reason = 3 // not all of it is there: it relies on others for it
	RefusedCache   Reason = 4 // it has a budget, and has not pinned the file
	RefusedBudget  Reason = 5 // its budget has no room for the copy that the promise takes beside the file
	RefusedDisk    Reason = 6 // nor has its disk
	RefusedLetting Reason = 7 // it is about to free the content, too
	RefusedBusy    Reason = 8 // the file is being changed there: it can be asked again
)

// Release asks which of the versions that the sender promised to keep the receiver does not rely on any more, and Released answers the one of that number with those.
type Release struct {
	Number   uint32
	Instead  bool // the receiver is to ask others to promise to keep the rest
	Versions []record.ID
}

// Released is the answer to Release.
type Released struct {
	Number   uint32
	Versions []record.ID
}

// Here says that the sender has the content of versions that it did not have when it was asked.
type Here struct{ Versions []record.ID }

// Bye ends the exchange.
type Bye struct {
	Code Code
	Text string // for people; not to be trusted
}

// Code says why an exchange ends.
type Code uint8

// The codes.
const (
	ByeDone       Code = 0 // nothing is wrong
	ByeVersion    Code = 1 // no version of the protocol in common
	ByeProtocol   Code = 2 // a message that cannot be
	ByePermission Code = 3 // what was asked for is not granted (any more)
	ByeLimit      Code = 4 // too much at once
	ByeWrong      Code = 5 // what was sent is not what it was said to be
)

// Want asks for chunks and nodes of manifests, each as a part of a version.
type Want struct{ Groups []Group }

// Group is what is asked for of one version.
type Group struct {
	Version record.ID
	IDs     []ID
}

// ID is a chunk or node.
type ID = [32]byte

// Chunks answers: what was asked for, in that order; nil: it is not here.
type Chunks struct{ Data [][]byte }

func (*Hello) kind() Kind    { return KindHello }
func (*Ring) kind() Kind     { return KindRing }
func (*Seen) kind() Kind     { return KindSeen }
func (*Offer) kind() Kind    { return KindOffer }
func (*Withdraw) kind() Kind { return KindWithdraw }
func (*Begin) kind() Kind    { return KindBegin }
func (*Items) kind() Kind    { return KindItems }
func (*Ack) kind() Kind      { return KindAck }
func (*Stop) kind() Kind     { return KindStop }
func (*Here) kind() Kind     { return KindHere }
func (*Bye) kind() Kind      { return KindBye }
func (*Keep) kind() Kind     { return KindKeep }
func (*Kept) kind() Kind     { return KindKept }
func (*Unkept) kind() Kind   { return KindUnkept }
func (*Release) kind() Kind  { return KindRelease }
func (*Released) kind() Kind { return KindReleased }
func (*Want) kind() Kind     { return KindWant }
func (*Chunks) kind() Kind   { return KindChunks }

// most returns how long the body of a message may be.
func most(k Kind) int {
	switch k {
	case KindHello:
		return 4
	case KindRing:
		return MaxRing
	case KindSeen:
		return maxBatch
	case KindOffer, KindAck:
		return 24
	case KindWithdraw, KindStop:
		return 0
	case KindBegin:
		return 28
	case KindItems:
		return MaxItems
	case KindHere:
		return 32 * MaxHere
	case KindKeep, KindKept, KindReleased:
		return 4 + 32*MaxKeep
	case KindUnkept:
		return 4 + refusalSize*MaxKeep
	case KindRelease:
		return 5 + 32*MaxKeep
	case KindBye:
		return 1 + MaxText
	case KindWant:
		return 67 * MaxWanted // each id may have a version of its own
	case KindChunks:
		return MaxChunks
	}
	if k >= kindSkipped {
		return maxSkip
	}
	return -1
}
