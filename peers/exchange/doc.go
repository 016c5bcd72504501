// Package exchange brings two logs of records together over a session, and fetches the content that the records tell of.
//
//	exchange.go  what it is given, and who wakes it
//	peer.go      one session: its control stream
//	push.go      what goes to the peer over it: keys, items of the log, acknowledgements
//	take.go      what comes from it
//	fetch.go     chunks that are wanted
//	schedule.go  which peer is asked for which of them
//	source.go    the streams over which a peer is asked
//	serve.go     the streams over which peers ask
//	scope.go     what belongs to a version
//	blame.go     who is left out, and how long
//	over.go      the streams of a hub
//
// The messages are those of package wire, and docs/peers-wire.md.
//
// # Logs
//
// Each host has a log: what it authored or took, in the order of arrival. A peer that may have all of it is offered the log, by name, and asks for what arrived after the
// number up to which it has it on disk. One that may have a part is offered another log, of its own, in which nothing else stands: neither its numbers nor any other byte that is sent
// change with what happens outside of that part. So whoever takes keeps the cursor, on the same disk as what it stands for: a state that was lost or restored asks again for what
// it lacks. A log that begins anew has another name, and is taken from its beginning. Items come as the log grows: whoever makes it grow says so ([Exchange.Grown]), and nobody
// asks or waits for a time to pass.
//
// # The beginning
//
// Whoever dialed a session opens the control stream behind the hello of the session, and both ends say at once what they grant, so that the first items are there as soon as a question and
// its answer can be. A session that is not to be the one with the peer after all ends for the exchange when that one is known.
//
// # Grants
//
// What goes out is decided by the rules of the moment, asked for each message, and is written in an envelope of package trust, without which nothing of a share can be
// written. What was made ready under other rules about a part of the share than those of the moment is not sent. A grant that is raised begins the log; one that is lowered ends it, with all streams over which content is served. What was handed to the transport before has left.
//
// # Content
//
// A chunk is asked for as a part of a version, and whoever serves it makes sure that the peer may have that version and that the chunk is part of it. What is not is answered
// as what does not exist. Several peers are asked at once, the one first that will have answered first; one that lacks a chunk is passed over, one that sends a wrong one is asked for
// nothing more for a while, which doubles, and reported by name.
//
// A peer need not be fast, but bytes have to come. Where none has for [Limits].Stall, or somebody has waited for a chunk that long, others are asked for it too. One that has been silent
// for [Limits].Silence counts as one that has nothing: whoever waits is told so at once, until it answers. Its streams stay open meanwhile, for what it answers late is an answer, and
// says that it can be asked again.
package exchange
