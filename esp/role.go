package esp

// wait blocks until ch is poked.
func (s *Session) wait(ch chan struct{}) { <-ch }
