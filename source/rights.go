package source

import (
	"context"
	"strings"
)

// MayWrite reports whether the account could change data of the SIS, as far as the database tells. We never do, whatever it may: transactions are
// read-only. But an account that may only read keeps the SIS safe from everybody who gets hold of it.
func (d *DB) MayWrite(ctx context.Context) (bool, error) {
	ctx, cancel := d.deadline(ctx)
	defer cancel()
	var may bool
	var err error
	switch d.cfg.Driver {
	case Postgres:
		err = d.db.GetContext(ctx, &may, `select exists (select 1 from pg_catalog.pg_class as t join pg_catalog.pg_namespace as s on s.oid = t.relnamespace
			where t.relkind in ('r', 'p') and s.nspname <> 'information_schema' and s.nspname !~ '^pg_'
			and has_schema_privilege(s.oid, 'USAGE') and has_table_privilege(t.oid, 'INSERT, UPDATE, DELETE, TRUNCATE'))`)
	case MySQL:
		var grants []string
		if err = d.db.SelectContext(ctx, &grants, `show grants`); err == nil {
			may = grantsWrite(grants)
		}
	case SQLServer:
		err = d.db.GetContext(ctx, &may, `select cast(case when has_perms_by_name(db_name(), 'DATABASE', 'INSERT') = 1 or has_perms_by_name(db_name(), 'DATABASE', 'UPDATE') = 1
			or has_perms_by_name(db_name(), 'DATABASE', 'DELETE') = 1 then 1 else 0 end as bit)`)
	}
	if err != nil { // a SQLite file is opened read-only
		return false, d.failure("look at the rights of the account", "", err)
	}
	return may, nil
}

// grantsWrite reads the answer of MySQL's SHOW GRANTS: "GRANT SELECT, INSERT (name) ON `sis`.* TO `sync`@`%`".
func grantsWrite(grants []string) bool {
	for _, grant := range grants {
		privileges, _, ok := strings.Cut(strings.TrimPrefix(grant, "GRANT "), " ON ")
		if !ok {
			continue // a role
		}
		for _, privilege := range strings.Split(privileges, ",") {
			switch word, _, _ := strings.Cut(strings.TrimSpace(privilege), " "); word {
			case "ALL", "INSERT", "UPDATE", "DELETE":
				return true
			}
		}
	}
	return false
}
