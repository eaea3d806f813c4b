package sandbox

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// breakWith makes the sandbox break as a script of one rule says.
func (c *client) breakWith(r FaultRule) {
	c.t.Helper()
	if err := c.s.SetFaults(Faults{Script: []FaultRule{r}}); err != nil {
		c.t.Fatal(err)
	}
}

// attempt is do for calls that may have no answer. The body is what could be read of it.
func (c *client) attempt(method, path, body string) (*http.Response, []byte, error) {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.base+"/data/v3/ed-fi/"+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept-Encoding", "identity")
	one := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	r, err := one.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	return r, text, err
}

func TestEveryFaultBreaksACallAsItsNameSays(t *testing.T) {
	t.Parallel()
	status := func(want int) func(*http.Response, []byte, error) error {
		return func(r *http.Response, _ []byte, err error) error {
			if err != nil || r.StatusCode != want {
				return fmt.Errorf("got %v %v, want %d", r, err, want)
			}
			return nil
		}
	}
	noAnswer := func(r *http.Response, _ []byte, err error) error {
		if err == nil || r != nil {
			return fmt.Errorf("got an answer %v", r)
		}
		return nil
	}
	header := func(want int, name string, ok func(string) bool) func(*http.Response, []byte, error) error {
		return func(r *http.Response, b []byte, err error) error {
			if e := status(want)(r, b, err); e != nil {
				return e
			}
			if !ok(r.Header.Get(name)) {
				return fmt.Errorf("got %s %q", name, r.Header.Get(name))
			}
			return nil
		}
	}
	html := func(want int) func(*http.Response, []byte, error) error {
		return header(want, "Content-Type", func(v string) bool { return strings.HasPrefix(v, "text/html") })
	}
	starts := func(prefix string) func(string) bool {
		return func(v string) bool { return strings.HasPrefix(v, prefix) }
	}
	problem := func(want int, kind string) func(*http.Response, []byte, error) error {
		return func(r *http.Response, b []byte, err error) error {
			if e := status(want)(r, b, err); e != nil {
				return e
			}
			if !strings.Contains(string(b), `"urn:ed-fi:api:`+kind+`"`) {
				return fmt.Errorf("got %s", b)
			}
			return nil
		}
	}
	type check = func(*http.Response, []byte, error) error
	cases := []struct {
		kind FaultKind
		done bool // the student is there afterwards
		want check
	}{
		{FaultDrop, false, noAnswer},
		{FaultDropAfter, true, noAnswer},
		{FaultHang, false, noAnswer},
		{FaultHangAfter, true, noAnswer},
		{FaultReset, false, noAnswer},
		{FaultTruncate, true, func(r *http.Response, _ []byte, err error) error {
			if r == nil || r.StatusCode != http.StatusCreated || !errors.Is(err, io.ErrUnexpectedEOF) {
				return fmt.Errorf("got %v %v, want a 201 that ends early", r, err)
			}
			return nil
		}},
		{FaultHTML, false, html(200)},
		{FaultHTMLAfter, true, html(200)},
		{FaultEmpty, false, status(200)},
		{FaultEmptyAfter, true, status(200)},
		{FaultNoLocation, true, header(201, "Location", func(v string) bool { return v == "" })},
		{FaultLocationHost, true, header(201, "Location", starts("https://elsewhere.invalid/data/v3/ed-fi/students/"))},
		{FaultLocationRelative, true, header(201, "Location", starts("/data/v3/ed-fi/students/"))},
		{FaultLocationLower, true, header(201, "Location", func(v string) bool { return v == strings.ToLower(v) && v != "" })},
		{FaultLocationSlash, true, header(201, "Location", func(v string) bool { return strings.HasSuffix(v, "/") })},
		{Fault500, false, problem(500, "system")},
		{Fault502, false, html(502)},
		{Fault503, false, html(503)},
		{Fault504, false, html(504)},
		{Fault500After, true, problem(500, "system")},
		{Fault502After, true, html(502)},
		{Fault503After, true, html(503)},
		{Fault504After, true, html(504)},
		{Fault429, false, header(429, "Retry-After", func(v string) bool { return v == "" })},
		{Fault429Seconds, false, header(429, "Retry-After", func(v string) bool { return v == "1" })},
		{Fault429Date, false, header(429, "Retry-After", func(v string) bool { _, err := http.ParseTime(v); return err == nil })},
		{Fault429Absurd, false, header(429, "Retry-After", func(v string) bool { return v == "1000000000" })},
		{FaultSlow, true, status(201)},
		{FaultDelay, true, status(201)},
		{FaultBig, true, func(r *http.Response, b []byte, err error) error {
			if err != nil || r.StatusCode != 201 || len(b) != bigAnswer {
				return fmt.Errorf("got %d bytes, %v", len(b), err)
			}
			return nil
		}},
		{FaultBomb, true, func(r *http.Response, b []byte, err error) error {
			if err != nil || len(b) > 2<<20 {
				return fmt.Errorf("got %d bytes, %v", len(b), err)
			}
			z, err := gzip.NewReader(bytes.NewReader(b))
			if err != nil {
				return err
			}
			n, err := io.Copy(io.Discard, io.LimitReader(z, 3<<20)) // the rest is more of the same
			if n != 3<<20 {
				return fmt.Errorf("the answer has %d bytes unpacked, %v", n, err)
			}
			return nil
		}},
		{FaultExpired, false, problem(401, "security:authentication")},
		{FaultNoRelationship, false, problem(403, "security:authorization")},
		{FaultDenied, false, problem(403, "security:authorization:access-denied:action")},
		{FaultUnresolved, false, problem(409, "data-conflict:unresolved-reference")},
		{FaultDuplicate, false, problem(409, "data-conflict:non-unique-identity")},
		{FaultConflict, false, problem(409, "data-conflict:multi-user-conflict")},
		{FaultNoRoute, false, problem(404, "not-found")},
		{FaultRedirect301, false, header(301, "Location", starts("https://elsewhere.invalid/data/"))},
		{FaultRedirect302, false, header(302, "Location", starts("https://elsewhere.invalid/data/"))},
		{FaultRedirect307, false, header(307, "Location", starts("https://elsewhere.invalid/data/"))},
		{FaultLate, false, status(201)}, // reads do not see it
	}
	for _, tc := range cases {
		t.Run(string(tc.kind), func(t *testing.T) {
			t.Parallel()
			c := start(t)
			delay := time.Duration(0)
			switch tc.kind {
			case FaultHang, FaultHangAfter, FaultSlow, FaultDelay:
				delay = time.Millisecond
			case FaultLate:
				delay = time.Hour
			}
			c.breakWith(FaultRule{Method: "POST", Resource: "ed-fi/STUD*", Kind: tc.kind, Delay: delay})
			r, body, err := c.attempt(http.MethodPost, "students", studentBody)
			if e := tc.want(r, body, err); e != nil {
				t.Error(e)
			}
			if got := c.s.Faults().Injected[tc.kind]; got != 1 {
				t.Errorf("counted %d, want 1", got)
			}
			c.login(testID, testSecret)
			if got := strings.Contains(c.must(200, http.MethodGet, "students", "").Body, "604822"); got != tc.done {
				t.Errorf("the student is there: %t, want %t", got, tc.done)
			}
		})
	}
	t.Run("of items", func(t *testing.T) {
		t.Parallel()
		c := start(t)
		id := c.must(201, http.MethodPost, "students", studentBody).id()
		for _, tc := range []struct {
			method string
			kind   FaultKind
			want   check
		}{
			{http.MethodPut, FaultKeyChange, problem(400, "bad-request:data-validation-failed:key-change-not-supported")},
			{http.MethodPut, FaultGone, problem(404, "not-found")},
			{http.MethodDelete, FaultGone, problem(404, "not-found")},
			{http.MethodGet, FaultGone, problem(404, "not-found")},
			{http.MethodPut, FaultChanged, problem(412, "optimistic-lock-failed")},
			{http.MethodDelete, FaultDependent, problem(409, "data-conflict:dependent-item-exists")},
		} {
			c.breakWith(FaultRule{Kind: tc.kind})
			r, body, err := c.attempt(tc.method, "students/"+id, studentBody)
			if e := tc.want(r, body, err); e != nil {
				t.Errorf("%s %s: %v", tc.method, tc.kind, e)
			}
		}
		c.must(200, http.MethodGet, "students/"+id, "")
	})
	t.Run("of the token endpoint", func(t *testing.T) {
		t.Parallel()
		c := start(t)
		for _, tc := range []struct {
			kind FaultKind
			want string
		}{{FaultTokenDown, "<html>"}, {FaultTokenSlow, `"access_token"`}, {FaultTokenScope, `"scope":"999999999"`}} {
			c.breakWith(FaultRule{Kind: tc.kind, Delay: time.Millisecond})
			r, err := http.PostForm(c.base+"/oauth/token", map[string][]string{"grant_type": {"client_credentials"}, "client_id": {testID}, "client_secret": {testSecret}})
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(r.Body)
			r.Body.Close()
			if err != nil || !strings.Contains(string(text), tc.want) {
				t.Errorf("%s: got %s, want %s", tc.kind, text, tc.want)
			}
		}
	})
}

func TestRecordsHiddenFromReadsAppearAfterTheirTime(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)
	c := start(t, func(o *Options) { o.Now = func() time.Time { return now } })
	c.breakWith(FaultRule{Kind: FaultLate})
	id := c.must(201, http.MethodPost, "students", studentBody).id()
	c.must(404, http.MethodGet, "students/"+id, "")
	if got := c.must(200, http.MethodGet, "students?studentUniqueId=604822", "").Body; got != "[]" {
		t.Errorf("got %s, want nothing", got)
	}
	c.must(200, http.MethodPost, "students", studentBody)                                      // writes see it
	if err := c.s.SetFaults(Faults{Rate: 1, Kinds: []FaultKind{FaultTokenDown}}); err != nil { // other faults do not show it
		t.Fatal(err)
	}
	c.must(404, http.MethodGet, "students/"+id, "")
	now = now.Add(2 * time.Second)
	c.must(200, http.MethodGet, "students/"+id, "")
	if got := c.must(200, http.MethodGet, "students?studentUniqueId=604822", "").Body; got == "[]" {
		t.Error("the student is still hidden")
	}
}

func TestRulesCountTheCallsTheyMatch(t *testing.T) {
	t.Parallel()
	c := start(t)
	err := c.s.SetFaults(Faults{Script: []FaultRule{
		{Method: "post", Resource: "ed-fi/students", Nth: 2, Times: 2, Kind: Fault503},
		{Resource: "ed-fi/students", Nth: 5, Always: true, Kind: Fault500},
	}})
	if err != nil {
		t.Fatal(err)
	}
	var got []int
	for range 6 {
		r, _, err := c.attempt(http.MethodPost, "students", studentBody)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, r.StatusCode)
	}
	if diff := cmp.Diff([]int{201, 503, 503, 200, 500, 500}, got); diff != "" {
		t.Error(diff)
	}
	c.must(200, http.MethodGet, "schools", "")
}

func TestASeedDecidesByTheOperationAndNothingElse(t *testing.T) {
	t.Parallel()
	f := Faults{Seed: 7, Rate: 0.05}
	hit, kinds := 0, map[FaultKind]bool{}
	const n = 20_000
	for i := range n {
		op := Operation{Method: "POST", Resource: "ed-fi/students", Identity: fmt.Sprint(i)}
		a := f.Decide(op, 1)
		if b := f.Decide(op, 1); a != b {
			t.Fatalf("%v: %v and then %v", op, a, b)
		}
		if a.Kind != "" {
			hit++
			kinds[a.Kind] = true
		}
	}
	if hit < n/25 || hit > n*3/50 {
		t.Errorf("%d of %d calls were broken, want about 5 %%", hit, n)
	}
	for _, k := range FaultKinds(true) {
		if i, _ := k.info(); i.scope&onPost != 0 && !kinds[k] {
			t.Errorf("%s never happened", k)
		}
	}
	for _, op := range []Operation{{"GET", "ed-fi/students", "1"}, {"POST", TokenResource, ""}} {
		for attempt := range 2000 {
			if k := f.Decide(op, attempt).Kind; k != "" {
				if i, _ := k.info(); i.scope&op.scope() == 0 || op.Resource == TokenResource {
					t.Fatalf("%s happened to %v", k, op)
				}
			}
		}
	}
	if diff := cmp.Diff(Fault{}, Faults{Seed: 7, Rate: 1, Attempts: 2}.Decide(Operation{Method: "PUT"}, 3)); diff != "" {
		t.Error(diff)
	}
}

// Two processes give a record other ids; a seed breaks the same calls in both.
func TestASeedMeansTheSameInEveryProcess(t *testing.T) {
	t.Parallel()
	var first []string
	for round := range 2 {
		c := start(t)
		id := c.must(201, http.MethodPost, "students", studentBody).id()
		if err := c.s.SetFaults(Faults{Seed: 3, Rate: 0.5, Kinds: []FaultKind{Fault500, Fault503, FaultGone}}); err != nil {
			t.Fatal(err)
		}
		var got []string
		for range 40 {
			r, body, err := c.attempt(http.MethodGet, "students/"+id, "")
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, fmt.Sprint(r.StatusCode, strings.Contains(string(body), "604822")))
		}
		if round == 0 {
			first = got
			continue
		}
		if diff := cmp.Diff(first, got); diff != "" {
			t.Error(diff)
		}
		if !strings.Contains(strings.Join(got, ","), "200 true") || !strings.Contains(strings.Join(got, ","), "false") {
			t.Errorf("got %v, want some calls broken and some not", got)
		}
	}
}

// A fault is told in the words of the version the sandbox passes for, under its addresses.
func TestFaultsSpeakTheLanguageOfTheVersion(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		personality    Personality
		standard, path string
		want           string
	}{
		{ODS53, "4.0", "/data/v3/ed-fi/schools", `"message"`},
		{ODS61, "4.0", "/data/v3/ed-fi/schools", `"message"`},
		{ODS73, "5.2", "/data/v3/ed-fi/schools", `"urn:ed-fi:api:security:authorization:access-denied:action"`},
		{DMS, "5.2", "/api/data/ed-fi/schools", `"urn:ed-fi:api:security:authorization`},
	} {
		t.Run(string(tc.personality), func(t *testing.T) {
			t.Parallel()
			m := model(t, tc.standard)
			s, err := New(Options{Model: m, Personality: tc.personality, ClientID: testID, ClientSecret: testSecret, Descriptors: fewDescriptors(m)})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if err := s.SetFaults(Faults{Script: []FaultRule{{Resource: "ed-fi/schools", Kind: FaultDenied, Always: true}}}); err != nil {
				t.Fatal(err)
			}
			rec := httptest.NewRecorder()
			s.Handler().ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodPost, tc.path, strings.NewReader(schoolBody)))
			if rec.Code != http.StatusForbidden || !strings.Contains(rec.Body.String(), tc.want) {
				t.Errorf("got %d %s, want 403 with %s", rec.Code, rec.Body, tc.want)
			}
		})
	}
}

// FuzzFaults: no document or text makes the readers panic, and what they take can be set.
func FuzzFaults(f *testing.F) {
	f.Add("- {method: POST, resource: ed-fi/students, nth: 3, fault: drop-after}\n- {fault: hang, delay: 2s, always: true}\n")
	f.Add(`{"seed":7,"rate":"5%","kinds":["503"],"script":[{"fault":"late"}]}`)
	f.Add("seed=7,rate=5%,kinds=all,attempts=2")
	f.Add("a: &a [*a]")
	f.Fuzz(func(t *testing.T, text string) {
		for _, read := range []func(string) (Faults, error){ParseFaults, func(s string) (Faults, error) { return ReadFaults([]byte(s)) }} {
			faults, err := read(text)
			if err != nil {
				continue
			}
			if err := faults.validate(); err != nil {
				t.Fatalf("took what is no good: %v", err)
			}
			op := Operation{Method: http.MethodPost, Resource: "ed-fi/students", Identity: text}
			if first, again := faults.Decide(op, 1), faults.Decide(op, 1); first != again {
				t.Fatal("decides in two ways")
			}
		}
	})
}

// In a simulation there is no connection to close.
func TestFaultsWorkWithoutAConnection(t *testing.T) {
	t.Parallel()
	c := start(t)
	for _, k := range []FaultKind{FaultDrop, FaultReset} {
		c.breakWith(FaultRule{Kind: k})
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/data/v3/ed-fi/students", nil)
		func() {
			defer func() {
				if got := recover(); got != http.ErrAbortHandler {
					t.Errorf("%s: panicked with %v, want http.ErrAbortHandler", k, got)
				}
			}()
			c.s.Handler().ServeHTTP(httptest.NewRecorder(), r)
			t.Errorf("%s: the call was answered", k)
		}()
	}
}

func TestFaultsAreReadFromTextAndDocuments(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		text string
		want Faults
	}{
		{"seed=7,rate=5%", Faults{Seed: 7, Rate: 0.05}},
		{"rate=0.5, kinds=503+drop-after, attempts=2", Faults{Rate: 0.5, Kinds: []FaultKind{Fault503, FaultDropAfter}, Attempts: 2}},
		{"rate=1,kinds=transient", Faults{Rate: 1, Kinds: FaultKinds(true)}},
	} {
		got, err := ParseFaults(tc.text)
		if diff := cmp.Diff(tc.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v %s", tc.text, err, diff)
		}
	}
	for _, bad := range []string{"", "7", "seed=x", "rate=200%", "rate=NaN", "kinds=nope", "speed=1", "attempts=-1,rate=1"} {
		if f, err := ParseFaults(bad); err == nil {
			t.Errorf("%q was read as %+v", bad, f)
		}
	}
	script := []FaultRule{{Method: "POST", Resource: "ed-fi/students", Nth: 3, Kind: FaultDropAfter}, {Kind: FaultHang, Delay: 2 * time.Second, Always: true}}
	for _, tc := range []struct {
		document string
		want     Faults
	}{
		{"- {method: POST, resource: ed-fi/students, nth: 3, fault: drop-after}\n- {fault: hang, delay: 2s, always: true}\n", Faults{Script: script}},
		{`{"seed":7,"rate":0.05,"kinds":["503"],"script":[{"method":"POST","resource":"ed-fi/students","nth":3,"fault":"drop-after"},{"fault":"hang","delay":"2s","always":true}]}`,
			Faults{Seed: 7, Rate: 0.05, Kinds: []FaultKind{Fault503}, Script: script}},
	} {
		got, err := ReadFaults([]byte(tc.document))
		if diff := cmp.Diff(tc.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v %s", tc.document, err, diff)
		}
	}
	for _, bad := range []string{"", "just words", "- {fault: nope}", "- {fault: drop, nht: 3}", "rate: much", "- {fault: drop, nth: -1}", ":\n:"} {
		if f, err := ReadFaults([]byte(bad)); err == nil {
			t.Errorf("%q was read as %+v", bad, f)
		}
	}
}

func TestFaultsAreSwitchedOverTheAdminRoute(t *testing.T) {
	t.Parallel()
	c := start(t)
	admin := func(method, body, contentType string, want int) answer {
		t.Helper()
		a := c.raw(method, "/sandbox/faults", body, "Content-Type: "+contentType)
		if a.Status != want {
			t.Fatalf("%s %s: got %d %s, want %d", method, body, a.Status, a.Body, want)
		}
		return a
	}
	admin("PUT", "- {resource: ed-fi/schools, fault: \"503\", always: true, delay: 3s}", "application/yaml", 204)
	if r, _, err := c.attempt("GET", "schools", ""); err != nil || r.StatusCode != 503 {
		t.Errorf("got %v %v, want 503", r, err)
	}
	a := admin("GET", "", "", 200)
	for _, want := range []string{`"fault":"503"`, `"delay":"3s"`, `"injected":{"503":1}`} {
		if !strings.Contains(a.Body, want) {
			t.Errorf("got %s, want %s in it", a.Body, want)
		}
	}
	admin("PUT", strings.Replace(a.Body, `"injected":{"503":1}`, `"attempts":0`, 1), "application/json", 204) // what GET says PUT takes
	admin("PUT", "rate=nope", "text/plain", 400)
	admin("PUT", "- {fault: nope}", "application/yaml", 400)
	admin("PUT", "seed=1,rate=100%,kinds=500", "text/plain", 204)
	if r, _, err := c.attempt("GET", "schools", ""); err != nil || r.StatusCode != 500 {
		t.Errorf("got %v %v, want 500", r, err)
	}
	admin("DELETE", "", "", 204)
	c.must(200, "GET", "schools", "")
	admin("POST", "", "", 405)
}

func TestDocumentationListsEveryFault(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/sandbox.md")
	if err != nil {
		t.Fatal(err)
	}
	marks := map[string]bool{} // kind → marked as transient, of the table's rows
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, "|")
		if len(cells) != 6 || !strings.HasPrefix(cells[1], " `") {
			continue
		}
		for name := range strings.SplitSeq(cells[1], ",") {
			marks[strings.Trim(name, " `")] = strings.TrimSpace(cells[2]) == "✓"
		}
	}
	for _, i := range faultKinds() {
		if got, ok := marks[string(i.kind)]; !ok || got != i.transient {
			t.Errorf("docs/sandbox.md: %s is listed: %t, marked: %t; want it listed and marked %t", i.kind, ok, got, i.transient)
		}
	}
}
