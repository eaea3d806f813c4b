package syncdb

// SetMaxFold makes folds use transactions of n results, so that small tests cross their borders.
func (d *DB) SetMaxFold(n int) { d.fold = n }

// AppendFrame and ReadFrame are the journal's encoding.
func AppendFrame(dst []byte, intents []Intent, results []Result) []byte {
	return appendFrame(dst, intents, results)
}

// ReadFrame decodes a whole frame.
func ReadFrame(b []byte) (intents []Intent, results []Result, err error) {
	r, err := newFrameReader(b, func(name []byte) string { return string(name) })
	if err != nil {
		return nil, nil, err
	}
	for range r.count() {
		var in Intent
		if r.intent(&in); r.err != nil {
			return nil, nil, r.err
		}
		intents = append(intents, in)
	}
	for range r.count() {
		res, at := r.result()
		if r.err != nil {
			return nil, nil, r.err
		}
		id := frameReader{b: b, at: at}
		res.EdfiID = string(id.bytes())
		results = append(results, res)
	}
	return intents, results, r.err
}
