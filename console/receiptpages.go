package console

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/edfisync/edfisync/internal/httpd"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// receiptVerdictJSON is what a verification of a receipt found.
type receiptVerdictJSON struct {
	OK        bool   `json:"ok"`
	Says      string `json:"says"`
	PublicKey string `json:"publicKey,omitempty" doc:"Ed25519, base64: of the connection, as the ledger has it now. Keep it elsewhere to check receipts without us."`
}

// verifyReceipt checks a receipt in itself, and that its key is the connection's.
func (s *Console) verifyReceipt(ctx context.Context, in *IDPath) (*one[receiptVerdictJSON], error) {
	_, c, err := s.run(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	kept, err := s.c.Ledger.ReceiptOf(ctx, c.ID, in.ID)
	if err != nil {
		return nil, missingAs(err, "receipt")
	}
	out := &one[receiptVerdictJSON]{}
	r, err := sync.ReadReceipt(kept.Document)
	if err != nil {
		if !errors.Is(err, sync.ErrReceipt) {
			return nil, err
		}
		out.Body.Says = err.Error()
		return out, nil
	}
	_, ring, err := s.c.Ledger.Connection(ctx, c.Tenant, c.Name)
	if err != nil {
		return nil, err
	}
	key, err := ring.PublicKey(r.Statement.KeyGeneration)
	switch {
	case err != nil:
		out.Body.Says = "it names a key generation that this connection never had"
		return out, nil
	case !bytes.Equal(key, r.PublicKey):
		out.Body.Says = "it is signed by another key than this connection's"
	case r.Statement.Run != in.ID || r.Statement.Connection != c.Tenant+"/"+c.Name:
		out.Body.Says = "it is the receipt of another run"
	default:
		out.Body.OK, out.Body.Says = true, "as it was signed, by the key of this connection"
	}
	out.Body.PublicKey = base64.StdEncoding.EncodeToString(key)
	return out, nil
}

// receiptLine is one receipt in a list.
type receiptLine struct {
	Run              int64
	Statement        sync.Statement
	Valid, Confirmed int64
}

// Waits are rows and deletes that are not in sync.
func (l receiptLine) Waits() int64 { return waits(l.Statement.Exceptions) }

func waits(x sync.Exceptions) int64 {
	return x.Invalid + x.Blocked + x.Held + x.Rejected + x.Failed
}

func receiptLineOf(r syncdb.Receipt) (receiptLine, error) {
	var doc sync.Receipt
	if err := json.Unmarshal(r.Document, &doc); err != nil {
		return receiptLine{}, fmt.Errorf("read the receipt of run %d: %w", r.RunID, err)
	}
	l := receiptLine{Run: r.RunID, Statement: doc.Statement}
	if l.Statement.At.IsZero() {
		l.Statement.At = r.At
	}
	for _, res := range doc.Statement.Resources {
		l.Valid, l.Confirmed = l.Valid+res.Valid, l.Confirmed+res.Live
	}
	return l, nil
}

// receiptsView is the page of a connection's receipts.
type receiptsView struct {
	Connection string
	Receipts   []receiptLine
	Next       string
}

func (s *Console) receiptsPage(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	c, err := s.connection(ctx, r.PathValue("connection"))
	if err != nil {
		return err
	}
	before, err := Paging{Cursor: r.FormValue("cursor")}.before()
	if err != nil {
		return err
	}
	kept, err := s.c.Ledger.ReceiptsBefore(ctx, c.ID, before, rowsShown+1)
	if err != nil {
		return err
	}
	page := receiptsView{Connection: nameOf(c.Tenant, c.Name)}
	for i, k := range kept {
		if i == rowsShown {
			page.Next = cursor(kept[i-1].RunID)
			break
		}
		line, err := receiptLineOf(k)
		if err != nil {
			return err
		}
		page.Receipts = append(page.Receipts, line)
	}
	s.show(w, r, http.StatusOK, "receipts", frame{Title: "Receipts", Trail: []crumb{home(), crumbOf(page.Connection)}, Page: page})
	return nil
}

// receiptView is the page of one receipt.
type receiptView struct {
	receiptLine
	Connection string
	Verdict    receiptVerdictJSON
}

func (s *Console) receiptPage(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	id, err := idOf(r)
	if err != nil {
		return err
	}
	verdict, err := s.verifyReceipt(ctx, &IDPath{id})
	if err != nil {
		return err
	}
	_, c, err := s.run(ctx, id)
	if err != nil {
		return err
	}
	kept, err := s.c.Ledger.ReceiptOf(ctx, c.ID, id)
	if err != nil {
		return missingAs(err, "receipt")
	}
	page := receiptView{Connection: nameOf(c.Tenant, c.Name), Verdict: verdict.Body}
	if page.receiptLine, err = receiptLineOf(kept); err != nil {
		return err
	}
	s.show(w, r, http.StatusOK, "receipt", frame{
		Title: fmt.Sprintf("Receipt of run %d", id), Page: page,
		Trail: []crumb{home(), crumbOf(page.Connection), {"Receipts", "/connections/" + url.PathEscape(page.Connection) + "/receipts"}},
	})
	return nil
}

// adminRoutes registers what is about the service as a whole.
func (s *Console) adminRoutes(reads, admins, audits httpd.Rule) {
	all := httpd.Rule{Least: httpd.Admin, EveryTenant: true}
	verifies := httpd.Rule{Least: httpd.Admin, Auditor: true, EveryTenant: true}
	register(s, reads, get("/runs/{id}/receipt/verify", "verifyReceipt", "receipts", "Check that a receipt is as it was signed, by the key of its connection"), s.verifyReceipt)
	register(s, all, get("/settings", "showSettings", "settings", "Show the version, and how the service is configured"), s.showSettings)
	s.pageOf("GET /connections/{connection}/receipts", reads, s.receiptsPage)
	s.pageOf("GET /runs/{id}/receipt", reads, s.receiptPage)
	s.pageOf("GET /audit", audits, s.auditPage)
	s.pageOf("GET /audit/verify", verifies, s.auditVerdictPage)
	s.pageOf("GET /keys", admins, s.keysPage)
	s.pageOf("POST /keys", admins, s.makeKeyForm)
	s.pageOf("POST /keys/{id}/rotate", admins, s.rotateKeyForm)
	s.pageOf("POST /keys/{id}/revoke", admins, s.revokeKeyForm)
	s.pageOf("GET /settings", all, s.settingsPage)
	s.offers.audits, s.offers.verifies, s.offers.admins, s.offers.settings = audits, verifies, admins, all
}
