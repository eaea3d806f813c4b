package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/edfisync/edfisync/sync"
)

func TestRecordsAreNamedOnTheCommandLine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		args recordArgs
		in   string
		want sync.RecordName // zero = refused
	}{
		{"by source key", recordArgs{Resource: "students", SourceKey: "1"}, "", sync.RecordName{Resource: "students", SourceKey: "1"}},
		{"by one part", recordArgs{Resource: "students", Key: "studentUniqueId=1"}, "", sync.RecordName{Resource: "students", Key: map[string]string{"studentUniqueId": "1"}}},
		{"by parts, one with a comma and one with an equals sign", recordArgs{Resource: "courses", Key: "title=Art, first,code=a=b"}, "", sync.RecordName{
			Resource: "courses", Key: map[string]string{"title": "Art, first", "code": "a=b"},
		}},
		{"by nothing", recordArgs{Resource: "students"}, "", sync.RecordName{}},
		{"by both", recordArgs{Resource: "students", Key: "a=1", SourceKey: "1"}, "", sync.RecordName{}},
		{"without a name for the value", recordArgs{Resource: "students", Key: "604822"}, "", sync.RecordName{}},
		{"with one part twice", recordArgs{Resource: "students", Key: "a=1,a=2"}, "", sync.RecordName{}},
		{"by source key from standard input", recordArgs{Resource: "students", SourceKey: "-"}, "1017\r\nmore\n", sync.RecordName{Resource: "students", SourceKey: "1017"}},
		{"by natural key from standard input", recordArgs{Resource: "students", Key: "-"}, "studentUniqueId=1", sync.RecordName{
			Resource: "students", Key: map[string]string{"studentUniqueId": "1"},
		}},
		{"by nothing from standard input", recordArgs{Resource: "students", Key: "-"}, "", sync.RecordName{}},
		{"by both, one from standard input", recordArgs{Resource: "students", Key: "-", SourceKey: "1"}, "a=1\n", sync.RecordName{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := c.args.name(strings.NewReader(c.in))
			if c.want.Resource == "" {
				if err == nil {
					t.Errorf("name() = %+v, want an error", got)
				}
				return
			}
			if diff := cmp.Diff(c.want, got, cmpopts.IgnoreUnexported(sync.RecordName{})); err != nil || diff != "" {
				t.Errorf("name(): %v (-want +got):\n%s", err, diff)
			}
		})
	}
}
