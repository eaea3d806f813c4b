package schema

// slow writes a row that fast refused: first the payload, with what cannot be read as it came, then what Validate, CanonicalBody and
// CanonicalKey say of that payload. So the two ways to encode cannot disagree about what is valid.
func (t *Template) slow(row [][]byte, out *Encoded) {
	out.Key, out.Body = out.Key[:0], out.Body[:0]
	broken := t.write(row, out)
	out.Problems = append(out.Problems, t.resource.Validate(out.Wire)...)
	for i := range out.Problems {
		p := &out.Problems[i]
		switch {
		case p.Code == CodeNotDescriptor && p.Value != "" && !isDescriptorURI([]byte(p.Value)):
			p.Code = CodeUnmapped
			p.Message = p.Property.Name + " has no entry for this code in the descriptor map " + p.Property.Target + "."
		case p.Code == CodeWrongType && broken[p.Property]:
			p.Code = CodeMalformed
			p.Message = p.Property.Name + " is not well-formed JSON, or names a member twice."
		}
	}
	// The payload is an object by construction, so the body cannot fail; the key can lack a part and is empty then.
	out.Body, _ = t.resource.CanonicalBody(out.Body, out.Wire, t.rules)
	out.Key, _ = t.resource.CanonicalKey(out.Key, out.Wire, t.rules)
}

// write writes the payload of any row and returns the properties whose column is not JSON though it should be.
func (t *Template) write(row [][]byte, out *Encoded) map[*Property]bool {
	broken := make(map[*Property]bool)
	w := append(out.Wire[:0], '{')
	var open []int
	for i := range t.ops {
		o := &t.ops[i]
		switch o.code {
		case openOp:
			open = append(open, len(w))
			w = append(append(w, o.prefix...), '{')
		case closeOp:
			from := open[len(open)-1]
			open = open[:len(open)-1]
			var wrote bool
			if w, wrote = closeObject(w, from, from+len(o.prefix)+1); wrote {
				w = append(w, ',')
			}
		case leafOp:
			if text := row[o.column]; len(text) > 0 {
				w = append(w, o.prefix...)
				w = appendWire(w, resolve(o.element, scalar{columnToken, text}, t.uris[o.Target], &out.buf))
				w = append(w, ',')
			}
		case jsonOp:
			if text := row[o.column]; len(text) > 0 {
				w = t.writeJSON(w, o, row, out.json, broken)
			}
		}
	}
	if w, _ = closeObject(w, 0, 1); len(w) == 0 {
		w = append(w, "{}"...)
	}
	out.Wire = w
	return broken
}

func (t *Template) writeJSON(w []byte, o *op, row [][]byte, v *validator, broken map[*Property]bool) []byte {
	top, ok := t.readJSON(o, row, v, true)
	if !ok {
		broken[o.Property] = true
		w = appendQuoted(append(w, o.prefix...), row[o.column])
		return append(w, ',')
	}
	if v.nodes[top].kind == nullToken {
		return w
	}
	from := len(w)
	w, _, _, present := t.canonical(o, top, v, append(w, o.prefix...), nil)
	if !present {
		return w[:from]
	}
	return append(w, ',')
}
