//! How far the work on something that a platform sent is, once it was recorded.

use entity::id::SiteId;
use entity::item;
use entity::kinds::ItemStatus;

use crate::db::Tx;
use crate::inbox::{PARKED_MS, Settled};

/// To be done with `item`, of `site` if that is known; why, unless everything came of it.
#[must_use]
pub(super) fn done(tx: &Tx, item: &item::Model, site: Option<SiteId>, reason: Option<String>) -> Settled {
    Settled {
        id: item.id,
        site,
        handle: None,
        status: ItemStatus::Done,
        reason,
        due_at: tx.now(),
        expires_at: None,
    }
}

/// To have `item` wait for its person until thirty days after it came; then nothing more comes of it.
#[must_use]
pub(super) fn park(
    tx: &Tx,
    item: &item::Model,
    site: SiteId,
    handle: Option<String>,
    reason: String,
) -> Settled {
    let expires_at = item.received_at.plus_ms(PARKED_MS);
    if expires_at <= tx.now() {
        let reason = format!("nobody came forward within 30 days: {reason}");
        return Settled { handle, ..done(tx, item, Some(site), Some(reason)) };
    }
    Settled {
        status: ItemStatus::Parked,
        handle,
        due_at: expires_at,
        expires_at: Some(expires_at),
        ..done(tx, item, Some(site), Some(reason))
    }
}
