package sync

import (
	"context"
	"fmt"
	"strings"

	"github.com/edfisync/edfisync/source"
)

// behind says why the source is not trusted to tell what is gone: its snapshot is of an older state than that of an earlier complete scan (F40,
// I5c). "" = it is as new, or nothing tells.
func behind(found []*scanned, mark string) string {
	n := 0
	for _, r := range found {
		if !r.off && source.Behind(r.noted.ScanMark, mark) {
			n++
		}
	}
	if n == 0 {
		return ""
	}
	kind, _, _ := strings.Cut(mark, ":")
	return fmt.Sprintf("the source's watermark (%s) is older than an earlier run has seen, for %d of %d resources", kind, n, len(found))
}

// saveMarks notes the watermark of a complete scan. It never goes back (I10).
func (e *Engine) saveMarks(ctx context.Context, k *keeper, found []*scanned, mark string) error {
	if mark == "" {
		return nil
	}
	for _, r := range found {
		switch {
		case r.off:
			continue
		case r.scope != nil:
			r.scope.ScanMark = mark // written before the first entry
			continue
		case r.noted.ScanMark == mark, source.Behind(r.noted.ScanMark, mark):
			continue
		}
		r.noted.ScanMark = mark
		if err := e.Ledger.SetScope(ctx, k.current(), r.noted); err != nil {
			return fmt.Errorf("note the watermark of %s: %w", r.Path, err)
		}
	}
	return nil
}
