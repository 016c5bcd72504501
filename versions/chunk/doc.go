// Package chunk cuts content where the content says so, and names the pieces.
//
// Cutting is FastCDC (Xia et al., "The Design of Fast Content-Defined Chunking for Data Deduplication Based Storage
// Systems", IEEE TPDS 31(9), 2020): a gear hash rolls over the bytes, a chunk ends where the hash has zeros under a mask,
// and the mask is stricter before the average length than after it ("normalized chunking", level 2). The roll takes two
// bytes a step (section 3.7 of the paper), which cuts at exactly the places of the plain one-byte roll.
//
// The gear table is derived from a key, so that the lengths of chunks, which a holder of sealed packs sees, do not tell
// which known file was cut. Names are BLAKE3 in its keyed mode: equal chunks meet within a share, and nobody outside it
// can test for a known one.
//
// A [Chunker] streams: its memory is one buffer, and the pieces it returns lie in it. Holes of sparse files are asked
// from the file (SEEK_DATA) and cost nothing; a chunk that is all zero becomes a hole as well, so a file's pieces do not
// depend on whether its zeros were written.
//
// A [Gear] may be shared by goroutines; a [Chunker] and a [Hasher] belong to one.
package chunk
