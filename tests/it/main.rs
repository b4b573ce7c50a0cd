//! The integration tests, one binary. Every scenario runs on SQLite and on PostgreSQL.

#![expect(unreachable_pub, reason = "everything is used within this binary")]

mod follows;
mod outbound;
mod support;
