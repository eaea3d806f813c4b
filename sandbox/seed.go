package sandbox

import (
	"encoding/json"
	"fmt"
	"slices"
)

// seed adds what exists at start: descriptor values and school years. What the store file brought stays as it is.
func (s *Server) seed() error {
	s.store.world.Lock()
	defer s.store.world.Unlock()
	return s.seedHeld()
}

// seedHeld is seed for callers that hold the world.
func (s *Server) seedHeld() error {
	for _, v := range s.opts.Descriptors {
		t := s.cat.byName[v.Name]
		if t == nil || !t.res.Descriptor {
			continue // a value for another model
		}
		err := s.seedRecord(t, map[string]any{
			"codeValue": v.CodeValue, "namespace": v.Namespace, "shortDescription": v.ShortDescription,
		})
		if err != nil {
			return fmt.Errorf("add %s: %w", v.URI(), err)
		}
	}
	t := s.cat.byName["SchoolYearType"]
	if t == nil || len(s.opts.SchoolYears) == 0 {
		return nil
	}
	current := slices.Max(s.opts.SchoolYears)
	for _, y := range s.opts.SchoolYears {
		err := s.seedRecord(t, map[string]any{
			"schoolYear": y, "currentSchoolYear": y == current, "schoolYearDescription": fmt.Sprintf("%d-%d", y-1, y),
		})
		if err != nil {
			return fmt.Errorf("add school year %d: %w", y, err)
		}
	}
	return nil
}

// seedRecord adds a record unless its key exists.
func (s *Server) seedRecord(t *table, members map[string]any) error {
	body, err := json.Marshal(members)
	if err != nil {
		return err
	}
	d := s.drafts.get()
	defer s.drafts.put(d)
	d.reset()
	d.body = append(d.body[:0], body...)
	d.end = len(d.body)
	root, err := d.read(t.shape)
	if err != nil {
		return err
	}
	d.check(t, root)
	if len(d.problems) > 0 {
		return fmt.Errorf("%v", d.problems)
	}
	s.store.makeKey(d, t, root)
	if _, exists := t.space.index[d.hash]; exists {
		return nil
	}
	if _, f := s.store.postHeld(d, t, root, ""); f != nil {
		return fmt.Errorf("refused: %s", f.problem("").Detail)
	}
	return nil
}
