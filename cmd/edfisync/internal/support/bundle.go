// Package support writes what somebody who helps needs to know of an installation, as one zip file. It is without student data by construction: nothing
// in it is text that came from a SIS, a target or a person. Its types hold numbers, times, truths, and words; a word is one of a list that the program
// has, or has a shape no value of a student has a way into. The package knows neither ledger nor configuration: the caller fills the types.
package support

import (
	"archive/zip"
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"runtime/pprof"
	"time"
)

// Bundle is all there is in a support bundle but the goroutine profile.
type Bundle struct {
	About         About
	Configuration Configuration
	Ledger        Ledger
	Runs          []Run
	Issues        []IssueCount
	Health        Health
	Audit         []Act
	Jobs          []JobState
	Unread        []Unread // parts that could not be read
}

// About says which program made the bundle, where and when.
type About struct {
	Made     time.Time `json:"made"`
	Version  Word      `json:"version"`
	Commit   Word      `json:"commit,omitempty"`
	Go       Word      `json:"go"`
	Platform Word      `json:"platform"`
	CPUs     int       `json:"cpus"`
	Service  bool      `json:"service"` // made by the service, not by a command
	// Of the process that made it.
	Up         Seconds `json:"upSeconds,omitempty"`
	Goroutines int     `json:"goroutines"`
	Heap       uint64  `json:"heapBytes"`
	Memory     uint64  `json:"memoryBytes"` // taken from the system
	Collected  uint32  `json:"garbageCollections"`
}

// Seconds is a length of time.
type Seconds float64

// Unread is a part of the bundle that could not be read, and what kind of error that was.
type Unread struct {
	Part  Word  `json:"part"`
	Error Marks `json:"error"`
}

// Configuration is the configuration without secrets, addresses, paths of files, and values of maps.
type Configuration struct {
	Ledger      Word         `json:"ledger"` // sqlite, postgres
	LogLevel    Word         `json:"logLevel"`
	LogFormat   Word         `json:"logFormat"`
	Workers     int          `json:"workers"`
	Drain       Seconds      `json:"drainSeconds"`
	TLS         bool         `json:"tls"`
	Allow       int          `json:"allowedNetworks"`
	Proxies     int          `json:"trustedProxies"`
	Connections []Connection `json:"connections"`
}

// Connection is one connection of the configuration.
type Connection struct {
	Number         int64           `json:"number"` // in the ledger; 0 = it has none yet
	Tenant         Word            `json:"tenant"`
	Name           Word            `json:"name"`
	SchoolYear     int             `json:"schoolYear"`
	Driver         Word            `json:"driver"`
	Readers        int             `json:"readers"`
	Statement      Seconds         `json:"statementTimeoutSeconds"`
	Pack           Word            `json:"pack"` // embedded:NAME, or folder
	Resources      []Word          `json:"resources,omitempty"`
	Descriptors    int             `json:"ownDescriptorMaps"`
	Params         int             `json:"params"`
	FoldKeys       bool            `json:"foldKeys"`
	Standard       Word            `json:"standard"`
	TLS            bool            `json:"targetTls"`
	Tenanted       bool            `json:"targetTenant"`
	Context        int             `json:"targetContext"`
	MinConcurrency int             `json:"minConcurrency"`
	MaxConcurrency int             `json:"maxConcurrency"`
	Timeout        Seconds         `json:"timeoutSeconds"`
	Retries        int             `json:"retries"`
	Settle         Seconds         `json:"settleDelaySeconds"`
	History        Seconds         `json:"historySeconds"`
	Scheduled      bool            `json:"scheduled"`
	Jitter         Seconds         `json:"jitterSeconds"`
	CatchUp        Seconds         `json:"catchUpSeconds"`
	Safeguards     map[string]Edge `json:"safeguards"` // keys are the configuration's own
	PreventDelete  int             `json:"preventDelete"`
	Overridden     int             `json:"resourcesWithOwnSafeguards"`
}

// Edge is when a safeguard holds.
type Edge struct {
	Percent float64 `json:"percent"`
	Count   int     `json:"count"`
}

// Ledger is the ledger's shape and size.
type Ledger struct {
	Kind     Word     `json:"kind"`
	Database Word     `json:"databaseVersion"`
	Schema   int64    `json:"schemaVersion"`
	Bytes    int64    `json:"bytes"`
	Free     int64    `json:"freeBytes"` // inside it: kept for reuse
	Tables   []Table  `json:"tables"`
	Entries  []Counts `json:"entries"`
}

// Table is how many rows a table has.
type Table struct {
	Table Word  `json:"table"`
	Rows  int64 `json:"rows"`
}

// Counts is how many records of a resource the ledger has of a connection.
type Counts struct {
	Connection int64 `json:"connection"`
	Resource   Word  `json:"resource"`
	Entries    int64 `json:"entries"`
}

// Run is one run, without what it said.
type Run struct {
	Run        int64            `json:"run"`
	Connection int64            `json:"connection"`
	State      Word             `json:"state"`
	Reason     Word             `json:"reason"`
	Created    time.Time        `json:"createdAt"`
	Started    time.Time        `json:"startedAt,omitzero"`
	Ended      time.Time        `json:"endedAt,omitzero"`
	Totals     map[string]int64 `json:"totals,omitempty"` // keys are the engine's own
	Error      Marks            `json:"error,omitempty"`
	Steps      []Step           `json:"steps,omitempty"`
}

// Step is one step of a run.
type Step struct {
	Position int              `json:"position"`
	Resource Word             `json:"resource"`
	Verb     Word             `json:"verb"`
	State    Word             `json:"state"`
	Totals   map[string]int64 `json:"totals,omitempty"`
}

// IssueCount is how many open issues and rows have a code.
type IssueCount struct {
	Connection int64 `json:"connection"`
	Resource   Word  `json:"resource"`
	Code       Word  `json:"code"`
	Owner      Word  `json:"owner"`
	Outcome    Word  `json:"outcome"`
	Issues     int64 `json:"issues"`
	Rows       int64 `json:"rows"`
}

// Health says whether the installation can work.
type Health struct {
	Ledger  bool      `json:"ledgerAnswers"`
	Chain   Word      `json:"auditChain"` // verified, broken, not read
	Witness Word      `json:"witness"`    // agrees, contradicts, none
	Open    []OpenRun `json:"openRuns"`
	Paused  []Paused  `json:"paused"`
	Alarms  []Alarm   `json:"alarms"`
	Waiting []Waiting `json:"waitingForPeople"`
}

// OpenRun is a run that waits or runs.
type OpenRun struct {
	Run        int64   `json:"run"`
	Connection int64   `json:"connection"`
	State      Word    `json:"state"`
	Age        Seconds `json:"ageSeconds"`
	Lost       bool    `json:"lost"` // its process is gone
}

// Paused is a connection that is paused.
type Paused struct {
	Connection int64     `json:"connection"`
	At         time.Time `json:"at"`
	Until      time.Time `json:"until,omitzero"`
}

// Alarm is a connection whose target was found wiped or restored.
type Alarm struct {
	Connection int64 `json:"connection"`
	Run        int64 `json:"run"`
}

// Waiting is what waits for a person.
type Waiting struct {
	Connection int64 `json:"connection"`
	Holds      int64 `json:"holds"`
	Issues     int64 `json:"issues"`
}

// Act is a row of the audit trail without who did it, why, and its detail.
type Act struct {
	Row    int64     `json:"row"`
	At     time.Time `json:"at"`
	Action Word      `json:"action"`
	Object Word      `json:"object,omitempty"` // a kind and a number
}

// JobState is how many jobs of the queue have a state.
type JobState struct {
	State  Word      `json:"state"`
	Jobs   int64     `json:"jobs"`
	Oldest time.Time `json:"oldest,omitzero"` // when it was scheduled
}

//go:embed contents.txt
var contents []byte

// file is one file of the bundle.
type file struct {
	name string
	text []byte
}

// Write writes the bundle as a zip file; with goroutines what the goroutines of this process do, by function and line, without values.
func Write(w io.Writer, b *Bundle, goroutines bool) error {
	files := []file{{"contents.txt", contents}}
	for _, part := range []struct {
		name  string
		value any
	}{
		{"about.json", b.About},
		{"configuration.json", b.Configuration},
		{"ledger.json", b.Ledger},
		{"runs.json", append([]Run{}, b.Runs...)},
		{"issues.json", append([]IssueCount{}, b.Issues...)},
		{"health.json", b.Health},
		{"audit.json", append([]Act{}, b.Audit...)},
		{"jobs.json", append([]JobState{}, b.Jobs...)},
		{"unread.json", append([]Unread{}, b.Unread...)},
	} {
		text, err := json.MarshalIndent(part.value, "", "  ")
		if err != nil {
			return fmt.Errorf("write %s: %w", part.name, err)
		}
		files = append(files, file{part.name, append(text, '\n')})
	}
	if goroutines {
		files = append(files, file{"goroutines.txt", profile()})
	}
	z := zip.NewWriter(w)
	for _, f := range files {
		out, err := z.CreateHeader(&zip.FileHeader{Name: f.name, Method: zip.Deflate, Modified: b.About.Made})
		if err == nil {
			_, err = out.Write(f.text)
		}
		if err != nil {
			return fmt.Errorf("write %s: %w", f.name, err)
		}
	}
	return z.Close()
}

// profile is what the goroutines do. Form 1 has functions and lines and neither arguments nor names of goroutines; labels, which a library may set to
// anything, are left out.
func profile() []byte {
	var text bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&text, 1); err != nil {
		return []byte("the profile could not be written\n")
	}
	var kept bytes.Buffer
	for line := range bytes.Lines(text.Bytes()) {
		if !bytes.HasPrefix(line, []byte("# labels")) {
			kept.Write(line)
		}
	}
	return kept.Bytes()
}
