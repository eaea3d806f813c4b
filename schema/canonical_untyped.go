package schema

// untyped appends a value the model says nothing about: members sorted, empty ones left out, numbers shortened, items in their order.
func (c *canonicaliser) untyped(dst []byte, n int32) []byte {
	v := &c.nodes[n]
	switch v.kind {
	case stringToken, columnToken:
		return appendText(dst, v.text)
	case numberToken:
		if text, ok := normalNumber(v.text, &c.buf); ok {
			return append(dst, text...)
		}
		return append(dst, v.text...)
	case arrayToken:
		return c.untypedArray(dst, n)
	case objectToken:
		return c.untypedObject(dst, n)
	}
	return append(dst, v.text...)
}

func (c *canonicaliser) untypedArray(dst []byte, n int32) []byte {
	from := len(dst)
	dst = append(dst, '[')
	for m := c.nodes[n].first; m != 0; m = c.nodes[m].next {
		before := len(dst)
		dst = c.untyped(dst, m)
		if len(dst) == before {
			dst = append(dst, "null"...) // an empty item keeps the others' places
		}
		dst = append(dst, ',')
	}
	if len(dst) == from+1 {
		return dst[:from]
	}
	dst[len(dst)-1] = ']'
	return dst
}

func (c *canonicaliser) untypedObject(dst []byte, n int32) []byte {
	from := len(c.gathered)
	for m := c.nodes[n].first; m != 0; m = c.nodes[m].next {
		c.gathered = append(c.gathered, m)
	}
	c.gathered = c.gathered[:from+c.sortMembers(c.gathered[from:])]
	begin := len(dst)
	dst = append(dst, '{')
	for i := from; i < len(c.gathered); i++ {
		m := c.gathered[i]
		if c.nodes[m].kind == nullToken {
			continue
		}
		before := len(dst)
		dst = append(appendQuoted(dst, c.nodes[m].name), ':')
		value := len(dst)
		if dst = c.untyped(dst, m); len(dst) == value {
			dst = dst[:before]
			continue
		}
		dst = append(dst, ',')
	}
	c.gathered = c.gathered[:from]
	if len(dst) == begin+1 {
		return dst[:begin]
	}
	dst[len(dst)-1] = '}'
	return dst
}
