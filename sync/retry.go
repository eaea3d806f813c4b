package sync

// retryWaiting tries rows that wait for others of the same step again, as long as a pass makes progress (self-references: the parent
// agency of an agency, engine.md §2).
func (s *stepRun) retryWaiting() error {
	for len(s.waiting) > 0 {
		if err := s.settleOpen(); err != nil {
			return err
		}
		waiting := s.waiting
		s.waiting = nil
		var updates []*op
		for _, o := range waiting {
			if blocked, _ := s.x.blockedBy(s.st.Resource, o.refs); blocked != nil {
				s.waiting = append(s.waiting, o)
				continue
			}
			if o.needsEntry() {
				updates = append(updates, o)
				continue
			}
			if err := s.add(o); err != nil {
				return err
			}
		}
		for len(updates) > 0 {
			n := min(500, len(updates))
			if err := s.feedUpdates(updates[:n]); err != nil {
				return err
			}
			updates = updates[n:]
		}
		if len(s.waiting) == len(waiting) {
			break
		}
	}
	for _, o := range s.waiting {
		blocked, _ := s.x.blockedBy(s.st.Resource, o.refs)
		s.blocked(o, blocked)
		s.x.unsent(s.r, o.refs, o.key, o.isNew())
	}
	s.waiting = nil
	return nil
}

// sendAgain works off creates that follow a PUT answered 404, after all other ops of the step.
func (s *stepRun) sendAgain() error {
	for {
		if err := s.settleOpen(); err != nil {
			return err
		}
		s.mu.Lock()
		again := s.again
		s.again = nil
		s.mu.Unlock()
		if len(again) == 0 {
			return nil
		}
		for _, o := range again {
			if err := s.add(o); err != nil {
				return err
			}
		}
	}
}

// deleteUpwards tries deletes again that other records of the same resource stood against, as long as a pass makes progress: children
// before parents (I6).
func (s *stepRun) deleteUpwards() error {
	for {
		if err := s.settleOpen(); err != nil {
			return err
		}
		s.mu.Lock()
		stopped, deleted := s.stopped, s.totals.Deleted
		s.stopped = nil
		progress := deleted > s.deletedBefore
		s.deletedBefore = deleted
		s.mu.Unlock()
		if len(stopped) > 0 && !progress && !s.loosened {
			s.loosened = true
			var err error
			if progress, err = s.loosen(stopped); err != nil {
				return err
			}
		}
		for _, f := range stopped {
			if !progress {
				s.refuse(f.op, Blocked, f.err)
				s.strand(f.op)
				continue
			}
			if err := s.add(f.op); err != nil {
				return err
			}
		}
		if len(stopped) == 0 || !progress {
			return nil
		}
	}
}

// hostRefusals is how many refusals by the target's host, without a single success, a step takes before it believes them for the rest of
// its rows. They are tried again in the next run: the host may have mended its side (F34, F35).
const hostRefusals = 20

// refusedByHost returns the refusal all rows of the step get, nil when they are to be sent.
func (s *stepRun) refusedByHost() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.accepted > 0 || s.byHost < hostRefusals {
		return nil
	}
	return s.lastByHost
}
