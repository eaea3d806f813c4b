package config

import (
	"os"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Line returns the line of a path of a configuration file, "connections[0].safeguards.prevent_delete[1]", or of the nearest part of it that the file
// has; 0 when the file cannot be read any more. It is for what is found wrong after Load, when the values meet the rest of the world.
func Line(file, path string) int {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	node, problem := document(text)
	if problem != nil {
		return 0
	}
	line := node.Line
	for _, step := range strings.FieldsFunc(path, func(r rune) bool { return r == '.' || r == '[' || r == ']' }) {
		if node = child(node, step); node == nil {
			break
		}
		line = node.Line
	}
	return line
}

// child is the node under a key, or at an index, nil when there is none.
func child(node *yaml.Node, step string) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	switch node.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(node.Content); i += 2 {
			if node.Content[i].Value == step {
				return node.Content[i+1]
			}
		}
	case yaml.SequenceNode:
		if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < len(node.Content) {
			return node.Content[i]
		}
	}
	return nil
}
