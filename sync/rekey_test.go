package sync

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A natural key is taken apart without a JSON decoder; what it is not sure of it leaves to one.
func TestKeysAreTakenApartAsADecoderWould(t *testing.T) {
	t.Parallel()
	for text, fast := range map[string]bool{
		`["ALG-1",10,2026,"Fall"]`:                   true,
		`["a, \"b\"] \\",-1.50,"Été","\u0001","\\"]`: true,
		`[true,false,null]`:                          true,
		`[""]`:                                       true,
		`["",""]`:                                    true,
		`[]`:                                         false,
		`[[1],2]`:                                    false,
		`[{"a":1}]`:                                  false,
		`["a",]`:                                     false,
		`["a"b]`:                                     false,
		`["a\"]`:                                     false,
		`[1,2`:                                       false,
		`{"a":1}`:                                    false,
		``:                                           false,
	} {
		var want []json.RawMessage
		err := json.Unmarshal([]byte(text), &want)
		if got := scalars([]byte(text)); fast != (got != nil) || fast && cmp.Diff(got, want) != "" {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
		if got, kerr := keyValues([]byte(text)); (err == nil) != (kerr == nil) || err == nil && cmp.Diff(got, want) != "" {
			t.Errorf("%s: got %q and error %v, want %q and %v", text, got, kerr, want, err)
		}
		if err == nil && text[0] == '[' {
			if got := string(joinValues(want)); got != text {
				t.Errorf("got %s, want %s", got, text)
			}
		}
	}
}
