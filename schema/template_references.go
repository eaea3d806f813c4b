package schema

// References appends the references of a valid row to dst[:0] and returns it: the same as Resource.References(Wire). Keys share storage
// of their own; dst's is reused. It may be called concurrently.
func (t *Template) References(row [][]byte, dst []RefKey) []RefKey {
	dst = dst[:0]
	var arena []byte
	keys := make([]byte, 0, 64*len(t.refs))
	for _, ref := range t.refs {
		begin := len(keys)
		keys = append(keys, '[')
		for _, i := range ref.leaves {
			o := &t.ops[i]
			text := row[o.column]
			if len(text) == 0 {
				keys = keys[:begin]
				break
			}
			s := resolve(o.element, scalar{columnToken, text}, t.uris[o.Target], &arena)
			keys = append(o.appendCanonical(keys, s, t.rules), ',')
		}
		if len(keys) > begin {
			keys[len(keys)-1] = ']'
			dst = append(dst, RefKey{Path: ref.path, Target: ref.Target, Key: keys[begin:len(keys):len(keys)]})
		}
	}
	if t.jsonReferences {
		dst = append(dst, t.referencesInJSON(row)...)
	}
	return tidyReferences(dst)
}

// referencesInJSON finds the references in columns of JSON.
func (t *Template) referencesInJSON(row [][]byte) []RefKey {
	var out Encoded
	t.Encode(row, &out)
	refs, err := t.resource.References(t.model, out.Wire, t.rules)
	if err != nil {
		return nil
	}
	return refs
}
