package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// sealedMark surrounds the name of a sealed secret in a value until Secret.Unseal puts the secret there.
const sealedMark = "\x00"

// unresolvedError says that nothing stands behind a reference on this machine.
type unresolvedError struct{ err error }

func (e *unresolvedError) Error() string { return e.err.Error() }
func (e *unresolvedError) Unwrap() error { return e.err }

// expander replaces ${NAME} by an environment variable, ${file:path} by the text of a file without its last line break, and ${credential:NAME} by that of
// a file in the folder that systemd names with CREDENTIALS_DIRECTORY (LoadCredential=); $${ stands for ${ itself. What was put in is not expanded again.
// Paths are relative to dir.
type expander struct {
	dir    string
	lookup func(name string) (string, bool)
	blind  bool
}

func (e expander) expand(text string) (string, error) {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(text, "${")
		if !found {
			out.WriteString(text)
			return out.String(), nil
		}
		if kept, escaped := strings.CutSuffix(before, "$"); escaped {
			out.WriteString(kept + "${")
			text = rest
			continue
		}
		out.WriteString(before)
		name, after, closed := strings.Cut(rest, "}")
		if !closed {
			return "", fmt.Errorf("${ without a closing }; write $${ for the characters themselves")
		}
		value, err := e.value(name)
		if err != nil {
			return "", err
		}
		out.WriteString(value)
		text = after
	}
}

func (e expander) value(name string) (string, error) {
	if secret, sealed := strings.CutPrefix(name, "sealed:"); sealed {
		if !SecretName(secret) {
			return "", errors.New("the name of a sealed secret has lower-case letters, digits, ., - and _")
		}
		return sealedMark + secret + sealedMark, nil
	}
	if e.blind {
		return "", &unresolvedError{errors.New("is not looked at")}
	}
	path, isFile := strings.CutPrefix(name, "file:")
	if credential, is := strings.CutPrefix(name, "credential:"); is {
		folder, ok := e.lookup("CREDENTIALS_DIRECTORY")
		if !ok {
			return "", &unresolvedError{fmt.Errorf("credential %s: environment variable CREDENTIALS_DIRECTORY is not set; systemd sets it with LoadCredential=", credential)}
		}
		if credential == "" || credential != filepath.Base(credential) {
			return "", errors.New("credential: want the name that LoadCredential= gives it, not a path")
		}
		path, isFile = filepath.Join(folder, credential), true
	}
	if !isFile {
		value, ok := e.lookup(name)
		if !ok {
			return "", &unresolvedError{fmt.Errorf("environment variable %s is not set", name)}
		}
		return value, nil
	}
	text, err := os.ReadFile(absolute(e.dir, path))
	if err != nil {
		return "", &unresolvedError{fmt.Errorf("read the value: %w", err)}
	}
	if bytes.Contains(text, []byte(sealedMark)) {
		return "", errors.New("the file holds a NUL character")
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r"), nil
}

// absolute resolves a path against the folder of the configuration file, so that it does not matter where the program was started.
func absolute(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}
