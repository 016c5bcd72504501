// Package record holds what hosts tell each other about files: records, each authored by one host and signed by it, and batches, which string the
// records of a host together in the order in which it authored them. It does no I/O and reads no clock.
//
// Each value has one encoding: what decodes encodes to the same bytes, and whatever else there is is refused, by name. So the id of a record, the hash of what
// was signed, names its meaning, and a signature can be checked by whoever received it from whomever.
//
// Integers are big endian. varint is unsigned LEB128 in its shortest form, as encoding/binary's Uvarint. List means a varint count, then
// the elements; ids in a list rise strictly.
//
// # Record
//
//	1   format, 1
//	16  share
//	32  author, an Ed25519 public key
//	8   hlc, not zero
//	1   kind of the body: 1 place, 2 version, 3 attr, 4 cut, 5 told
//	…   body
//	64  signature over "sharefs record 1\n" ‖ id
//
// The id is the SHA-256 of "sharefs record 1\n" and all before the signature. A record has no number in its author's chain, so that what a peer sees of
// a scope does not change with what happens outside of it. For the same reason hlc is the later of the time at the author and the first after what the record
// replaces: no counter is shared between files.
//
// # Bodies
//
//	place    16 file, 8 link, 1 type (1 directory, 2 regular file, 3 symlink), 16 parent,
//	         1 length of the name and the name; of a removal (the parent is Nowhere): list of ids that its author had seen
//	version  16 file, list of parents (ids), 8 mtime, 1 content:
//	           1  8 size, 1 level, list of spans: varint length·2 + 1 of a hole; or varint length·2, 32 id;
//	              then, if any of them is no hole, 16 id of the share key that names chunks and nodes
//	           2  varint length and the target of a symlink
//	attr     16 file, 2 mode, 1 whether mtime follows, (8 mtime), list of xattrs: 1 length and the name, varint length and the value
//	         (the mtime is that of a regular file whose live version is earlier than these attributes, in the order of all records: somebody set it behind that.
//	         Without one, and where the version is later, the mtime of the version counts; of other types it means nothing)
//	cut      32 author, 8 incarnation, 8 number, 8 epoch
//	told     a place that is no removal, a version or attributes by another author, earlier than this record, without its format and signature: from its share to the end of its body
//
// # Batch
//
//	1   format, 1
//	16  share
//	32  author
//	8   incarnation
//	8   number, from 1
//	32  hash of the batch before; zeros in the first
//	8   hlc, not zero
//	…   varint count (1 to 4096) and ids of the records, 32 each, in the order of authoring, each once
//	64  signature over "sharefs batch 1\n" ‖ hash
//
// The hash is the SHA-256 of "sharefs batch 1\n" and all before the signature. A peer that may see all of a share receives batches and checks one
// signature for thousands of records; one that may see a part receives records alone.
//
// # Chains
//
// The batches of one author and incarnation form a [Chain]. Two of the same number that differ are equivocation: both are kept as evidence, and nothing after
// them counts. An author whose state was lost or restored learns so from a peer that has more of its chain than it has itself, and begins a new
// incarnation ([Writer.Saw]).
package record
