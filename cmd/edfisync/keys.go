package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/edfisync/edfisync/console"
	"github.com/edfisync/edfisync/syncdb"
)

type keysCmd struct {
	List   keysListCmd   `cmd:"" default:"withargs" help:"List the keys of the API."`
	Create keysCreateCmd `cmd:"" help:"Make a key, and show it this once."`
	Rotate keysRotateCmd `cmd:"" help:"Give a key a new secret; the old one is good for a while longer."`
	Revoke keysRevokeCmd `cmd:"" help:"End a key for good."`
}

// Help is the long help of the command.
func (keysCmd) Help() string {
	return `Programs use the API of edfisync serve with a key, and people log in to the console with one. The ledger keeps only a hash: whoever loses a key needs
another.

Roles: viewer reads; operator also starts, pauses and cancels runs; approver also decides about holds; admin also makes keys; auditor reads, and the audit
trail too. Seeing student data is a right of its own.

Examples:

    edfisync keys create "SIS sync button" --role operator --expires 365d
    edfisync keys create "Lincoln's data team" --role viewer --tenant lincoln --network 10.20.0.0/16
    edfisync keys
    edfisync keys rotate "SIS sync button" --overlap 24h
    edfisync keys revoke 7k3mq2xw5f4ab`
}

type keysListCmd struct {
	All bool `help:"List revoked keys too."`
}

// Run lists keys.
func (c *keysListCmd) Run(ctx context.Context, a *app) error {
	return a.lookAtLedger(ctx, func(ledger *syncdb.DB) error {
		all, err := ledger.APIKeys(ctx)
		if err != nil {
			return err
		}
		if !c.All {
			all = slices.DeleteFunc(all, func(k syncdb.APIKey) bool { return !k.RevokedAt.IsZero() })
		}
		if a.JSON {
			a.printJSON(append([]syncdb.APIKey{}, all...))
			return nil
		}
		if len(all) == 0 {
			fmt.Fprintln(a.out, "there are no keys; make one with: edfisync keys create NAME --role operator")
			return nil
		}
		w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "KEY\tNAME\tROLE\tTENANT\tSTUDENT DATA\tMADE\tUSED\tEXPIRES\tSTATE")
		for _, k := range all {
			tenant, student := k.Tenant, "no"
			if tenant == "" {
				tenant = "(all)"
			}
			if k.StudentData {
				student = "yes"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", k.ID, k.Name, k.Role, tenant, student, when(k.CreatedAt), when(k.UsedAt), when(k.ExpiresAt), keyState(k, time.Now()))
		}
		flush(w)
		return nil
	})
}

func keyState(k syncdb.APIKey, now time.Time) string {
	switch {
	case !k.RevokedAt.IsZero():
		return "revoked"
	case !k.ExpiresAt.IsZero() && !now.Before(k.ExpiresAt):
		return "expired"
	case now.Before(k.OldUntil):
		return "rotated; the old secret is good until " + when(k.OldUntil)
	}
	return "good"
}

// days is a time that may be given in days: "365d", "24h".
type days time.Duration

// UnmarshalText reads what is given on the command line.
func (d *days) UnmarshalText(text []byte) error {
	s := string(text)
	if n, ok := strings.CutSuffix(s, "d"); ok {
		s = n + "h"
	}
	v, err := time.ParseDuration(s)
	if s != string(text) {
		v *= 24
	}
	if err != nil || v < 0 {
		return fmt.Errorf("%q is not a time; want one such as 365d or 24h", text)
	}
	*d = days(v)
	return nil
}

type keysCreateCmd struct {
	Name        string   `arg:"" help:"Who uses it, in words."`
	Role        string   `required:"" enum:"viewer,operator,approver,admin,auditor" placeholder:"ROLE" help:"One of viewer, operator, approver, admin, auditor."`
	Tenant      string   `placeholder:"NAME" help:"Bind it to one tenant (default: every tenant)."`
	StudentData bool     `help:"Let it see student data. Each look is noted in the audit trail."`
	Network     []string `placeholder:"CIDR" help:"It may be used from here only, such as 10.20.0.0/16; repeat for more."`
	Expires     days     `placeholder:"TIME" help:"It is good for so long, such as 365d or 24h (default: for ever)."`
}

// keyShown is a key with its secret, the only time it is shown.
type keyShown struct {
	syncdb.APIKey
	Key string `json:"key"`
}

// Run makes a key.
func (c *keysCreateCmd) Run(ctx context.Context, a *app) error {
	cfg, err := a.load()
	if err != nil {
		return err
	}
	spec := console.NewKey{Name: c.Name, Role: c.Role, Tenant: c.Tenant, StudentData: c.StudentData, Networks: c.Network}
	if c.Expires > 0 {
		spec.ExpiresAt = time.Now().Add(time.Duration(c.Expires))
	}
	if err := spec.Check(time.Now()); err != nil {
		return keyError(err)
	}
	ledger, err := openLedger(ctx, cfg) // a service that was never started has none yet
	if err != nil {
		return err
	}
	made, token, err := console.CreateKey(ctx, ledger, spec, operator())
	if err = errors.Join(err, ledger.Close()); err != nil {
		return keyError(err)
	}
	a.showKey(made, token, "made")
	return nil
}

// showKey prints a key with its secret.
func (a *app) showKey(k syncdb.APIKey, token, what string) {
	if a.JSON {
		a.printJSON(keyShown{k, token})
		return
	}
	fmt.Fprintf(a.out, "key %s (%s, %s) is %s; it is not shown again:\n%s\n", k.ID, k.Name, k.Role, what, token)
}

// keyError is an error of a key as a person at a terminal needs it.
func keyError(err error) error {
	var invalid *console.InvalidError
	switch {
	case errors.As(err, &invalid):
		return usageError(errors.New(invalid.Why))
	case errors.Is(err, syncdb.ErrKeyName), errors.Is(err, syncdb.ErrKeyRevoked):
		return usageError(err)
	}
	return err
}

type keysRotateCmd struct {
	Key     string `arg:"" help:"Id of the key, or its name."`
	Overlap days   `default:"24h" placeholder:"TIME" help:"For so long the old secret is good too; 0h ends it at once (default: 24h)."`
}

// Run gives a key a new secret.
func (c *keysRotateCmd) Run(ctx context.Context, a *app) error {
	return a.onKey(ctx, c.Key, func(ledger *syncdb.DB, id string) error {
		k, token, err := console.RotateKey(ctx, ledger, id, time.Duration(c.Overlap), operator())
		if err != nil {
			return keyError(err)
		}
		a.showKey(k, token, "rotated")
		return nil
	})
}

type keysRevokeCmd struct {
	Key string `arg:"" help:"Id of the key, or its name."`
}

// Run ends a key.
func (c *keysRevokeCmd) Run(ctx context.Context, a *app) error {
	return a.onKey(ctx, c.Key, func(ledger *syncdb.DB, id string) error {
		k, err := console.RevokeKey(ctx, ledger, id, operator())
		if err != nil {
			return keyError(err)
		}
		if a.JSON {
			a.printJSON(k)
			return nil
		}
		fmt.Fprintf(a.out, "key %s (%s) is revoked\n", k.ID, k.Name)
		return nil
	})
}

// onKey calls fn with the id of the key somebody names: by its id, or by a name that one key has which is not revoked.
func (a *app) onKey(ctx context.Context, name string, fn func(ledger *syncdb.DB, id string) error) error {
	return a.lookAtLedger(ctx, func(ledger *syncdb.DB) error {
		all, err := ledger.APIKeys(ctx)
		if err != nil {
			return err
		}
		var found []string
		for _, k := range all {
			if k.ID == name {
				return fn(ledger, k.ID)
			}
			if k.Name == name && k.RevokedAt.IsZero() {
				found = append(found, k.ID)
			}
		}
		switch len(found) {
		case 1:
			return fn(ledger, found[0])
		case 0:
			return usageError(fmt.Errorf("there is no key %q; edfisync keys --all lists them", name))
		}
		return usageError(fmt.Errorf("%d keys have the name %q: give the id, one of %s", len(found), name, strings.Join(found, ", ")))
	})
}
