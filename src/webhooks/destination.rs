//! Where events may go: to URLs that the guard lets through, and to the operator's NATS server, if there is one.

use entity::id::{AppId, SiteId};
use entity::kinds::SubscriptionKind;
use entity::subscription;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use super::subscriptions::SubscriptionError;
use crate::db::Tx;
use crate::outbound::Guard;
use crate::sites::config;

/// Where events may go.
#[derive(Clone, Copy)]
pub struct Destinations<'a> {
    /// Judges URLs.
    pub guard: &'a Guard,
    /// Whether the operator has a NATS server.
    pub has_nats: bool,
}

impl Destinations<'_> {
    /// The URL as it is stored, if a subscription of this kind may have it.
    pub(super) fn checked(
        self,
        kind: SubscriptionKind,
        url: Option<String>,
    ) -> Result<String, SubscriptionError> {
        match (kind, url) {
            (SubscriptionKind::Webhook, Some(url)) => {
                self.guard.check_url(&url)?;
                Ok(url)
            }
            (SubscriptionKind::Webhook, None) => Err(SubscriptionError::UrlMissing),
            (SubscriptionKind::Nats, Some(_)) => Err(SubscriptionError::UrlOfStream),
            (SubscriptionKind::Nats, None) if self.has_nats => Ok(String::new()),
            (SubscriptionKind::Nats, None) => Err(SubscriptionError::NatsNotConfigured),
        }
    }
}

/// Whether `app` may publish the events of `site`. The stream knows an event by its id and keeps it once: of two apps that sign
/// it, it would keep whichever came first.
pub(super) async fn check_app(tx: &Tx, site: SiteId, app: AppId) -> Result<(), SubscriptionError> {
    // Holds off whoever does the same at this moment.
    config::touch(tx, site).await?;
    let of_others = subscription::Entity::find()
        .filter(subscription::Column::SiteId.eq(site))
        .filter(subscription::Column::Kind.eq(SubscriptionKind::Nats))
        .filter(subscription::Column::AppId.ne(app));
    match of_others.one(tx.conn()).await? {
        Some(_) => Err(SubscriptionError::NatsOtherApp),
        None => Ok(()),
    }
}
