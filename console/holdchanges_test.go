package console_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/edfisync/edfisync/console"
	"github.com/edfisync/edfisync/sync"
)

func TestWhatAHoldWouldChangeIsShownWithValuesOnlyToWhoMaySeeThemAndAudited(t *testing.T) {
	t.Parallel()
	asked := &records{}
	s := newService(t, func(c *console.Config) { c.Records = asked })
	_, hold, _ := s.hold("acme~north")
	viewer, sees := s.key(console.NewKey{Role: "viewer"}), s.key(console.NewKey{Role: "viewer", StudentData: true})
	type answered struct {
		Items []struct {
			Record   string
			Elements []string
			Fields   []sync.FieldChange
		}
		Unasked string
	}
	path := fmt.Sprintf("/holds/%d", hold)
	var names, values answered
	s.get(path+"/changes", viewer, &names)
	if len(names.Items) != 1 || !slices.Equal(names.Items[0].Elements, []string{"lastSurname"}) || names.Items[0].Fields != nil || asked.asked[0].Data {
		t.Errorf("without the right to see student data: %+v", names)
	}
	if slices.Contains(s.acts(), "hold.show") {
		t.Error("a look without student data is audited as one with it")
	}
	s.refused(s.do("GET", "/api/v1"+path+"/data", viewer, ""), 403, "forbidden", "")
	s.get(path+"/data", sees, &values)
	if len(values.Items) != 1 || len(values.Items[0].Fields) != 1 || string(values.Items[0].Fields[0].Before) != `"King"` || string(values.Items[0].Fields[0].After) != `"Lovelace"` {
		t.Errorf("with the right: %+v", values)
	}
	if acts := s.acts(); acts[0] != "hold.show" {
		t.Errorf("audited: %v", acts)
	}
	for page, shows := range map[string]bool{path: false, path + "/changes": false, path + "/data": true} {
		a := s.do("GET", page, sees, "")
		if a.status != 200 || strings.Contains(a.body, "Lovelace") != shows || strings.Contains(a.body, "shows no student data") == shows {
			t.Errorf("%s: %d, student data is shown: %v", page, a.status, strings.Contains(a.body, "Lovelace"))
		}
	}

	asked.away = errors.New("dial tcp 10.0.0.1: refused")
	s.get(path+"/data", sees, &values)
	if len(values.Items) != 0 || !strings.Contains(values.Unasked, "could not be asked") || strings.Contains(values.Unasked, "10.0.0.1") {
		t.Errorf("when the SIS is away: %+v", values)
	}
	if a := s.do("GET", path+"/changes", viewer, ""); a.status != 200 || !strings.Contains(a.body, "could not be asked") {
		t.Errorf("the page when the SIS is away: %d %s", a.status, a.body)
	}
}
