package simulate

import (
	"context"
	"net/url"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/sync"
)

// turns lets calls enter the client one after the other in a replay: there they would race for a place among the calls in flight, and for
// who asks for a token.
type turns struct {
	sync.Target
	p *process
}

var _ sync.Target = turns{}

// wait waits for the goroutine's turn. In a world without a gate, what a call is about need not be told.
func (t turns) wait(method, resource, of string) {
	grow(len(resource))
	if t.p.w.gate.on() {
		what := method + " " + resource + of
		t.p.w.gate.pass(t.p.name, "enter", what, t.p.attempt("enter", what, ""))
	}
}

// grow makes the goroutine's stack as large as client, target and judge need together, at once: most goroutines make one call, and would copy
// their stack three times on the way.
//
//go:noinline
func grow(at int) byte {
	var room [12 << 10]byte
	return room[at&1023]
}

func (t turns) Post(ctx context.Context, resource string, body []byte) (edfi.Answer, error) {
	t.wait("POST", resource, string(body))
	return t.Target.Post(ctx, resource, body)
}

func (t turns) Put(ctx context.Context, resource, id string, body []byte) (edfi.Answer, error) {
	t.wait("PUT", resource, t.p.w.nameOf(id))
	return t.Target.Put(ctx, resource, id, body)
}

func (t turns) Delete(ctx context.Context, resource, id string) (edfi.Answer, error) {
	t.wait("DELETE", resource, t.p.w.nameOf(id))
	return t.Target.Delete(ctx, resource, id)
}

func (t turns) Get(ctx context.Context, resource, id string) ([]byte, string, error) {
	t.wait("GET", resource, t.p.w.nameOf(id))
	return t.Target.Get(ctx, resource, id)
}

func (t turns) FindByKey(ctx context.Context, resource string, key url.Values) (string, []byte, bool, error) {
	t.wait("GET", resource, key.Encode())
	return t.Target.FindByKey(ctx, resource, key)
}
