package sandbox

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/edfisync/edfisync/schema"
)

// A sandbox runs from the documents of a real host as well as from the bundled catalogs.
func TestModelOfRealDocumentsCanBeServed(t *testing.T) {
	t.Parallel()
	shared := os.Getenv("EDFISYNC_SHARED")
	if shared == "" {
		shared = filepath.Join("..", "..", "shared")
	}
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(shared, "data", "edfi", "openapi", name))
		if err != nil {
			t.Skip("the real documents are not here")
		}
		return b
	}
	for _, version := range []string{"4.0", "5.0"} {
		m, err := schema.ReadOpenAPI(read("resources-ds"+version+".json"), read("descriptors-ds"+version+".json"))
		if err != nil {
			t.Fatal(err)
		}
		c := start(t, func(o *Options) { o.Model = m })
		c.district()
		c.must(http.StatusNoContent, http.MethodPut, "studentSchoolAssociations/"+c.first("studentSchoolAssociations"), enrolBody)
	}
}
