package mappings_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jmoiron/sqlx"
	"go.yaml.in/yaml/v3"

	"github.com/edfisync/edfisync/limitless"
	"github.com/edfisync/edfisync/mappings"
	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/source"
)

// record is what one row became.
type record struct {
	Wire, Body, Key string
	Problems        []string
	refs            []string // "Entity key" of each resource referred to
}

// extract maps a whole source: resource → source key → record.
type extract map[string]map[string]record

// read runs every query of the pack for Data Standard 5.2 over a source.
func read(t *testing.T, cfg source.Config) extract {
	t.Helper()
	return readPack(t, cfg, mappings.Limitless(), "5.2")
}

func readPack(t *testing.T, cfg source.Config, files fs.FS, standard string) extract {
	t.Helper()
	ctx := context.Background()
	model, err := schema.Bundled(standard)
	if err != nil {
		t.Fatal(err)
	}
	rules := schema.Rules{Version: schema.CanonicalVersion}
	pack, err := source.LoadPack(files, cfg.Driver)
	if err != nil {
		t.Fatal(err)
	}
	db, err := source.Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	snapshot, err := db.Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer snapshot.Close()
	bound, err := db.Bind(ctx, snapshot, pack, model, rules, nil)
	if err != nil {
		t.Fatal(err)
	}
	out := extract{}
	for _, b := range bound {
		if len(b.Warnings) > 0 {
			t.Errorf("%s: warnings %q", b.Query.File, b.Warnings)
		}
		out[b.Query.Resource] = readQuery(t, snapshot, b)
	}
	return out
}

func readQuery(t *testing.T, snapshot *source.Snapshot, b *source.Bound) map[string]record {
	t.Helper()
	ctx := context.Background()
	rows, err := snapshot.Open(ctx, b.Query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	out := map[string]record{}
	var batch source.Batch
	var e schema.Encoded
	var refs []schema.RefKey
	for {
		err := rows.Next(ctx, &batch)
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		for i := range batch.Len() {
			row := batch.Row(i)
			key := string(b.Key(row))
			if _, twice := out[key]; twice || key == "" {
				t.Fatalf("%s: source key %q is empty or there twice", b.Query.File, key)
			}
			b.Template.Encode(b.Values(row), &e)
			r := record{Wire: string(e.Wire), Body: string(e.Body), Key: string(e.Key)}
			for _, p := range e.Problems {
				r.Problems = append(r.Problems, p.Code+" "+p.Path)
			}
			if len(e.Problems) == 0 {
				refs = b.Template.References(b.Values(row), refs[:0])
				for _, ref := range refs {
					r.refs = append(r.refs, ref.Target+" "+string(ref.Key))
				}
			}
			out[key] = r
		}
	}
}

// demo fills a demo SIS in a SQLite file and returns how to read it.
func demo(t *testing.T, opts limitless.Options) (source.Config, limitless.Stats) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sis.db")
	db, err := limitless.OpenSQLite(path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	return source.Config{Driver: source.SQLite, DSN: path}, generate(t, db, limitless.SQLite, opts)
}

func generate(t *testing.T, db *sqlx.DB, dialect limitless.Dialect, opts limitless.Options) limitless.Stats {
	t.Helper()
	if err := limitless.Create(context.Background(), db, dialect); err != nil {
		t.Fatal(err)
	}
	stats, err := limitless.Generate(context.Background(), db, dialect, opts)
	if err != nil {
		t.Fatal(err)
	}
	return stats
}

// judge counts by resource what a sync must find: all records, invalid ones, and blocked ones, which refer to a record that is not there or
// is not sent itself.
func judge(t *testing.T, x extract) (records, invalid, blocked map[string]int) {
	t.Helper()
	model, err := schema.Bundled("5.2")
	if err != nil {
		t.Fatal(err)
	}
	entity := map[string]string{} // resource → entity
	inScope := map[string]bool{}
	for resource := range x {
		r, ok := model.Resource(resource)
		if !ok {
			t.Fatalf("the model has no %s", resource)
		}
		entity[resource] = r.Name
		inScope[r.Name] = true
		if r.Extends != "" {
			inScope[r.Extends] = true
		}
	}
	live := map[string]bool{}
	bad := map[string]map[string]bool{}
	records, invalid, blocked = map[string]int{}, map[string]int{}, map[string]int{}
	for resource, rows := range x {
		bad[resource] = map[string]bool{}
		records[resource] = len(rows)
		r, _ := model.Resource(resource)
		for key, rec := range rows {
			if len(rec.Problems) > 0 {
				invalid[resource]++
				bad[resource][key] = true
				continue
			}
			live[entity[resource]+" "+rec.Key] = true
			if r.Extends != "" {
				live[r.Extends+" "+rec.Key] = true
			}
		}
	}
	for changed := true; changed; {
		changed = false
		for resource, rows := range x {
			for key, rec := range rows {
				if bad[resource][key] {
					continue
				}
				for _, ref := range rec.refs {
					if name, _, _ := strings.Cut(ref, " "); inScope[name] && !live[ref] {
						blocked[resource]++
						bad[resource][key], changed = true, true
						delete(live, entity[resource]+" "+rec.Key)
						break
					}
				}
			}
		}
	}
	return records, invalid, blocked
}

func TestEveryRecordOfTheDemoIsValidAndCounted(t *testing.T) {
	t.Parallel()
	cfg, stats := demo(t, limitless.Options{Students: 150, AttendancePerStudent: 10})
	x := read(t, cfg)
	checkAllValid(t, x, stats)
}

func TestThePackForDataStandard4ReadsTheSameRecords(t *testing.T) {
	t.Parallel()
	cfg, stats := demo(t, limitless.Options{Students: 150, AttendancePerStudent: 10})
	checkAllValid(t, readPack(t, cfg, mappings.LimitlessDS40(), "4.0"), stats)
}

func checkAllValid(t *testing.T, x extract, stats limitless.Stats) {
	t.Helper()
	records, invalid, blocked := judge(t, x)
	if diff := cmp.Diff(stats.Records, records); diff != "" {
		t.Errorf("records by resource (-stats +read):\n%s", diff)
	}
	for resource, rows := range x {
		for key, rec := range rows {
			if len(rec.Problems) > 0 {
				t.Errorf("%s %s: %q in %s", resource, key, rec.Problems, rec.Wire)
				break
			}
		}
	}
	if len(invalid)+len(blocked) > 0 {
		t.Errorf("invalid %v, blocked %v: want none", invalid, blocked)
	}
}

func TestNaturalKeysAreUnique(t *testing.T) {
	t.Parallel()
	cfg, _ := demo(t, limitless.Options{Students: 60, AttendancePerStudent: 120})
	for resource, rows := range read(t, cfg) {
		keys := map[string]string{}
		for source, rec := range rows {
			if other, twice := keys[rec.Key]; twice {
				t.Errorf("%s: rows %s and %s have the same key %s", resource, source, other, rec.Key)
			}
			keys[rec.Key] = source
		}
	}
}

func TestFlawsAreRefusedAsTheStatsSay(t *testing.T) {
	t.Parallel()
	cfg, stats := demo(t, limitless.Options{Students: 100, AttendancePerStudent: 10, Flaws: 10})
	x := read(t, cfg)
	records, invalid, blocked := judge(t, x)
	for _, c := range []struct {
		what      string
		want, got map[string]int
	}{{"records", stats.Records, records}, {"invalid", stats.Invalid, invalid}, {"blocked", stats.Blocked, blocked}} {
		if diff := cmp.Diff(c.want, c.got); diff != "" {
			t.Errorf("%s by resource (-stats +read):\n%s", c.what, diff)
		}
	}
	want := map[limitless.FlawKind]string{
		limitless.MissingBirthDate: "required-missing $.birthDate",
		limitless.UnmappedCode:     "descriptor-unmapped $.attendanceEventCategoryDescriptor",
		limitless.LongName:         "too-long $.lastSurname",
		limitless.UnknownStudent:   "required-missing $.studentReference",
		limitless.NotEnrolled:      "",
	}
	for _, f := range stats.Flaws {
		got := strings.Join(x[f.Resource][fmt.Sprint(f.Key)].Problems, ", ")
		if got != want[f.Kind] {
			t.Errorf("%s, %s %d: problems %q, want %q", f.Kind, f.Resource, f.Key, got, want[f.Kind])
		}
	}
}

func TestTheIdentifierOfPeopleIsAParameter(t *testing.T) {
	t.Parallel()
	cfg, _ := demo(t, limitless.Options{Students: 40, AttendancePerStudent: 2})
	for choice, want := range map[string][2]string{
		"state": {`"4000000000"`, `"2000007919"`},
		"local": {`"1000000"`, `"B00001"`},
		"sis":   {`"100001"`, `"1"`},
	} {
		cfg.Params = map[string]string{"student_identifier": choice, "staff_identifier": choice}
		x := read(t, cfg)
		if got := x["ed-fi/students"]["100001"].Key; got != "["+want[0]+"]" {
			t.Errorf("student by %s: got key %s, want %s", choice, got, want[0])
		}
		if got := x["ed-fi/staffs"]["1"].Key; got != "["+want[1]+"]" {
			t.Errorf("staff by %s: got key %s, want %s", choice, got, want[1])
		}
		if _, invalid, blocked := judge(t, x); len(invalid)+len(blocked) > 0 {
			t.Errorf("by %s: invalid %v, blocked %v", choice, invalid, blocked)
		}
	}
}

func TestMapsNameValuesOfTheDataStandard(t *testing.T) {
	t.Parallel()
	pack, err := source.LoadPack(mappings.Limitless(), source.SQLite)
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, v := range schema.Descriptors() {
		known[v.URI()] = true
	}
	for descriptor, codes := range pack.Maps {
		for code, uri := range codes {
			if !known[uri] {
				t.Errorf("%s %s: %s is not among the values of the data standard", descriptor, code, uri)
			}
		}
	}
}

// TestDialectsDifferInJSONFunctionsOnly holds the files of one query together: what is edited in one must be edited in all.
func TestDialectsDifferInJSONFunctionsOnly(t *testing.T) {
	t.Parallel()
	functions := map[string]*strings.Replacer{
		"postgres": strings.NewReplacer("json_group_array", "json_agg", "json_object", "json_build_object", "json_array(", "json_build_array(", " json(", " to_json("),
		"mysql":    strings.NewReplacer("json_group_array", "json_arrayagg", " json(", " json_compact("),
	}
	for name, pack := range map[string]fs.FS{"5.2": mappings.Limitless(), "4.0": mappings.LimitlessDS40()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checkDialects(t, pack, functions)
		})
	}
}

func checkDialects(t *testing.T, pack fs.FS, functions map[string]*strings.Replacer) {
	t.Helper()
	files, err := fs.Glob(pack, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	text := func(file string) string {
		b, err := fs.ReadFile(pack, file)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for _, file := range files {
		name := strings.TrimSuffix(file, ".sql")
		if strings.Contains(name, ".") {
			continue
		}
		for _, driver := range slices.Sorted(maps.Keys(functions)) {
			variant := name + "." + driver + ".sql"
			want := functions[driver].Replace(text(file))
			if !slices.Contains(files, variant) {
				if want != text(file) {
					t.Errorf("%s needs a file of its own for %s", file, driver)
				}
				continue
			}
			if diff := cmp.Diff(want, text(variant)); diff != "" {
				t.Errorf("%s (-as %s says +as it is):\n%s", variant, file, diff)
			}
		}
	}
}

func TestEveryLocalCodeIsMapped(t *testing.T) {
	t.Parallel()
	db, err := limitless.OpenSQLite(filepath.Join(t.TempDir(), "sis.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	generate(t, db, limitless.SQLite, limitless.Options{Students: 40, AttendancePerStudent: 1})
	descriptors := map[string]string{ // domain → descriptor
		"grade": "GradeLevel", "district_type": "LocalEducationAgencyCategory", "school_level": "SchoolCategory", "school_status": "OperationalStatus",
		"calendar_type": "CalendarType", "day_event": "CalendarEvent", "term": "Term", "grading_period": "GradingPeriod", "subject": "AcademicSubject",
		"course_level": "CourseLevelCharacteristic", "section_env": "EducationalEnvironment", "gender": "Sex", "race": "Race", "phone": "TelephoneNumberType",
		"school_phone": "InstitutionTelephoneNumberType", "email": "ElectronicMailType", "address": "AddressType", "degree": "LevelOfEducation", "job_status": "EmploymentStatus",
		"job_class": "StaffClassification", "program": "ProgramAssignment", "section_role": "ClassroomPosition", "elp": "LimitedEnglishProficiency", "language": "Language",
		"trait": "StudentCharacteristic", "student_id": "StudentIdentificationSystem", "staff_id": "StaffIdentificationSystem", "entry": "EntryType", "exit": "ExitWithdrawType",
		"residency": "ResidencyStatus", "attendance": "AttendanceEventCategory",
	}
	var codes []struct{ Domain, Code string }
	if err := db.Select(&codes, "SELECT domain, code FROM lk_code UNION ALL SELECT 'attendance', att_code FROM att_code"); err != nil {
		t.Fatal(err)
	}
	text, err := fs.ReadFile(mappings.Limitless(), "descriptors.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var mapped map[string]map[string]string
	if err := yaml.Unmarshal(text, &mapped); err != nil {
		t.Fatal(err)
	}
	for _, c := range codes {
		if mapped[descriptors[c.Domain]+"Descriptor"][c.Code] == "" {
			t.Errorf("code %s of domain %s is not mapped (descriptor %q)", c.Code, c.Domain, descriptors[c.Domain])
		}
	}
}
