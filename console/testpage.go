package console

import "net/http"

// testView is the page of a test of a connection.
type testView struct {
	testJSON
	Connection string
}

// testForm tries a connection, and answers with what was found: a test is not kept, so there is no address to load.
func (s *Console) testForm(w http.ResponseWriter, r *http.Request) error {
	in := pathOf(r)
	c, err := s.connection(r.Context(), in.Connection)
	if err != nil {
		return err
	}
	out, err := s.testConnection(r.Context(), &in)
	if err != nil {
		return err
	}
	page := testView{out.Body, nameOf(c.Tenant, c.Name)}
	s.show(w, r, http.StatusOK, "test", frame{Title: "Test", Trail: []crumb{home(), crumbOf(page.Connection)}, Page: page})
	return nil
}
