package config

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/edfisync/edfisync/syncdb"
)

func BenchmarkDecode200(b *testing.B) {
	text := json.RawMessage(`{"name":"one","school_year":2027,"source":{"driver":"postgres","dsn":"postgres://sync:${sealed:pw}@sis/sis"},"pack":"embedded:limitless",` +
		`"target":{"url":"https://a","client_id":"id","client_secret":"${sealed:x}"},"resources":["all"],"schedule":{"cron":"0 2 * * *","time_zone":"America/Chicago"}}`)
	all := make([]syncdb.Definition, 200)
	for i := range all {
		all[i] = syncdb.Definition{Tenant: "default", Name: fmt.Sprint("c", i), Text: json.RawMessage(strings.Replace(string(text), `"one"`, fmt.Sprintf(`"c%d"`, i), 1))}
	}
	for b.Loop() {
		if d := Decode(all, Environment{Dir: "/"}); d[199].Err != nil {
			b.Fatal(d[199].Err)
		}
	}
}
