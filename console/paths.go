package console

import "regexp"

// filePath finds the path of a file or folder on the server, by its elements: /var/lib/edfisync/ledger.sqlite, C:\\edfisync\\pack. An address of the network is none,
// and neither is the path of an API.
var filePath = regexp.MustCompile(`(^|[\s"'(=:])((?:file://)?(?:[A-Za-z]:)?(?:[/\\][^\s"'():;,/\\]+)+)[/\\]([^\s"'():;,/\\]+)`) //nolint:gochecknoglobals // it is compiled once and never changed

// withoutPaths leaves out of the text of an error where files of the server are: who uses the console need not know. The log has it all.
func withoutPaths(text string) string {
	return filePath.ReplaceAllString(text, "$1…/$3")
}
