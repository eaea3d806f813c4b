package source

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// statement is the text of one query taken apart as far as a pack needs it: where its parameters are, which names it quotes, whether it
// is one statement that reads.
type statement struct {
	text   string // without a closing semicolon
	params []paramRef
	quoted []quotedName
	first  string // first word, lower case

	comments []lineComment // -- comments that have a line of their own
}

type lineComment struct {
	text        string // after the --
	line        int
	inStatement bool // after the statement's first word
}

type paramRef struct {
	name       string
	start, end int // byte range of ":name" in text
	line       int
}

type quotedName struct {
	name string
	line int
}

// problemAt is what is wrong at a line of a text.
type problemAt struct {
	line    int
	message string
}

// parseStatement finds parameters and quoted names outside strings and comments. firstLine is the line the text begins at in its file.
// It understands what the databases have in common, and PostgreSQL's dollar quotes and E” strings when the driver is PostgreSQL.
func parseStatement(text string, firstLine int, driver string) (statement, []problemAt) {
	s := &lexer{text: text, line: firstLine, driver: driver}
	s.run()
	st := statement{text: text, params: s.params, quoted: s.quoted, first: s.first, comments: s.comments}
	if s.end >= 0 {
		st.text = text[:s.end]
	}
	st.text = strings.TrimRight(st.text, " \t\r\n")
	switch {
	case s.first == "" && len(s.problems) == 0:
		s.problem(firstLine, "the file has no statement")
	case s.first != "" && s.first != "select" && s.first != "with" && s.first != "values":
		s.problem(s.firstLine, fmt.Sprintf("a query starts with select, with or values, not with %q", s.first))
	}
	return st, s.problems
}

// lexer walks SQL text once.
type lexer struct {
	text      string
	driver    string
	pos, line int
	end       int // where the statement's closing semicolon is; -1 = none
	first     string
	firstLine int
	params    []paramRef
	quoted    []quotedName
	comments  []lineComment
	problems  []problemAt
	overrun   bool
}

func (x *lexer) problem(line int, message string) {
	x.problems = append(x.problems, problemAt{line, message})
}

func (x *lexer) run() {
	x.end = -1
	for x.pos < len(x.text) {
		start := x.pos
		if x.blank() {
			continue
		}
		if x.end >= 0 && !x.overrun {
			x.overrun = true
			x.problem(x.line, "a second statement follows the first; a file holds one")
		}
		switch c := x.text[x.pos]; {
		case c == '\'':
			x.delimited('\'', x.driver == Postgres && x.escapeString(start), "string")
		case c == '"':
			line := x.line
			if name, ok := x.delimited('"', false, "quoted name"); ok {
				x.quoted = append(x.quoted, quotedName{name, line})
			}
		case c == '`' && (x.driver == MySQL || x.driver == SQLite):
			x.delimited('`', false, "quoted name")
		case c == '[' && (x.driver == SQLServer || x.driver == SQLite):
			line := x.line
			if name, ok := x.delimited(']', false, "quoted name"); ok {
				x.quoted = append(x.quoted, quotedName{name, line})
			}
		case c == '$' && x.driver == Postgres && x.dollarQuoted():
		case c == ':':
			x.colon()
		case c == ';':
			if x.end < 0 {
				x.end = x.pos
			}
			x.pos++
		case wordStart(c):
			x.word()
		case c >= '0' && c <= '9':
			for x.pos < len(x.text) && wordPart(x.text[x.pos]) {
				x.pos++
			}
		default:
			_, size := utf8.DecodeRuneInString(x.text[x.pos:])
			x.pos += size
		}
	}
}

// blank skips white space or a comment and says whether it did.
func (x *lexer) blank() bool {
	rest := x.text[x.pos:]
	switch {
	case rest[0] == '\n':
		x.line++
		x.pos++
	case rest[0] == ' ', rest[0] == '\t', rest[0] == '\r', rest[0] == '\f':
		x.pos++
	case strings.HasPrefix(rest, "--"):
		x.lineComment()
	case strings.HasPrefix(rest, "/*"):
		if x.driver == MySQL && (strings.HasPrefix(rest, "/*!") || strings.HasPrefix(rest, "/*M!")) {
			x.problem(x.line, "a comment that begins with /*! is run as a part of the statement; write it without the comment")
		}
		x.comment()
	default:
		return false
	}
	return true
}

// lineComment skips a -- comment, and keeps it when it has its line to itself.
func (x *lexer) lineComment() {
	before := x.text[strings.LastIndexByte(x.text[:x.pos], '\n')+1 : x.pos]
	comment, _, _ := strings.Cut(x.text[x.pos:], "\n")
	if strings.TrimSpace(before) == "" {
		x.comments = append(x.comments, lineComment{strings.TrimPrefix(comment, "--"), x.line, x.first != ""})
	}
	x.pos += len(comment)
}

// comment skips a block comment. PostgreSQL and SQL Server nest them.
func (x *lexer) comment() {
	line, depth := x.line, 0
	nests := x.driver == Postgres || x.driver == SQLServer
	for x.pos < len(x.text) {
		rest := x.text[x.pos:]
		switch {
		case strings.HasPrefix(rest, "/*") && (depth == 0 || nests):
			depth++
			x.pos += 2
		case strings.HasPrefix(rest, "*/"):
			depth--
			x.pos += 2
			if depth == 0 {
				return
			}
		default:
			if rest[0] == '\n' {
				x.line++
			}
			x.pos++
		}
	}
	x.problem(line, "a /* comment is not closed")
}

// delimited skips a string or quoted name in which the closing delimiter is written twice to mean itself, and returns its content.
func (x *lexer) delimited(closing byte, backslash bool, what string) (string, bool) {
	line := x.line
	x.pos++
	start := x.pos
	for x.pos < len(x.text) {
		c := x.text[x.pos]
		switch {
		case c == closing && x.pos+1 < len(x.text) && x.text[x.pos+1] == closing:
			x.pos += 2
		case c == closing:
			name := x.text[start:x.pos]
			x.pos++
			return strings.ReplaceAll(name, string([]byte{closing, closing}), string(closing)), true
		case c == '\\' && backslash && x.pos+1 < len(x.text) && x.text[x.pos+1] != '\n':
			x.pos += 2
		default:
			if c == '\n' {
				x.line++
			}
			x.pos++
		}
	}
	x.problem(line, "a "+what+" is not closed")
	return "", false
}

// escapeString says whether the quote at start opens an E'…' string of PostgreSQL.
func (x *lexer) escapeString(start int) bool {
	if start == 0 || (x.text[start-1] != 'E' && x.text[start-1] != 'e') {
		return false
	}
	return start == 1 || !wordPart(x.text[start-2])
}

// dollarQuoted skips $tag$ … $tag$ and says whether there was one.
func (x *lexer) dollarQuoted() bool {
	rest := x.text[x.pos+1:]
	n := 0
	for n < len(rest) && rest[n] != '$' && wordPart(rest[n]) {
		n++
	}
	if n == len(rest) || rest[n] != '$' || (n > 0 && !wordStart(rest[0])) {
		return false
	}
	tag := x.text[x.pos : x.pos+n+2]
	body := x.text[x.pos+len(tag):]
	length := strings.Index(body, tag)
	if length < 0 {
		x.problem(x.line, "a "+tag+" string is not closed")
		x.pos = len(x.text)
		return true
	}
	x.line += strings.Count(body[:length], "\n")
	x.pos += len(tag) + length + len(tag)
	return true
}

// colon reads :name, and skips :: (a cast) and a colon without a name (an array slice).
func (x *lexer) colon() {
	start := x.pos
	x.pos++
	if x.pos < len(x.text) && x.text[x.pos] == ':' {
		x.pos++
		return
	}
	n := x.pos
	for n < len(x.text) && wordPart(x.text[n]) {
		n++
	}
	name := x.text[x.pos:n]
	if name == "" || !wordStart(name[0]) {
		return
	}
	x.pos = n
	if !paramName(name) {
		x.problem(x.line, fmt.Sprintf("parameter :%s: a name is lower-case letters, digits and _, starting with a letter", name))
		return
	}
	x.params = append(x.params, paramRef{name: name, start: start, end: n, line: x.line})
}

func (x *lexer) word() {
	start := x.pos
	for x.pos < len(x.text) && wordPart(x.text[x.pos]) {
		x.pos++
	}
	word := strings.ToLower(x.text[start:x.pos])
	if x.first == "" {
		x.first, x.firstLine = word, x.line
		return
	}
	if x.writes(word) {
		x.problem(x.line, fmt.Sprintf("%q has no place in a query that only reads; a column of that name must be quoted", word))
	}
}

// writes reports whether a bare word begins what does more than read. INTO makes tables and files, which a transaction that only reads does not always
// keep from being made. SQL Server has no such transaction and needs no semicolon between statements; there, these words are reserved.
func (x *lexer) writes(word string) bool {
	switch word {
	case "into":
		return true
	case "insert", "update", "delete", "merge", "truncate", "exec", "execute", "create", "alter", "drop", "grant", "revoke", "deny", "backup", "restore", "kill", "shutdown",
		"waitfor", "declare", "openrowset", "openquery", "opendatasource", "bulk", "dbcc", "reconfigure":
		return x.driver == SQLServer
	}
	return false
}

func wordStart(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

func wordPart(c byte) bool { return wordStart(c) || c >= '0' && c <= '9' }

func paramName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (i == 0 || (c != '_' && (c < '0' || c > '9'))) {
			return false
		}
	}
	return s != ""
}

// expand writes the statement with the driver's own placeholders and returns the values in their order. Every occurrence gets its own
// placeholder, so that PostgreSQL may infer another type for each.
func (s statement) expand(placeholder func(n int) string, value func(name string) any) (string, []any) {
	if len(s.params) == 0 {
		return s.text, nil
	}
	var b strings.Builder
	args := make([]any, 0, len(s.params))
	last := 0
	for _, p := range s.params {
		if p.end > len(s.text) {
			break
		}
		b.WriteString(s.text[last:p.start])
		args = append(args, value(p.name))
		b.WriteString(placeholder(len(args)))
		last = p.end
	}
	b.WriteString(s.text[last:])
	return b.String(), args
}
