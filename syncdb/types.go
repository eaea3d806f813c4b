// Package syncdb is the ledger: what each target holds as far as we know (entries), what we intended and what came of it (journal), the
// runs, their steps, their issues, and the lease that makes one process the only writer of a connection. It lives on SQLite or
// PostgreSQL; memdb holds the same in memory and passes the same suite (syncdbtest). It knows neither Ed-Fi nor sources.
package syncdb

import (
	"encoding/json"
	"fmt"
	"time"
)

// Hash is a keyed hash cut to 16 bytes (engine.md §7). The zero value means "not known".
type Hash [16]byte

// IsZero reports whether the hash is not known.
func (h Hash) IsZero() bool { return h == Hash{} }

// State of an entry.
type State uint8

// The states of an entry. Numbers are stored; never renumber.
const (
	Live    State = 1 // the target holds it, and RecordHash is what it holds
	Unknown State = 2 // a call may or may not have been made: RecordHash is not known, EdfiID perhaps not
	Missing State = 3 // the target answered 404 for it
)

// Origin says how we came to an entry.
type Origin uint8

// The origins of an entry. Numbers are stored; never renumber.
const (
	Created Origin = 1 // our POST was answered 201
	Adopted Origin = 2 // taken over by an operator's decision
	Met     Origin = 3 // our POST was answered 200: it was there before us; never deleted until adopted (I9)
)

// Entry is one record of the target.
type Entry struct {
	Resource   string // "ed-fi/students"
	KeyHash    Hash
	RecordHash Hash // zero = unknown
	SourceHash Hash // zero = no source row claimed it yet
	PersonHash Hash // the student, staff or contact it is authorised through; zero = none
	EdfiID     string
	Key        []byte // natural key as canonical JSON; at rest only sealed
	SentKey    []byte // without EdfiID: the natural key as it was sent, when Key spells it differently; sealed with Key
	State      State
	Origin     Origin
	RunID      int64 // run that wrote it last
}

// Verb of an op.
type Verb uint8

// The verbs. Numbers are stored; never renumber.
const (
	Create Verb = 1 // POST
	Update Verb = 2 // PUT
	Delete Verb = 3 // DELETE
)

// MarshalText is the verb as people write it: create, update, delete; "" = none.
func (v Verb) MarshalText() ([]byte, error) {
	switch v {
	case 0:
		return nil, nil
	case Create:
		return []byte("create"), nil
	case Update:
		return []byte("update"), nil
	case Delete:
		return []byte("delete"), nil
	}
	return nil, fmt.Errorf("%d is no verb", uint8(v))
}

// UnmarshalText reads what MarshalText writes.
func (v *Verb) UnmarshalText(text []byte) error {
	switch string(text) {
	case "":
		*v = 0
	case "create":
		*v = Create
	case "update":
		*v = Update
	case "delete":
		*v = Delete
	default:
		return fmt.Errorf("%q is no verb", text)
	}
	return nil
}

// Intent is the durable note that a call is about to be made (I3). It carries what settling needs if no result ever follows.
type Intent struct {
	Op         uint64 // unique in the run
	Verb       Verb
	Resource   string
	KeyHash    Hash
	RecordHash Hash // of the payload about to be sent; zero for Delete
	SourceHash Hash
	PersonHash Hash
	EdfiID     string // "" for Create
	Key        []byte // natural key as canonical JSON
	SentKey    []byte // Create: the natural key as it is sent, when Key spells it differently: only so a target that compares bytes finds it
	// OldKeyHash is the key the entry has now when an Update changes the natural key; zero otherwise. Folding moves the entry.
	OldKeyHash Hash
}

// Effect is what the answer to a call means for the entry.
type Effect uint8

// The effects of a result. Numbers are stored; never renumber.
const (
	EffectNone    Effect = 0 // the call changed nothing at the target (rejected): the entry stays as it was before the intent
	EffectLive    Effect = 1 // the target now holds the record: entry becomes Live with the intent's RecordHash, EdfiID and Origin of the result
	EffectGone    Effect = 2 // the target does not hold it: the entry is removed
	EffectUnknown Effect = 3 // nobody can say (lost response): entry becomes Unknown
	EffectMissing Effect = 4 // PUT answered 404: entry becomes Missing
)

// Result closes an intent.
type Result struct {
	Op     uint64
	Effect Effect
	EdfiID string // EffectLive: the id from Location (Create) or the one called (Update)
	Origin Origin // EffectLive of a Create: Created or Met; zero keeps the entry's
}

// Connection is one source, one target and one school year.
type Connection struct {
	ID     int64
	Tenant string
	Name   string
}

// RunState is the life of a run.
type RunState string

// The states of a run.
const (
	RunWaiting  RunState = "waiting"
	RunRunning  RunState = "running"
	RunDone     RunState = "done"
	RunFailed   RunState = "failed"
	RunCanceled RunState = "canceled"
)

// Run is one execution for one connection.
type Run struct {
	ID           int64           `json:"run"`
	ConnectionID int64           `json:"-"`
	State        RunState        `json:"state"`
	Reason       string          `json:"reason"`           // cron, api, console, cli, feed, recovery; of an errand: adopt, apply, sync-one, undo
	Errand       bool            `json:"errand,omitempty"` // it is no sync of what changed: the process that asked does something else itself, see StartErrand
	Scope        RunScope        `json:"scope,omitzero"`   // what of the changes it sends; zero = all
	CreatedAt    time.Time       `json:"createdAt"`
	StartedAt    time.Time       `json:"startedAt,omitzero"`
	EndedAt      time.Time       `json:"endedAt,omitzero"`
	Totals       json.RawMessage `json:"totals,omitempty"`  // counts by outcome, and the run's warnings; no student values
	Error        string          `json:"error,omitempty"`   // why it failed; no student values
	Wait         *Wait           `json:"wait,omitempty"`    // why it waits; nil when nobody has looked yet, or it does not wait
	Failure      string          `json:"failure,omitempty"` // of a failed run: a code of sync.FailureCodes, or "" for any other reason
}

// Lease is the right to write for one connection until it expires (I7). Every write names it; a newer token fences it out.
type Lease struct {
	ConnectionID int64
	RunID        int64
	Token        int64
	Holder       string
	TTL          time.Duration
	RenewedAt    time.Time // local clock with monotonic reading, taken before the renewing statement was sent
}

// Step is one (resource, verb) of a run in load order.
type Step struct {
	Position int             `json:"position"`
	Resource string          `json:"resource"`
	Verb     Verb            `json:"verb"`
	State    string          `json:"state"` // waiting, running, done, failed, canceled
	Totals   json.RawMessage `json:"totals,omitempty"`
}

// Problem is one source row that is not in sync, and why.
type Problem struct {
	Resource   string
	SourceHash Hash
	Outcome    string // invalid, blocked, rejected, held, failed
	Code       string // stable issue code, "required-missing"
	Cause      string // what groups rows into one issue: path and rule, or the target's error type; no student values
	Owner      string // mapping, source data, target host, us
	KeyHash    Hash
	RecordHash Hash   // rejected: stands for key and record; not sent again while it is the same
	SourceKey  string // the SIS's own key, so that a person can find the row; sealed at rest
	Detail     []byte // JSON: every violated rule, or the target's answer; sealed at rest
	BlockedBy  []byte // blocked: resource and natural key of what is missing, as JSON; sealed at rest

	BlockedResource string // blocked: resource of what is missing, so that causes can be ranked without opening anything; "" = not known
	BlockedKey      Hash   // blocked: natural key hash of what is missing
}

// Issue is a problem a person can act on: all rows with one cause.
type Issue struct {
	ID         int64  `json:"id"`
	Code       string `json:"code"`
	Resource   string `json:"resource"`
	Cause      string `json:"cause"`
	Owner      string `json:"owner"`
	Outcome    string `json:"outcome"`
	FirstRun   int64  `json:"firstRun"`
	LastRun    int64  `json:"lastRun"`
	ClearedRun int64  `json:"clearedRun,omitempty"` // run after which no row had it any more; 0 = open
	Rows       int64  `json:"rows"`
	// Archived says who has put the issue out of sight and why; left out when nobody has.
	Archived Archived `json:"archived,omitzero"`
}

// Scope says what the entries of one resource were made with. All of them share one hash key and one set of rules (engine.md §7).
type Scope struct {
	Resource      string
	KeyGeneration int    // generation of the hash key; 0 = never set
	HashRules     int    // version of the canonical form and of the target's way to compare keys; 0 = never set
	ScanMark      string // watermark of the last complete scan; the caller keeps it from going back (I10)
}

// RecoverStats says what Recover found.
type RecoverStats struct {
	Folded int // intents of earlier runs that had their result
	Open   int // intents without a result; their entries are Unknown now
}

// ProblemFilter narrows Problems. Zero fields do not narrow.
type ProblemFilter struct {
	Resource string
	Outcome  string
	IssueID  int64
	After    Hash // with Resource: only rows with a greater source hash, for paging
	Limit    int  // at most this many; 0 = all
}

// ProblemLink says what an open problem hangs on, without opening what is sealed.
type ProblemLink struct {
	Resource        string
	KeyHash         Hash // zero = not known
	SourceHash      Hash
	IssueID         int64
	Outcome         string
	BlockedResource string // "" = nothing, or not known
	BlockedKey      Hash
}
