// Command gen makes the bundled catalogs of package schema from published Ed-Fi documents: the model and descriptor values of data
// standard 5.2 and the OpenAPI documents of 4.0 and 5.0. Run it with `go generate ./schema` and EDFISYNC_SHARED naming the folder that
// has data/edfi, or with -data naming that one. Its output depends on those documents only.
//
// They are derived from work of the Ed-Fi Alliance under the Apache License 2.0: the model of 5.2 from Data-Management-Service (4ee01b0),
// the descriptor values from Ed-Fi-Data-Standard (e181f48), the OpenAPI documents from Ed-Fi-API-Specifications (d04ae3f).
package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/edfisync/edfisync/schema"
)

func main() {
	data := flag.String("data", "", "folder of the Ed-Fi documents (default $EDFISYNC_SHARED/data/edfi)")
	out := flag.String("out", "catalog", "folder to write the catalogs to")
	flag.Parse()
	if *data == "" && os.Getenv("EDFISYNC_SHARED") != "" {
		*data = filepath.Join(os.Getenv("EDFISYNC_SHARED"), "data", "edfi")
	}
	if err := run(*data, *out); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(data, out string) error {
	if data == "" {
		return errors.New("where are the Ed-Fi documents? Set EDFISYNC_SHARED or -data")
	}
	in, err := readSources(data)
	if err != nil {
		return err
	}
	ds52, err := in.standard52()
	if err != nil {
		return fmt.Errorf("data standard 5.2: %w", err)
	}
	ds40, err := in.standard40(ds52)
	if err != nil {
		return fmt.Errorf("data standard 4.0: %w", err)
	}
	for _, m := range []*schema.Model{ds52, ds40} {
		text, err := m.Catalog()
		if err != nil {
			return err
		}
		if err := write(filepath.Join(out, m.Name+".json.gz"), text); err != nil {
			return err
		}
	}
	values, err := in.descriptorValues()
	if err != nil {
		return err
	}
	return write(filepath.Join(out, "descriptors.json.gz"), values)
}

func write(path string, text []byte) error {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := z.Write(text); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return os.WriteFile(path, b.Bytes(), 0o644) //nolint:gosec // source files of the repository
}
