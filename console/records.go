package console

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/edfisync/edfisync/internal/httpd"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// Records asks the SIS and the target of a connection about one record.
type Records interface {
	// Trace shows all that is known of a record now. A name that cannot be one is *sync.UnknownRecordError.
	Trace(ctx context.Context, c Connection, name sync.RecordName, o sync.TraceOptions) (*sync.Trace, error)
	// HeldChanges says what calls of a hold would change, with values only when data is true.
	HeldChanges(ctx context.Context, c Connection, ops []syncdb.PlanOp, data bool) ([]sync.HeldChange, error)
	// Find names a record without student data.
	Find(ctx context.Context, c Connection, name sync.RecordName) (sync.RecordID, error)
}

// traceTime is how long the SIS and the target are waited for.
const traceTime = 30 * time.Second

// RecordPath is the record in a path. It is exported so that huma fills it in.
type RecordPath struct {
	ConnectionPath
	Schema   string `path:"schema" maxLength:"100" doc:"Of the resource: ed-fi, or the extension's."`
	Resource string `path:"resource" maxLength:"100" doc:"Such as students."`
	Record   string `path:"record" maxLength:"80" doc:"Its id, as rows of issues have it: keyed hashes, no student data."`
}

// recordJSON is what is known of a record.
type recordJSON struct {
	Connection string `json:"connection"`
	Record     string `json:"record" doc:"Its id in paths."`
	Asked      bool   `json:"asked" doc:"The SIS and the target were asked. Otherwise this is what the ledger remembers: entries, problems and calls."`
	Unasked    string `json:"unasked,omitempty" doc:"Why they were not, though they should have been."`
	sync.Trace
}

// showRecord shows what the ledger remembers of a record, without student data.
func (s *Console) showRecord(ctx context.Context, in *RecordPath) (*one[recordJSON], error) {
	c, _, out, err := s.recall(ctx, in, false)
	if err != nil {
		return nil, err
	}
	return &one[recordJSON]{recordJSON{Connection: nameOf(c.Tenant, c.Name), Record: in.Record, Trace: *out}}, nil
}

// traceRecord asks the SIS and the target, too, and shows no student data.
func (s *Console) traceRecord(ctx context.Context, in *RecordPath) (*one[recordJSON], error) {
	c, name, remembered, err := s.recall(ctx, in, false)
	if err != nil {
		return nil, err
	}
	return s.traced(ctx, c, in, name, remembered, false)
}

// recordData shows all of it with its values, once that is in the audit trail (I16).
func (s *Console) recordData(ctx context.Context, in *RecordPath) (*one[recordJSON], error) {
	c, name, known, err := s.recall(ctx, in, false)
	if err != nil {
		return nil, err
	}
	object := known.Resource + " key " + known.KeyHash
	if known.KeyHash == "" {
		object = known.Resource + " " + in.Record
	}
	if err := s.c.Ledger.Audit(ctx, act(ctx, "trace.show", c.Tenant, c.Name, object, nil)); err != nil {
		return nil, err
	}
	_, _, remembered, err := s.recall(ctx, in, true)
	if err != nil {
		return nil, err
	}
	return s.traced(ctx, c, in, name, remembered, true)
}

// recall reads what the ledger remembers of the record in a path.
func (s *Console) recall(ctx context.Context, in *RecordPath, data bool) (Connection, sync.RecordName, *sync.Trace, error) {
	c, err := s.connection(ctx, in.Connection)
	if err != nil {
		return c, sync.RecordName{}, nil, err
	}
	id, err := sync.ParseRecordID(in.Schema+"/"+in.Resource, in.Record)
	if err != nil {
		return c, sync.RecordName{}, nil, notFound("record")
	}
	out, name, err := sync.Recall(ctx, s.c.Ledger, c.ID, id, sync.TraceOptions{Data: data})
	var unknown *sync.UnknownRecordError
	if errors.As(err, &unknown) {
		return c, name, nil, refuse(http.StatusNotFound, "not-found", "%s", unknown.Reason)
	}
	return c, name, out, err
}

// traced asks the SIS and the target about a record; when they cannot be asked, what the ledger remembers has to do.
func (s *Console) traced(ctx context.Context, c Connection, in *RecordPath, name sync.RecordName, remembered *sync.Trace, data bool) (*one[recordJSON], error) {
	out := &one[recordJSON]{recordJSON{Connection: nameOf(c.Tenant, c.Name), Record: in.Record, Trace: *remembered}}
	if s.c.Records == nil {
		out.Body.Unasked = "this process cannot ask them"
		return out, nil
	}
	asking, cancel := context.WithTimeout(ctx, traceTime)
	defer cancel()
	t, err := s.c.Records.Trace(asking, c, name, sync.TraceOptions{Data: data})
	switch {
	case err == nil:
		out.Body.Asked, out.Body.Trace = true, *t
	case ctx.Err() != nil:
		return nil, err
	default:
		s.log.WarnContext(ctx, "ask the source and the target about a record", slog.String("request", httpd.RequestID(ctx)), slog.String("connection", out.Body.Connection), slog.Any("error", err))
		out.Body.Unasked = "the SIS or the target could not be asked; the log says why under request " + httpd.RequestID(ctx)
	}
	return out, nil
}

type findInput struct {
	ConnectionPath
	Body struct {
		Resource   string            `json:"resource" minLength:"1" maxLength:"200" doc:"Such as ed-fi/students."`
		NaturalKey map[string]string `json:"naturalKey,omitempty" required:"false" doc:"Parts by name."`
		SourceKey  string            `json:"sourceKey,omitempty" required:"false" maxLength:"500" doc:"Instead: the key of the row in the SIS, _key of its query."`
	}
}

// foundJSON is where a record is.
type foundJSON struct {
	Resource string `json:"resource"`
	Record   string `json:"record"`
	Path     string `json:"path" doc:"Of the record in this API."`
}

// findOutput is the answer to who looks for a record.
type findOutput struct {
	Location string `header:"Location"`
	Body     foundJSON
}

// findRecord names a record by its keys. They are in the body: an address must not hold student data (I14). That somebody looks for a record is noted
// before (I16), without its key.
func (s *Console) findRecord(ctx context.Context, in *findInput) (*findOutput, error) {
	c, err := s.connection(ctx, in.Connection)
	if err != nil {
		return nil, err
	}
	if s.c.Records == nil {
		return nil, refuse(http.StatusServiceUnavailable, "unavailable", "this process cannot ask the source and the target")
	}
	if err := s.c.Ledger.Audit(ctx, act(ctx, "record.find", c.Tenant, c.Name, "", nil)); err != nil {
		return nil, err
	}
	asking, cancel := context.WithTimeout(ctx, traceTime)
	defer cancel()
	id, err := s.c.Records.Find(asking, c, sync.RecordName{Resource: in.Body.Resource, Key: in.Body.NaturalKey, SourceKey: in.Body.SourceKey})
	var absent *sync.AbsentRecordError
	if errors.As(err, &absent) {
		return nil, refuse(http.StatusNotFound, "not-found", "%s", absent.Reason)
	}
	var unknown *sync.UnknownRecordError
	if errors.As(err, &unknown) {
		return nil, refuse(http.StatusUnprocessableEntity, "invalid", "%s", unknown.Reason)
	}
	if err != nil {
		s.log.WarnContext(ctx, "find a record", slog.String("request", httpd.RequestID(ctx)), slog.String("connection", nameOf(c.Tenant, c.Name)), slog.Any("error", err))
		return nil, refuse(http.StatusBadGateway, "unreachable", "the SIS or the target could not be asked; the log says why under this correlationId")
	}
	if _, _, err := sync.Recall(ctx, s.c.Ledger, c.ID, id, sync.TraceOptions{}); errors.As(err, &unknown) {
		return nil, refuse(http.StatusNotFound, "not-found", "no record has this key: none was sent, and no run has found a row of it wrong")
	} else if err != nil {
		return nil, err
	}
	path := recordPath(nameOf(c.Tenant, c.Name), id.Resource, id.String())
	return &findOutput{Location: base + path, Body: foundJSON{Resource: id.Resource, Record: id.String(), Path: base + path}}, nil
}
