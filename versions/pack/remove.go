package pack

// maxGone bounds how many removed packs are remembered; who looked one up before it was removed opens it within moments.
const maxGone = 4096

// Remove removes a sealed pack. Nothing may lead to it any more, durably. Who has it open reads on; the next one finds that it is gone. The name
// may be there again after a loss of power.
func (s *Store) Remove(id ID) error {
	if err := s.cfg.FS.Remove(id.name()); err != nil {
		return failed("remove", id, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.files == nil {
		return nil
	}
	if len(s.gone) >= maxGone {
		clear(s.gone)
	}
	s.gone[id] = struct{}{}
	delete(s.aeads, id)
	s.forgetPack(id)
	return nil
}
