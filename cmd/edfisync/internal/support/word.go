package support

import (
	"errors"
	"io/fs"
	"net"
	"regexp"
	"slices"
	"strings"
)

// Word is text that cannot hold a value of a student: the functions below are the only makers of it.
type Word string

// Other stands for a word that is not among those it may be.
const Other Word = "(other)"

// Constant is a word of the program itself.
func Constant(text string) Word { return Word(text) }

// OneOf is text when it is one of the words the program knows.
func OneOf[S ~string](text S, known ...S) Word {
	if slices.Contains(known, text) || text == "" {
		return Word(text)
	}
	return Other
}

var shapes = struct{ resource, code, action, object, name, version *regexp.Regexp }{
	resource: regexp.MustCompile(`^[a-z][a-z0-9-]{0,40}/[a-z][A-Za-z0-9]{0,80}$`),
	code:     regexp.MustCompile(`^[a-z]+(-[a-z]+){0,8}$`),
	action:   regexp.MustCompile(`^[a-z]+([.-][a-z]+){0,6}$`),
	object:   regexp.MustCompile(`^(run|hold|plan|undone run|issue|connection) [0-9]{1,18}$`),
	name:     regexp.MustCompile(`^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$`),
	version:  regexp.MustCompile(`^[A-Za-z0-9(][A-Za-z0-9.+_/() -]{0,80}$`),
}

func shaped(text string, shape *regexp.Regexp) Word {
	if text == "" || shape.MatchString(text) {
		return Word(text)
	}
	return Other
}

// Resource is the path of an Ed-Fi resource, as a mapping pack or a target's model names it.
func Resource(path string) Word { return shaped(path, shapes.resource) }

// Code is the code of an issue, when known says that the program gives it.
func Code(code string, known bool) Word {
	if !known {
		return Other
	}
	return shaped(code, shapes.code)
}

// Action is an action of the audit trail, which only the program names.
func Action(action string) Word { return shaped(action, shapes.action) }

// Object is what an act was about, when that is a kind of thing and its number.
func Object(object string) Word { return shaped(object, shapes.object) }

// Name is the name of a tenant or connection of the configuration.
func Name(name string) Word { return shaped(name, shapes.name) }

// Version is the version of a program.
func Version(version string) Word { return shaped(version, shapes.version) }

// Marks are what is known of an error without its text, which may repeat values: words of ours that occur in it, and codes of systems.
type Marks []Word

// marks are texts of the system, the standard library, databases and this program that say what went wrong. Each is looked for as it is.
func marks() []string {
	return []string{
		"connection refused", "connection reset", "no such host", "no route to host", "network is unreachable", "i/o timeout", "TLS handshake", "certificate", "unexpected EOF",
		"deadline exceeded", "context canceled", "permission denied", "no space left", "disk is full", "no such file", "too many open files", "read-only file system",
		"database is locked", "malformed", "not a database", "SQLITE_BUSY", "SQLITE_CORRUPT", "SQLITE_FULL", "SQLITE_IOERR", "its schema has version", "wrong master key", "master key",
		"mapping pack", "lost its process", "canceled", "nothing was written", "is in progress", "does not answer", "not authorized", "too many tokens", "quarantine",
		"was restored from a backup", "is not the ledger of the last run", "is damaged", "there is no ledger", "key is not there",
	}
}

// sqlStates are the codes of PostgreSQL that are told of; a closed list, since five letters and digits could be somebody's number.
func sqlStates() []string {
	return []string{
		"08000", "08001", "08003", "08004", "08006", "22001", "22003", "22007", "22008", "22021", "22P02", "22P05", "23502", "23503", "23505", "23514", "25006", "25P02", "28000",
		"28P01", "3D000", "3F000", "40001", "40P01", "42501", "42601", "42703", "42804", "42883", "42P01", "53100", "53200", "53300", "53400", "54000", "55P03", "57014", "57P01",
		"57P02", "57P03", "58030", "XX000", "XX001", "XX002",
	}
}

var status = regexp.MustCompile(`\b([1-5][0-9]{2}) (?:OK|Bad Request|Unauthorized|Forbidden|Not Found|Conflict|Precondition Failed|Too Many Requests|Internal Server Error|Bad Gateway|Service Unavailable|Gateway Timeout)\b`)

// MarksOf returns the marks of an error's text; nil for none, and "(other)" for an error that has no mark.
func MarksOf(text string) Marks {
	if text == "" {
		return nil
	}
	var found Marks
	for _, m := range marks() {
		if strings.Contains(text, m) {
			found = append(found, Word(m))
		}
	}
	for _, code := range sqlStates() {
		if strings.Contains(text, "SQLSTATE "+code) || strings.Contains(text, "pq: ") && strings.Contains(text, "("+code+")") {
			found = append(found, Word("SQLSTATE "+code))
		}
	}
	for _, m := range status.FindAllStringSubmatch(text, 3) {
		found = append(found, Word("HTTP "+m[1]))
	}
	if len(found) == 0 {
		found = Marks{Other}
	}
	return found
}

// MarksOfError is MarksOf for an error whose kind may say more.
func MarksOfError(err error) Marks {
	if err == nil {
		return nil
	}
	found := MarksOf(err.Error())
	var timeout net.Error
	switch {
	case errors.Is(err, fs.ErrNotExist):
		found = append(found, "file does not exist")
	case errors.Is(err, fs.ErrPermission):
		found = append(found, "file may not be read")
	case errors.As(err, &timeout) && timeout.Timeout():
		found = append(found, "timeout")
	}
	return found
}
