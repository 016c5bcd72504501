package sharefs

// Progress is how far a long task has come. It is told of at least once a second, and for each stage at its begin.
type Progress struct {
	Stage string `json:"stage"` // what is being done, in a few words: "mark", "read packs"
	Done  uint64 `json:"done"`
	Total uint64 `json:"total"` // 0: not known
	Unit  string `json:"unit"`  // of both: "bytes", "files", "rows"
}
