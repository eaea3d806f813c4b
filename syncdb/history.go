package syncdb

import (
	"encoding/json"
	"time"
)

// Attempt is one answered call, kept sealed for as long as the configuration says, so that a person can see what was sent and a run can be
// undone. Payload and Answer are student data: they leave the ledger only on request, with an audit row (I14, I16).
type Attempt struct {
	RunID      int64
	Op         uint64
	Resource   string
	Verb       Verb
	KeyHash    Hash
	OldKeyHash Hash // the natural key the row had before: of an Update that changed it, and of the Create when it is changed by create and delete
	SourceHash Hash
	RecordHash Hash
	OldRecord  Hash // what the ledger said the record was before the call; zero = it did not know, or there was none
	EdfiID     string
	At         time.Time // when the answer came
	Status     int       // of the last answer; 0 = none came
	Effect     Effect
	Key        []byte // natural key as canonical JSON
	Payload    []byte // as sent; empty for Delete
	Answer     []byte // body of an answer that refused, cut to a bound; empty for a success
}

// TargetState is what a connection remembers of its target from run to run, to notice that it was wiped or restored behind our back (F29,
// F30).
type TargetState struct {
	ChangeVersion int64     // newestChangeVersion at the end of the last run; 0 = the target tells none
	Alarm         string    // why nothing may be written until somebody adopts or resyncs; "" = all is well. No student values
	AlarmRun      int64     // run that raised it
	UpdatedAt     time.Time // set by the ledger
}

// Receipt is the signed statement of one run as it was written: a JSON document, never changed afterwards.
type Receipt struct {
	RunID    int64
	At       time.Time
	Document json.RawMessage
}

// AuditRow is one act of a person or of another program that changed state or showed student data (I16). Rows are chained: Hash covers the row and
// the hash of the row before it.
type AuditRow struct {
	ID         int64           `json:"id"`
	At         time.Time       `json:"at"`
	Who        string          `json:"who"`                  // operating system user, or later the API key's name
	Action     string          `json:"action"`               // "hold.approve", "trace.show", "adopt", a stable name
	Connection string          `json:"connection,omitempty"` // "tenant/name"
	Object     string          `json:"object,omitempty"`     // "hold 12", "run 7"; never a natural key
	Detail     json.RawMessage `json:"detail,omitempty"`     // counts and names; no student values
	Hash       []byte          `json:"hash"`
}
