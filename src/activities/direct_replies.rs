//! Answers to those whose message has proven their handle, if the owner wants it.
//!
//! An answer is stored in the transaction that uses up the code: there is one for each code, and its echo, which has none, leads to no
//! other.

use entity::direct_reply;
use entity::id::Timestamp;

use crate::rows::{Rows, Write};

/// How long after a message Instagram takes an answer to it, in milliseconds.
pub const WINDOW_MS: i64 = 24 * 3_600_000;

/// To write answers to what was written within [`WINDOW_MS`] of now.
#[must_use]
pub fn writes(replies: &[direct_reply::Model], now: Timestamp) -> Write {
    let timely: Vec<&direct_reply::Model> = replies.iter().filter(|reply| reply.expires_at > now).collect();
    Rows::new(&timely)
        .uuid("item_id", |row| row.item_id.0)
        .uuid("site_id", |row| row.site_id.0)
        .text("account", |row| row.account.as_str())
        .text("person", |row| row.person.as_str())
        .text("message", |row| row.message.as_str())
        .int("attempts", |row| row.attempts.into())
        .int("due_at", |row| row.due_at.0)
        .int("expires_at", |row| row.expires_at.0)
        .insert("direct_reply", " ON CONFLICT (item_id) DO NOTHING")
}
