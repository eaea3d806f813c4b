package main

import (
	"embed"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/template"

	"github.com/alecthomas/kong"
)

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Help is the long help of the command.
func (completionCmd) Help() string {
	return `Examples:

    source <(edfisync completion bash)
    edfisync completion zsh > "${fpath[1]}/_edfisync"
    edfisync completion fish > ~/.config/fish/completions/edfisync.fish`
}

// Run prints the script.
func (c completionCmd) Run(a *app) error {
	if !a.JSON {
		return writeCompletion(a.out, c.Shell, a.parser.Model.Node)
	}
	var script strings.Builder
	if err := writeCompletion(&script, c.Shell, a.parser.Model.Node); err != nil {
		return err
	}
	a.printJSON(struct {
		Shell  string `json:"shell"`
		Script string `json:"script"`
	}{c.Shell, script.String()})
	return nil
}

//go:embed completion/*.tmpl
var completionTemplates embed.FS

// completionCommand is one command as the templates see it.
type completionCommand struct {
	Name, Help string
	Flags      []completionFlag // with the global ones
	Words      []string         // values of its first argument, when they are known
}

type completionFlag struct {
	Name, Help string
	Short      string
	Value      bool // takes a value
	File       bool // the value is a file or folder
}

// add adds a flag that the command does not have yet; those of a subcommand are its parent's here.
func (c *completionCommand) add(flag *kong.Flag) {
	if slices.ContainsFunc(c.Flags, func(f completionFlag) bool { return f.Name == flag.Name }) {
		return
	}
	c.Flags = append(c.Flags, completionFlag{
		Name: flag.Name, Help: flag.Help, Short: strings.Trim(string(flag.Short), "\x00"),
		Value: !flag.IsBool(), File: flag.Tag.Type == "path" || flag.Tag.Type == "existingfile",
	})
}

// writeCompletion fills the shell's template from the command tree, so that no command or flag can be missing.
func writeCompletion(w io.Writer, shell string, root *kong.Node) error {
	quote := strings.NewReplacer("'", "’", "[", "(", "]", ")", ":", " -", "`", "", `"`, "", "$", "", `\`, "")
	templates, err := template.New("").Funcs(template.FuncMap{
		"join":  strings.Join,
		"plain": quote.Replace, // help text inside the shells' quotes
	}).ParseFS(completionTemplates, "completion/*.tmpl")
	if err != nil {
		return fmt.Errorf("read completion templates: %w", err)
	}
	var commands []completionCommand
	for _, node := range root.Children {
		command := completionCommand{Name: node.Name, Help: node.Help}
		for _, flag := range append(root.Flags, node.Flags...) {
			command.add(flag)
		}
		for _, child := range node.Children {
			command.Words = append(command.Words, child.Name)
			for _, flag := range child.Flags {
				command.add(flag)
			}
		}
		for _, argument := range node.Positional {
			if argument.Tag.Enum != "" {
				command.Words = strings.Split(argument.Tag.Enum, ",")
			}
		}
		commands = append(commands, command)
	}
	return templates.ExecuteTemplate(w, shell+".tmpl", commands)
}
