// Package traces sends OpenTelemetry traces over OTLP: a span for each run, below it one for each step, below that one for each request to the target. Spans
// hold names of the configuration, counts, statuses and codes; no address with an id or a key, no body, no text of an error (I14).
package traces

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// Config says where traces go.
type Config struct {
	// Endpoint is the OTLP receiver: http://127.0.0.1:4318. "" takes it, and the sampler, from the standard variables OTEL_*.
	Endpoint string
	// Sample is the share of runs that are traced, with all that is below them: 0 to 1. It counts with Endpoint only.
	Sample float64
	// Propagate tells the target which trace a request is of (W3C traceparent).
	Propagate bool
	Version   string // of the program
	Logger    *slog.Logger
}

// On reports whether traces are to be sent: somebody named an endpoint, here or in the environment.
func On(endpoint string, lookup func(string) (string, bool)) bool {
	if off, _ := lookup("OTEL_SDK_DISABLED"); off == "true" {
		return false
	}
	if endpoint != "" {
		return true
	}
	for _, name := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"} {
		if v, _ := lookup(name); v != "" {
			return true
		}
	}
	return false
}

// Traces makes spans and sends them in the background. What the receiver does not take in time is dropped: nothing waits for it. Make it with New, and
// Close it. Safe for concurrent use.
type Traces struct {
	provider  *sdktrace.TracerProvider
	tracer    trace.Tracer
	propagate bool
}

// New begins to send traces. It makes no call by itself.
func New(ctx context.Context, c Config) (*Traces, error) {
	var to []otlptracehttp.Option
	options := []sdktrace.TracerProviderOption{}
	if c.Endpoint != "" {
		u, err := url.Parse(c.Endpoint)
		if err != nil {
			return nil, fmt.Errorf("the endpoint of traces is no URL")
		}
		if u.Path == "" || u.Path == "/" {
			u.Path = "/v1/traces"
		}
		to = append(to, otlptracehttp.WithEndpointURL(u.String()))
		options = append(options, sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(c.Sample))))
	}
	exporter, err := otlptracehttp.New(ctx, to...)
	if err != nil {
		return nil, fmt.Errorf("prepare to send traces: %w", err)
	}
	about, err := resource.New(ctx, resource.WithTelemetrySDK(),
		resource.WithAttributes(attribute.String("service.name", "edfisync"), attribute.String("service.version", c.Version)), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("describe the service to traces: %w", err)
	}
	// The library tells of what it cannot send by one handler for the whole process.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { c.Logger.Warn("send traces", slog.Any("error", err)) }))
	options = append(options, sdktrace.WithBatcher(exporter, sdktrace.WithBatchTimeout(2*time.Second)), sdktrace.WithResource(about))
	t := &Traces{provider: sdktrace.NewTracerProvider(options...), propagate: c.Propagate}
	t.tracer = t.provider.Tracer("github.com/edfisync/edfisync")
	return t, nil
}

// Close sends what is left, for as long as ctx lasts.
func (t *Traces) Close(ctx context.Context) error { return t.provider.Shutdown(ctx) }

// Run begins the span of a run; ended is called once, with its outcome as metrics name it, and the error it failed with.
func (t *Traces) Run(ctx context.Context, tenant, connection string, run syncdb.Run) (context.Context, func(outcome string, err error)) {
	ctx, span := t.tracer.Start(ctx, "run", trace.WithNewRoot(), trace.WithAttributes(
		attribute.String("edfisync.tenant", tenant), attribute.String("edfisync.connection", connection), attribute.Int64("edfisync.run", run.ID),
		attribute.String("edfisync.reason", run.Reason)))
	return ctx, func(outcome string, err error) {
		span.SetAttributes(attribute.String("edfisync.outcome", outcome))
		failed(span, err, sync.FailureOf(err))
		span.End()
	}
}

// failed marks the span of something that failed, by a code and not by the error's text.
func failed(span trace.Span, err error, code string) {
	if err == nil {
		return
	}
	if code == "" {
		code = "failed"
	}
	span.SetStatus(codes.Error, code)
	span.SetAttributes(attribute.String("error.type", code))
}

var _ sync.StepWatcher = (*Traces)(nil)

// Step implements sync.StepWatcher.
func (t *Traces) Step(ctx context.Context, path, verb string) (context.Context, func(sync.Totals, error)) {
	ctx, span := t.tracer.Start(ctx, verb+" "+path, trace.WithAttributes(attribute.String("edfisync.resource", path), attribute.String("edfisync.verb", verb)))
	return ctx, func(n sync.Totals, err error) {
		span.SetAttributes(
			attribute.Int64("edfisync.calls", n.Calls), attribute.Int64("edfisync.created", n.Created), attribute.Int64("edfisync.updated", n.Updated),
			attribute.Int64("edfisync.deleted", n.Deleted), attribute.Int64("edfisync.held", n.Held()), attribute.Int64("edfisync.failed", n.Failed()))
		failed(span, err, sync.FailureOf(err))
		span.End()
	}
}

// Observer makes spans of requests and tells next of them. It is comparable: equal for equal next.
func (t *Traces) Observer(next edfi.Observer) edfi.Observer { return observer{t, next} }

type observer struct {
	t    *Traces
	next edfi.Observer
}

// Begin implements edfi.Observer.
func (o observer) Begin(ctx context.Context, e edfi.Exchange) (http.Header, func(edfi.Result)) {
	header, done := o.next.Begin(ctx, e)
	template := "/" + e.Resource
	if e.Method == http.MethodPut || e.Method == http.MethodDelete {
		template += "/{id}"
	}
	ctx, span := o.t.tracer.Start(ctx, e.Method+" "+template, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("http.request.method", e.Method), attribute.String("url.template", template), attribute.Int("http.request.resend_count", e.Attempt-1)))
	if o.t.propagate {
		if header == nil {
			header = http.Header{}
		}
		propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(header))
	}
	return header, func(r edfi.Result) {
		if r.Status != 0 {
			span.SetAttributes(attribute.Int("http.response.status_code", r.Status))
		}
		if r.Code != "" {
			span.SetStatus(codes.Error, r.Code)
			span.SetAttributes(attribute.String("error.type", r.Code))
		}
		span.End()
		done(r)
	}
}
