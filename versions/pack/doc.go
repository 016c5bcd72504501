// Package pack keeps chunks in packs: append-only files of sealed records.
//
// A pack is a header, records, an index record and a footer. All integers are big endian, all checksums CRC-32C. While it
// grows it lies in open/ID, without index and footer; sealed it lies in HH/ID, where ID is 32 hexadecimal digits and HH
// the first two.
//
//	header, 64 bytes                      record header, 64 bytes
//	  0  magic "sharefsP"    8              0  magic "Rc"                       2
//	  8  format, 1           2              2  type (see Type)                  1
//	 10  reserved, 0         2              3  codec (0 stored, 1 zstd)         1
//	 12  epoch of the key    4              4  length of the sealed body        4
//	 16  id of the pack     16              8  length of the plain body         4
//	 32  time of creation    8             12  nonce                           12
//	 40  id of the key      16             24  id of the chunk                 32
//	 56  reserved, 0         4             56  CRC of the sealed body           4
//	 60  CRC of 0–59         4             60  CRC of 0–59                      4
//	footer, 32 bytes                      followed by the sealed body
//	  0  magic "sharefsE"    8
//	  8  offset of the index 8            index body: 48 bytes for each record before it
//	 16  records before it   4              0  id                              32
//	 20  length of the index 4             32  offset of the record header      4
//	 24  reserved, 0         4             36  length of the sealed body        4
//	 28  CRC of 0–27         4             40  length of the plain body         4
//	                                       44  type, codec, reserved            4
//
// The id of the key is zero in packs from before keys had ids; they are of the store's first key. One pack of an epoch grows at a time.
//
// A body is compressed (zstd, where that saves a sixteenth) and then sealed with AES-256-GCM: the 16-byte tag is at its end,
// the record header up to the CRCs is bound as additional data. The key is derived from the share key, the epoch and the
// pack's id with BLAKE3, so a record moved to another pack, share or epoch does not open. A nonce is 8 random bytes, drawn
// each time a pack is opened to be appended to, and a counter; so no nonce comes twice under one key, even where a power
// loss took records and others were written in their place.
//
// # Durability
//
// [Store.Append] puts a record behind the others, [Store.Sync] makes all of them survive power loss. After either has
// failed, every location handed out since the last Sync that returned nil is void: the pack is given up at its last
// synced length and the next Append begins another. (fsync(2) that failed once may say nil the next time though the
// data is lost, so a pack is never used further after a failure.)
//
// A pack that a crash left open is cut at the first record that is not whole when it is next appended to.
//
// # Garbage
//
// A record that nothing leads to any more takes room until its pack is removed ([Store.Remove]), its live neighbours are copied to another one
// before ([Store.Copy]), or its blocks are given back to the disk in place ([Store.Punch]). A punched record is still in the index of its
// pack, but its header is zero. What leads to records is for others to know; a record is never taken up again once nothing leads to it.
package pack
