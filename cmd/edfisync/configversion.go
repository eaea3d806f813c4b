package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
)

// configVersion names what decides about the records of a connection besides its rows: the files of the mapping pack and the settings that go into
// records or say where they go. Runs with equal versions make equal records of equal rows. Secrets, limits and timeouts are not part of it.
func configVersion(conn *config.Connection) (string, error) {
	sum := sha256.New()
	err := json.NewEncoder(sum).Encode(struct {
		SchoolYear                      int
		Resources                       []string
		Descriptors                     map[string]map[string]string
		FoldKeys                        bool
		Params                          map[string]string
		URL, ClientID, Tenant, Standard string
		Context                         map[string]string
		Schools, ExceptSchools          []int `json:",omitempty"`
	}{
		conn.SchoolYear, conn.Resources, conn.Descriptors, conn.FoldKeys, conn.Source.Params,
		conn.Target.URL, conn.Target.ClientID, conn.Target.Tenant, conn.Target.Standard, conn.Target.Context,
		conn.Schools, conn.ExceptSchools,
	})
	if err != nil {
		return "", fmt.Errorf("name the version of the configuration: %w", err)
	}
	files, err := packFiles(conn.Pack)
	if err != nil {
		return "", err
	}
	err = fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error { // in the order of the names
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(sum, "%q %d\n%s", name, len(text), text)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("name the version of mapping pack %s: %w", conn.Pack, err)
	}
	return hex.EncodeToString(sum.Sum(nil)[:12]), nil
}
