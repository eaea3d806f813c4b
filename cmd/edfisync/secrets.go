package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"golang.org/x/term"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/syncdb"
)

type secretsCmd struct {
	List   secretsListCmd   `cmd:"" default:"withargs" help:"List sealed secrets, without their values."`
	Set    secretsSetCmd    `cmd:"" help:"Seal a secret in the ledger; its value comes from standard input or a prompt."`
	Remove secretsRemoveCmd `cmd:"" help:"Remove a sealed secret that no connection refers to."`
	Rekey  secretsRekeyCmd  `cmd:"" help:"Bring the ledger under the master key that ledger.next names."`
}

// Help is the long help of the command.
func (secretsCmd) Help() string {
	return `Connections refer to secrets: ${NAME} is an environment variable, ${file:path} a file, ${sealed:name} a secret that is kept sealed in the ledger (AES-256-GCM,
under a key of its tenant, which is wrapped by the master key). It is never shown again, by nothing. A new value counts from the next run on, without a restart.

Examples:

    edfisync secrets set lincoln.client_secret < secret.txt
    edfisync secrets set db-password --tenant acme      (asks for it)
    edfisync secrets
    edfisync secrets rekey`
}

type secretsListCmd struct {
	Tenant string `placeholder:"NAME" help:"Only those of this tenant."`
}

// Run lists secrets.
func (c *secretsListCmd) Run(ctx context.Context, a *app) error {
	return a.lookAtLedger(ctx, func(ledger *syncdb.DB) error {
		all, err := ledger.Secrets(ctx, c.Tenant)
		if err != nil {
			return err
		}
		if a.JSON {
			a.printJSON(append([]syncdb.Secret{}, all...))
			return nil
		}
		if len(all) == 0 {
			fmt.Fprintln(a.out, "there are no sealed secrets; make one with: edfisync secrets set NAME")
			return nil
		}
		w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "SECRET\tTENANT\tVERSION\tSET\tBY")
		for _, s := range all {
			fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\n", s.Name, s.Tenant, s.Version, when(s.SetAt), s.SetBy)
		}
		flush(w)
		return nil
	})
}

type secretsSetCmd struct {
	Name   string `arg:"" help:"Its name: lower-case letters, digits, ., - and _."`
	Tenant string `default:"default" placeholder:"NAME" help:"Whose it is (default: default)."`
}

// maxSecret is how long a secret may be, in bytes: a key in PEM has some thousand.
const maxSecret = 64 << 10

// checkSecret says what is wrong with a secret, without repeating it (I15).
func checkSecret(name string, value []byte) error {
	switch {
	case !config.SecretName(name):
		return errors.New("the name of a sealed secret has lower-case letters, digits, ., - and _")
	case len(value) == 0:
		return errors.New("the secret is empty")
	case len(value) > maxSecret:
		return fmt.Errorf("the secret is longer than %d bytes", maxSecret)
	case bytes.ContainsRune(value, 0):
		return errors.New("the secret holds a NUL character")
	}
	return nil
}

// Run seals a secret.
func (c *secretsSetCmd) Run(ctx context.Context, a *app) error {
	cfg, err := a.load()
	if err != nil {
		return err
	}
	if err := checkSecret(c.Name, []byte("later")); err != nil {
		return usageError(err)
	}
	value, err := a.secretInput(c.Name)
	if err == nil {
		err = checkSecret(c.Name, value)
	}
	if err != nil {
		return usageError(err)
	}
	ledger, err := openLedger(ctx, cfg) // the connection it is for may be made later
	if err != nil {
		return err
	}
	set, err := ledger.SetSecret(ctx, c.Tenant, c.Name, value, secretAct("secret.set", c.Tenant, c.Name))
	if err = errors.Join(err, ledger.Close()); err != nil {
		return err
	}
	if a.JSON {
		a.printJSON(set)
		return nil
	}
	fmt.Fprintf(a.out, "%s is sealed (version %d); connections of tenant %s refer to it as ${sealed:%s}\n", set.Name, set.Version, set.Tenant, set.Name)
	return nil
}

func secretAct(action, tenant, name string) syncdb.AuditRow {
	return syncdb.AuditRow{Who: operator(), Action: action, Connection: tenant + "/", Object: "secret " + name}
}

// secretInput reads a secret: from a prompt that does not show it, or from standard input, without its last line break.
func (a *app) secretInput(name string) ([]byte, error) {
	if file, ok := a.in.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		fmt.Fprintf(a.err, "value of %s: ", name)
		value, err := term.ReadPassword(int(file.Fd()))
		fmt.Fprintln(a.err)
		return value, err
	}
	value, err := io.ReadAll(io.LimitReader(a.in, maxSecret+3))
	if err != nil {
		return nil, fmt.Errorf("read the secret from standard input: %w", err)
	}
	return bytes.TrimSuffix(bytes.TrimSuffix(value, []byte("\n")), []byte("\r")), nil
}

type secretsRemoveCmd struct {
	Name   string `arg:"" help:"Its name."`
	Tenant string `default:"default" placeholder:"NAME" help:"Whose it is (default: default)."`
}

// Run removes a secret.
func (c *secretsRemoveCmd) Run(ctx context.Context, a *app) error {
	cfg, err := a.load()
	if err != nil {
		return err
	}
	for i := range cfg.Connections {
		conn := &cfg.Connections[i]
		for _, name := range append(conn.Source.DSN.Sealed(), conn.Target.ClientSecret.Sealed()...) {
			if name == c.Name && conn.Tenant == c.Tenant {
				return usageError(fmt.Errorf("connection %s in %s refers to the secret %s; change it first", conn.FullName(), a.Config, name))
			}
		}
	}
	return a.lookAtLedger(ctx, func(ledger *syncdb.DB) error {
		err := ledger.RemoveSecret(ctx, c.Tenant, c.Name, secretAct("secret.remove", c.Tenant, c.Name))
		var used *syncdb.SecretUsedError
		switch {
		case errors.Is(err, syncdb.ErrNotFound):
			return usageError(fmt.Errorf("tenant %s has no sealed secret %s (edfisync secrets lists them)", c.Tenant, c.Name))
		case errors.As(err, &used):
			return usageError(err)
		case err != nil:
			return err
		case a.JSON:
			a.printJSON(map[string]string{"removed": c.Name, "tenant": c.Tenant})
			return nil
		}
		fmt.Fprintf(a.out, "%s is removed; copies of it are in backups of the ledger, sealed\n", c.Name)
		return nil
	})
}

type secretsRekeyCmd struct{}

// Help is the long help of the command.
func (secretsRekeyCmd) Help() string {
	return strings.TrimSpace(`
Wraps the data keys of the ledger by another master key, in one transaction. What is sealed under the data keys stays as it is.

  1. make a key:             umask 077; openssl rand -hex 32 > new.key
  2. in the configuration:   ledger: {next: {key_file: new.key}}
  3. edfisync secrets rekey  (may be repeated, whatever became of it)
  4. in the configuration:   ledger: {key_file: new.key}, without next

Services that run notice within seconds. They need the configuration of step 2. Keep the old key as long as there are backups from before step 3.`)
}

// Run brings the ledger under another master key.
func (secretsRekeyCmd) Run(ctx context.Context, a *app) error {
	cfg, err := a.load()
	if err != nil {
		return err
	}
	next, err := nextKey(cfg)
	switch {
	case err != nil:
		return usageError(err)
	case next == nil:
		return usageError(fmt.Errorf("name the new master key in %s, as ledger.next (edfisync secrets rekey --help tells how)", a.Config))
	}
	return a.lookAtLedger(ctx, func(ledger *syncdb.DB) error {
		n, done, err := ledger.Rekey(ctx, next, syncdb.AuditRow{Who: operator(), Action: "ledger.rekey", Object: "ledger"})
		if err != nil {
			return err
		}
		if a.JSON {
			a.printJSON(map[string]any{"done": done, "dataKeys": n})
			return nil
		}
		if done {
			fmt.Fprintf(a.out, "the ledger is under the key of ledger.next: %s wrapped anew\n", counted(int64(n), "data key"))
		} else {
			fmt.Fprintln(a.out, "the ledger was under the key of ledger.next already")
		}
		fmt.Fprintln(a.out, "name that key as the ledger's own in the configuration; keep the old one as long as there are backups from before")
		return nil
	})
}
