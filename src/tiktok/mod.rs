//! TikTok: posts pushed by providers ([`push`]), its webhooks ([`webhook`]), its APIs ([`adapters`], polled by [`poller`]), members'
//! own logins ([`logins`]) and links ([`links`]); and what all of it means ([`understand`]).
//!
//! Whatever told of a post, it is one [`post::Post`] under one key of its site, so that it counts once.

pub mod adapters;
mod calls;
pub mod claims;
pub mod hashtags;
pub mod hashtags_api;
pub mod links;
pub mod login_api;
pub mod logins;
pub mod me_api;
pub mod poller;
pub mod post;
pub mod push;
pub mod push_api;
pub mod signature;
pub mod tracked;
pub mod understand;
pub mod webhook;
pub mod webhook_api;
pub mod words;

use std::sync::Arc;

use self::calls::Calls;
use self::claims::Claims;
use crate::db::Db;
use crate::outbound::Client;
use crate::seal::Sealer;
use crate::sources::settings::TiktokSettings;

/// Speaks with `TikTok` and understands it. Cheap to clone.
#[derive(Clone)]
pub struct Tiktok {
    db: Db,
    sealer: Sealer,
    calls: Calls,
    claims: Claims,
    settings: Arc<TiktokSettings>,
    public_url: Arc<str>,
}

impl Tiktok {
    /// One that calls `TikTok` with `client`; `public_url` is how the outside reaches us, without a slash at the end.
    #[must_use]
    pub fn new(db: Db, sealer: Sealer, client: Client, settings: TiktokSettings, public_url: &str) -> Self {
        Self {
            claims: claims::start(&db),
            db,
            sealer,
            calls: Calls::new(client),
            settings: Arc::new(settings),
            public_url: public_url.into(),
        }
    }

    /// The operator's apps.
    #[must_use]
    pub fn settings(&self) -> &TiktokSettings {
        &self.settings
    }
}
