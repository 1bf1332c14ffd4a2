package check

import (
	"slices"
	"strings"
)

// pgBouncerCode is the SQLSTATE protocol_violation. PgBouncer gives it to nearly every error of its
// own, and its older versions also to the errors of the PostgreSQL behind it (send_pooler_error in
// its source).
const pgBouncerCode = "08P01"

// pgBouncerCached is what PgBouncer puts before an error that a server behind it gave to an earlier
// login (check_fast_fail in its source).
const pgBouncerCached = "server login has been failing, cached error: "

// pgBouncerOnlyUs are the beginnings of errors that concern our user, our database, or a connection
// without TLS or without a certificate; others are served. They are from PgBouncer 1.5 to 1.24, and
// the last from PostgreSQL. Every other text counts as trouble, such as "no more connections
// allowed (max_client_conn)", "pgbouncer cannot connect to server" and "pooler is shutting down".
var pgBouncerOnlyUs = []string{
	`"trust" authentication failed`, // no such user
	"no such user", "No such user",
	"no such database: ", "No such database: ",
	"bouncer config error", // auth_type is any, and the database has no user
	"login rejected",       // by the hba file
	"no authentication method is found",
	"SSL required", "TLS connection required", // in the clear, by client_tls_sslmode or the hba file
	"TLS client certificate required", "TLS certificate name mismatch", "certificate authentication failed",

	`role "` + databaseUser + `" does not exist`,
	`role "` + databaseUser + `" is not permitted to log in`,
	`password authentication failed for user "` + databaseUser + `"`,
	`database "postgres" does not exist`,
	"no pg_hba.conf entry for ", "pg_hba.conf rejects connection for ",
}

// onlyUsToPgBouncer reports whether the error of a PgBouncer says that it refuses us and serves
// others.
func onlyUsToPgBouncer(code, text string) bool {
	text = strings.TrimPrefix(text, pgBouncerCached)
	return code == pgBouncerCode && slices.ContainsFunc(pgBouncerOnlyUs, func(start string) bool {
		return strings.HasPrefix(text, start)
	})
}
