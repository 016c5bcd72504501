package versions

import "sharefs"

// Progress is how far a long task has come.
type Progress = sharefs.Progress
