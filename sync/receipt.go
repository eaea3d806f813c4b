package sync

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/edfisync/edfisync/syncdb"
)

// Receipts is the part of the ledger that keeps the signed statements of runs.
type Receipts interface {
	SaveReceipt(ctx context.Context, lease syncdb.Lease, r syncdb.Receipt) error
	// Receipts are the newest first.
	Receipts(ctx context.Context, connection int64, limit int) ([]syncdb.Receipt, error)
	ReceiptOf(ctx context.Context, connection, run int64) (syncdb.Receipt, error)
	// Runs are the newest first.
	Runs(ctx context.Context, connection int64, limit int) ([]syncdb.Run, error)
}

// receiptFormat numbers the form of receipts and of their hashes.
const receiptFormat = 1

// Receipt is what a run that finished says of the target: it equals the source, except these. It is kept and handed out as canonical JSON: members
// sorted, no space. Hashes are keyed with the connection's key, so nothing of a record can be guessed from them.
type Receipt struct {
	// Buckets are the hashes below a resource's root, one for each first byte of a key hash, 16 bytes each. The root vouches for them. Those of
	// resources a run did not write are in the receipt of StatementResource.RootRun.
	Buckets   map[string][]byte `json:"buckets,omitempty"`
	PublicKey []byte            `json:"publicKey"` // Ed25519
	Signature []byte            `json:"signature"` // of the canonical JSON of the statement
	Statement Statement         `json:"statement"`
}

// Statement is what is signed.
type Statement struct {
	// Alarm says that the run found the target wiped or restored: what was confirmed before may not be there.
	Alarm         string              `json:"alarm,omitempty"`
	At            time.Time           `json:"at"`               // end of the run, UTC
	Config        string              `json:"config,omitempty"` // version of configuration and mapping
	Connection    string              `json:"connection"`       // tenant/name
	Exceptions    Exceptions          `json:"exceptions"`       // of all resources
	Format        int                 `json:"format"`
	HashRules     int                 `json:"hashRules"`     // version of the canonical form and of key comparison
	KeyGeneration int                 `json:"keyGeneration"` // of the hash key and of the signing key
	Previous      *PreviousReceipt    `json:"previous,omitempty"`
	Resources     []StatementResource `json:"resources"`
	Run           int64               `json:"run"`
	Scope         *syncdb.RunScope    `json:"scope,omitempty"` // what the run sent of the changes; nil = all
}

// StatementResource is the statement about one resource.
type StatementResource struct {
	Entries    int64      `json:"entries"` // in the ledger
	Exceptions Exceptions `json:"exceptions"`
	Live       int64      `json:"live"`                 // of the entries: the target has confirmed to hold exactly this
	OutOfScope int64      `json:"outOfScope,omitempty"` // of the rows: of schools the connection does not sync, or the run was not asked about them; it says nothing of them
	Resource   string     `json:"resource"`
	Root       string     `json:"root"`    // hash over key and record hashes of the live entries
	RootRun    int64      `json:"rootRun"` // run that computed it: this one, or the last that wrote the resource
	Rows       int64      `json:"rows"`    // read from the source
	Valid      int64      `json:"valid"`   // of the rows in the scope: break no rule
	Watermark  string     `json:"watermark,omitempty"`
}

// Exceptions counts what is not equal, by class.
type Exceptions struct {
	Blocked  int64 `json:"blocked"`
	Failed   int64 `json:"failed"`
	Held     int64 `json:"held"`
	Invalid  int64 `json:"invalid"`
	Rejected int64 `json:"rejected"`
}

func exceptionsOf(t Totals) Exceptions {
	return Exceptions{Invalid: t.Invalid, Blocked: t.Blocked, Held: t.Kept, Rejected: t.Rejected, Failed: t.Errors}
}

// PreviousReceipt chains receipts, so that one taken out is missed.
type PreviousReceipt struct {
	Hash string `json:"hash"` // SHA-256 of its document
	Run  int64  `json:"run"`
}

// canonical is JSON with sorted members and no space, of a Receipt or a Statement: their types list the members in this order, and encoding/json
// sorts maps. All numbers are integers.
func canonical[T *Receipt | *Statement](v T) ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("write JSON: %w", err)
	}
	return bytes.TrimRight(out.Bytes(), "\n"), nil
}

// ErrReceipt says that a document is not a receipt as it was signed. Its text names what is wrong.
var ErrReceipt = errors.New("not a receipt as it was signed")

// ReadReceipt reads a receipt and checks it in itself: form, signature by the key it names, buckets against roots. Every byte counts; a line end
// after the last does not. The caller compares PublicKey with the key it trusts.
func ReadReceipt(document []byte) (*Receipt, error) {
	document = bytes.TrimRight(document, "\r\n")
	r := &Receipt{}
	d := json.NewDecoder(bytes.NewReader(document))
	d.DisallowUnknownFields()
	if err := d.Decode(r); err != nil {
		return nil, fmt.Errorf("%w: it cannot be read as JSON of a receipt", ErrReceipt)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: something follows it", ErrReceipt)
	}
	if r.Statement.Format != receiptFormat {
		return nil, fmt.Errorf("%w: it has format %d, this edfisync reads %d", ErrReceipt, r.Statement.Format, receiptFormat)
	}
	again, err := canonical(r)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, document) {
		return nil, fmt.Errorf("%w: it is not in canonical form, so it was edited", ErrReceipt)
	}
	statement, err := canonical(&r.Statement)
	if err != nil {
		return nil, err
	}
	if len(r.PublicKey) != ed25519.PublicKeySize || !ed25519.Verify(r.PublicKey, statement, r.Signature) {
		return nil, fmt.Errorf("%w: the signature is not of this statement and public key", ErrReceipt)
	}
	return r, r.checkBuckets()
}

func (r *Receipt) checkBuckets() error {
	named := 0
	for _, s := range r.Statement.Resources {
		buckets, ok := r.Buckets[s.Resource]
		switch {
		case !ok && s.RootRun == r.Statement.Run:
			return fmt.Errorf("%w: the buckets of %s are not there", ErrReceipt, s.Resource)
		case !ok:
			continue
		}
		named++
		if len(buckets) != bucketCount*bucketSize || hex.EncodeToString(rootOf(buckets)) != s.Root {
			return fmt.Errorf("%w: the buckets of %s do not give its root", ErrReceipt, s.Resource)
		}
	}
	if named != len(r.Buckets) {
		return fmt.Errorf("%w: it has buckets of resources it says nothing of", ErrReceipt)
	}
	return nil
}

const (
	bucketCount = 256
	bucketSize  = 16
)

// digest hashes live entries in key order.
type digest struct {
	buckets [bucketCount * bucketSize]byte
	live    int64
	bucket  []byte // what is hashed of the one at hand
	at      int
	open    bool
}

func newDigest() *digest { return &digest{} }

// add takes the next entry; keys must not go back.
func (d *digest) add(key, record syncdb.Hash) {
	if at := int(key[0]); !d.open || at != d.at {
		d.end()
		d.at, d.open = at, true
		d.bucket = append(d.bucket[:0], byte(at))
	}
	d.bucket = append(append(d.bucket, key[:]...), record[:]...)
	d.live++
}

// end closes the bucket at hand. An empty bucket is all zero.
func (d *digest) end() {
	if d.open {
		sum := sha256.Sum256(d.bucket)
		copy(d.buckets[d.at*bucketSize:(d.at+1)*bucketSize], sum[:])
		d.open = false
	}
}

// rootOf is the root over buckets.
func rootOf(buckets []byte) []byte {
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "edfisync receipt %d", receiptFormat)
	_, _ = h.Write(buckets)
	return h.Sum(nil)
}

// receipt writes the signed statement of a run that is about to finish. Roots of resources that nobody wrote since the last receipt are taken from
// there, so that a run with nothing to do costs no pass over the ledger.
func (e *Engine) receipt(ctx context.Context, o Options, k *keeper, found []*scanned, s *Summary, settled bool) error {
	last, document, err := e.lastStatement(ctx, s.RunID)
	if err != nil {
		return fmt.Errorf("read the last receipt: %w", err)
	}
	target, err := e.Ledger.Target(ctx, e.Connection.ID)
	if err != nil {
		return fmt.Errorf("read the target's state: %w", err)
	}
	st := Statement{
		Format: receiptFormat, Connection: e.Connection.Tenant + "/" + e.Connection.Name, Run: s.RunID, At: time.Now().UTC().Truncate(time.Second),
		Config: e.Config, Alarm: target.Alarm,
		HashRules: hashRules(o.Rules), KeyGeneration: e.Keys.Generation(), Exceptions: exceptionsOf(s.Totals),
	}
	if !o.Scope.All() {
		st.Scope = &o.Scope
	}
	r := Receipt{Buckets: map[string][]byte{}}
	known := map[string]StatementResource{}
	if last != nil {
		sum := sha256.Sum256(document)
		st.Previous = &PreviousReceipt{Run: last.Run, Hash: hex.EncodeToString(sum[:])}
		if !settled && last.HashRules == st.HashRules && last.KeyGeneration == st.KeyGeneration {
			adjacent, err := e.adjacent(ctx, last.Run, s.RunID)
			if err != nil {
				return err
			}
			for _, res := range last.Resources {
				if adjacent {
					known[res.Resource] = res
				}
			}
		}
	}
	for i, f := range found {
		if f.off {
			continue
		}
		t := s.Resources[i].Totals
		scope, err := e.Ledger.Scope(ctx, e.Connection.ID, f.Path)
		if err != nil {
			return fmt.Errorf("read the scope of %s: %w", f.Path, err)
		}
		res := StatementResource{
			Resource: f.Path, Rows: t.Rows, Valid: t.Rows - t.Outside - t.Invalid, OutOfScope: t.Outside, RootRun: s.RunID, Watermark: scope.ScanMark, Exceptions: exceptionsOf(t),
		}
		if before, ok := known[f.Path]; ok && t.Calls == 0 && t.Released == 0 && t.Rekeyed == 0 && !k.hasCorrected(f.Path) {
			res.Entries, res.Live, res.Root, res.RootRun = before.Entries, before.Live, before.Root, before.RootRun
		} else {
			d := newDigest()
			if err := e.Ledger.SortedHashes(ctx, e.Connection.ID, f.Path, func(key, record syncdb.Hash, state syncdb.State) error {
				if res.Entries++; state == syncdb.Live {
					d.add(key, record)
				}
				return nil
			}); err != nil {
				return fmt.Errorf("read hashes of %s: %w", f.Path, err)
			}
			d.end()
			res.Live, res.Root = d.live, hex.EncodeToString(rootOf(d.buckets[:]))
			r.Buckets[f.Path] = d.buckets[:]
		}
		st.Resources = append(st.Resources, res)
	}
	r.Statement = st
	return e.saveReceipt(ctx, k, &r)
}

func (e *Engine) saveReceipt(ctx context.Context, k *keeper, r *Receipt) error {
	public, err := e.Keys.PublicKey(r.Statement.KeyGeneration)
	if err != nil {
		return fmt.Errorf("sign the receipt: %w", err)
	}
	statement, err := canonical(&r.Statement)
	if err != nil {
		return fmt.Errorf("sign the receipt: %w", err)
	}
	r.PublicKey, r.Signature = public, e.Keys.Sign(statement)
	document, err := canonical(r)
	if err != nil {
		return fmt.Errorf("write the receipt: %w", err)
	}
	if err := e.Ledger.SaveReceipt(ctx, k.current(), syncdb.Receipt{RunID: r.Statement.Run, At: r.Statement.At, Document: document}); err != nil {
		return fmt.Errorf("save the receipt: %w", err)
	}
	return nil
}

// lastStatement is that of the newest receipt before a run, with the receipt's document; nil when there is none.
func (e *Engine) lastStatement(ctx context.Context, before int64) (*Statement, []byte, error) {
	kept, err := e.Ledger.Receipts(ctx, e.Connection.ID, 2)
	if err != nil {
		return nil, nil, err
	}
	for _, k := range kept {
		if k.RunID >= before {
			continue
		}
		st, err := statementOf(k.Document)
		if err != nil {
			return nil, nil, fmt.Errorf("read the receipt of run %d: %w", k.RunID, err)
		}
		return st, k.Document, nil
	}
	return nil, nil, nil
}

// statementOf reads the statement of a document we wrote, and nothing else of it: buckets are most of a receipt. In canonical form the statement is
// the last member, and its name with quotes around it and an object behind it cannot be within a string.
func statementOf(document []byte) (*Statement, error) {
	const before = `,"statement":`
	at := bytes.Index(document, []byte(before+"{"))
	if at < 0 {
		return nil, ErrReceipt
	}
	st := &Statement{}
	if err := json.Unmarshal(document[at+len(before):len(document)-1], st); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrReceipt, err)
	}
	return st, nil
}

// adjacent reports whether no run of the connection lies between two: one that failed, adopted or undid writes the ledger and no receipt.
func (e *Engine) adjacent(ctx context.Context, earlier, later int64) (bool, error) {
	runs, err := e.Ledger.Runs(ctx, e.Connection.ID, 5)
	if err != nil {
		return false, fmt.Errorf("list runs: %w", err)
	}
	for _, r := range runs { // newest first; one that waits may be newer than this one
		if r.ID < later {
			return r.ID == earlier, nil
		}
	}
	return false, nil
}
