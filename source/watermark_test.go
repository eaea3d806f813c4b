package source

import (
	"strings"
	"testing"
	"testing/fstest"
)

func TestBehind(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		last, now string
		want      bool
	}{
		"nothing before":      {"", "pack:5", false},
		"nothing now":         {"pack:5", "", false},
		"the same number":     {"pack:5", "pack:5", false},
		"a greater number":    {"pack:9", "pack:10", false},
		"a smaller number":    {"pack:10", "pack:9", true},
		"a smaller decimal":   {"pack:10.50", "pack:10.5", false},
		"an older time":       {"pack:2026-11-22 07:00", "pack:2026-11-21 23:00", true},
		"a newer time":        {"pack:2026-11-22 07:00", "pack:2026-11-22 08:00", false},
		"an emptied table":    {"pack:5", "pack:", true},
		"a first value":       {"pack:", "pack:5", false},
		"another kind":        {"lsn:1:1:0/9", "pack:1", false},
		"the same position":   {"lsn:7:1:0/16B3748", "lsn:7:1:0/16B3748", false},
		"a later position":    {"lsn:7:1:0/FFFFFFFF", "lsn:7:1:1/0", false},
		"an earlier position": {"lsn:7:1:1/0", "lsn:7:1:0/FFFFFFFF", true},
		"a restored server: new timeline, earlier": {"lsn:7:1:5/0", "lsn:7:2:4/0", true},
		"a promoted standby: new timeline, later":  {"lsn:7:1:5/0", "lsn:7:2:5/1", false},
		"an old primary: old timeline":             {"lsn:7:2:5/0", "lsn:7:1:6/0", true},
		"another server":                           {"lsn:7:1:5/0", "lsn:8:1:1/0", false},
		"more transactions":                        {"gtid:a:1-5", "gtid:a:1-6", false},
		"fewer transactions":                       {"gtid:a:1-5", "gtid:a:1-4", true},
		"a gap that was not there":                 {"gtid:a:1-5", "gtid:a:1-2:4-9", true},
		"a gap that was there":                     {"gtid:a:1-2:4-5", "gtid:a:1-2:4-9", false},
		"a server more":                            {"gtid:a:1-5", "gtid:a:1-5,b:1", false},
		"a server less":                            {"gtid:a:1-5,b:1", "gtid:a:1-5", true},
		"tagged transactions, fewer":               {"gtid:a:1-5:tag:1-3", "gtid:a:1-5:tag:1-2", true},
		"tagged transactions, more":                {"gtid:a:1-5:tag:1-3", "gtid:a:1-5:tag:1-4", false},
		"a domain that went on":                    {"mariadb:0-1-100,1-1-7", "mariadb:0-2-101,1-1-7", false},
		"a domain that went back":                  {"mariadb:0-1-100,1-1-7", "mariadb:0-1-100,1-1-6", true},
		"a domain that is gone":                    {"mariadb:0-1-100,1-1-7", "mariadb:0-1-100", true},
		"the next file":                            {"binlog:s:bin.000099:500", "binlog:s:bin.000100:4", false},
		"an earlier file":                          {"binlog:s:bin.000100:4", "binlog:s:bin.000099:500", true},
		"an earlier position in the file":          {"binlog:s:bin.000100:400", "binlog:s:bin.000100:4", true},
		"the file of another server":               {"binlog:s:bin.000100:400", "binlog:t:bin.000001:4", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := Behind(tt.last, tt.now); got != tt.want {
				t.Errorf("Behind(%q, %q) = %v, want %v", tt.last, tt.now, got, tt.want)
			}
			if tt.want && Behind(tt.now, tt.last) && !strings.Contains(name, "timeline") && !strings.Contains(name, "gap") {
				t.Errorf("each of %q and %q is behind the other", tt.last, tt.now)
			}
		})
	}
}

func FuzzBehind(f *testing.F) {
	f.Add("lsn:7:1:1/0", "lsn:7:1:0/FF")
	f.Add("gtid:a:1-5:t:1-3", "gtid:a:1-5")
	f.Add("binlog:s:bin.000100:4", "binlog:s:.:")
	f.Fuzz(func(t *testing.T, last, now string) {
		if Behind(last, last) || Behind(now, now) {
			t.Errorf("%q or %q is behind itself", last, now)
		}
		Behind(last, now)
	})
}

func TestPackGivesTheWatermark(t *testing.T) {
	t.Parallel()
	base := fstest.MapFS{
		"pack.yaml":    {Data: []byte("name: p\nedfi: [\"5.2\"]\n")},
		"students.sql": {Data: []byte(`select 1 as "_key"`)},
	}
	with := func(name, text string) fstest.MapFS {
		out := fstest.MapFS{}
		for n, file := range base {
			out[n] = file
		}
		out[name] = &fstest.MapFile{Data: []byte(text)}
		return out
	}
	for name, tt := range map[string]struct {
		pack fstest.MapFS
		want string // watermark, or part of the error
	}{
		"a file":                      {with("watermark.sql", `select max(n) from t`), "pack:7"},
		"a file of the driver":        {with("watermark.sqlite.sql", `select max(n) from t`), "pack:7"},
		"a key of pack.yaml":          {with("pack.yaml", "name: p\nedfi: [\"5.2\"]\nwatermark: select max(n) from t\n"), "pack:7"},
		"text":                        {with("watermark.sql", `select 'b' || max(n) from t`), "pack:b7"},
		"no value":                    {with("watermark.sql", `select max(n) from t where n > 100`), "pack:"},
		"no row":                      {with("watermark.sql", `select n from t where n > 100`), "pack:"},
		"none":                        {base, ""},
		"two rows":                    {with("watermark.sql", `select n from t`), "a watermark is one row"},
		"two columns":                 {with("watermark.sql", `select n, n from t limit 1`), "a watermark is one column"},
		"a table that is not there":   {with("watermark.sql", `select n from gone`), "watermark.sql"},
		"a statement that writes":     {with("watermark.sql", `delete from t`), "a query starts with select"},
		"a parameter nobody declared": {with("watermark.sql", `select :p`), "parameter :p is not declared"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := func() (string, error) {
				pack, err := LoadPack(tt.pack, SQLite)
				if err != nil {
					return "", err
				}
				path, _ := sqliteFile(t, `create table t (n integer)`, `insert into t values (3), (7)`)
				s, err := open(t, Config{Driver: SQLite, DSN: path, Watermark: pack.Watermark}).Snapshot(t.Context())
				if err != nil {
					return "", err
				}
				defer s.Close()
				return s.Watermark(), nil
			}()
			if err != nil && (got != "" || !strings.Contains(err.Error(), tt.want)) || err == nil && got != tt.want {
				t.Errorf("got %q and error %v, want %q", got, err, tt.want)
			}
		})
	}
}

func TestPostgresTellsItsOwnWatermark(t *testing.T) {
	t.Parallel()
	db, sis := servers()["PostgreSQL"].start(t, Config{Readers: 2})
	read := func() string {
		t.Helper()
		s, err := db.Snapshot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		return s.Watermark()
	}
	before := read()
	if !strings.HasPrefix(before, "lsn:") || Behind(before, before) {
		t.Fatalf("got watermark %q", before)
	}
	exec(t, sis, `create table watermark_t (n int)`, `insert into watermark_t values (1)`)
	if after := read(); !Behind(after, before) || Behind(before, after) {
		t.Errorf("got watermark %q after %q: later writes must make it greater", after, before)
	}
}
