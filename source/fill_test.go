package source

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFillGivesBackItsRowsAndForgetsThoseBefore(t *testing.T) {
	t.Parallel()
	var b Batch
	b.Fill(2, [][][]byte{{[]byte("old"), []byte("rows")}, {[]byte("go"), nil}, {nil, nil}})
	want := [][][]byte{{[]byte("a"), nil}, {[]byte(""), []byte("bc")}}
	b.Fill(2, want)
	var got [][][]byte
	for i := range b.Len() {
		got = append(got, b.Row(i))
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("rows (-got +want):\n%s", diff)
	}
}
