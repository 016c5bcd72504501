// Package trust says what a peer receives of this host's files and what becomes of the files that it writes: by peer and by path. It is local to
// this host and never replicated, does no I/O and keeps no state beside the rules.
//
//   - A [Level] is one row of the table below; [Level.Rights] is that row as data.
//   - A [Rule] grants a level to a peer for what a [Pattern] names. A [Policy] is all rules and ceilings of this host, a value that never changes:
//     changing a rule makes another one, so a decision is always made by one whole set of rules.
//   - [Policy.Level] decides, [Policy.Explain] gives the rules in their order with the one that won.
//   - [Policy.Cipher] and [Policy.Plain] give permissions, without which no [Envelope] can be made: the only thing that the send layer writes.
//
// # The table
//
//	level    receives                                     what it authors does here
//	blocked  nothing, the connection ends                 dropped
//	paired   this host's name                             nothing
//	store    sealed packs and heads, never a key          returns what we gave it, checked by hash and signature
//	read     versions and content inside the scope        dropped and counted; it may relay what others signed
//	propose  as read                                      seen in quarantine only, until somebody accepts it
//	write    as read                                      live if it descends from the head, else a conflict; bulk removals are held
//	manage   as read, and policy                          meta files are honoured too; it may suggest trust, never set its own
//
// # Which rule wins
//
// Patterns begin at the root of the share. A rule speaks of a path if its pattern matches the path or a directory above it; the highest of those
// that it matches is the place that the rule names. Of the rules that speak of a path, the one that names the deepest place wins. Of several
// that name the same place: the one with more names written out (without wildcard), then the one with fewer "**", then the
// one that comes first in the order of bytes. So "a/b" wins over "a/**" and "a", "a/b/c" over "a/b", and "**/*.key" over all of them for the file
// a/b/c.key, for it speaks of that file alone.
//
// What wins is then capped by the peer's ceiling. A peer of whom no rule speaks at a path is [Paired] there, one without any rule is
// [Blocked].
package trust
