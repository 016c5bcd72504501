// Package vault keeps sealed objects of one host on another: a peer of the level store is a bucket.
//
//	wire.go     what is said over a stream, and its bounds
//	bucket.go   the giver's end: an implementation of [tier.Bucket] over the sessions with a peer
//	check.go    the giver asks for proofs that what it gave is there
//	server.go   the keeper's end: streams of givers, and of who recovers
//	store.go    what a keeper has of all givers; quotas
//	object.go   one object on the disk
//	scrub.go    the keeper reads all of it back, slowly
//
// # Who may what
//
// A giver sends nothing but what a [trust.Cipher] made an envelope of, so a keeper has no key, no name of a file and no content: it learns sizes, times, and the names of packs, which are random. A keeper
// keeps nothing for a peer that its user has given no quota. Only the giver, known by its session, may put and delete. What it gave can be read by it, and by whoever proves in the
// handshake of a session that he has the fetcher's key: the giver names its public half, and the secret follows from what stands on a recovery sheet. So whoever has the
// sheet can fetch, on a machine that no peer has ever seen, and change nothing.
//
// # On the disk of the keeper
//
//	vaults/PEER/giver      JSON: the fetcher's key
//	vaults/PEER/HH/NAME    an object; NAME is the SHA-256 of its key in hexadecimal, HH its first two digits: no key is ever a path
//	vaults/PEER/new/N      one that is being received
//	vaults/PEER/scrub      JSON: how far it was read back, what was damaged
//
// An object is its bytes, its key, and a footer of 80 bytes: integers are big endian.
//
//	 0  magic "sharefsV"                8
//	 8  format, 1                       2
//	10  length of the key               2
//	12  reserved, 0                     4
//	16  length of the object            8
//	24  when it was put, ns since 1970  8
//	32  SHA-256 of the object          32
//	64  reserved, 0                    12
//	76  CRC-32C of key and 0–75         4
//
// It is received into new/, synced, and gets its name by a rename that is synced before the giver hears of it: so each is there whole or not at all, also after the loss of power.
package vault
