//! Webhook subscriptions: which events of a site go to which URL of which app.

use entity::id::{AppId, SiteId, SubscriptionId};
use entity::kinds::{
    DeliveryOrdering, DeliveryStatus, HeldDeliveries, RetryProfile, SignatureScheme, SubscriptionKind,
    SubscriptionStatus,
};
use entity::{delivery, endpoint, subscription};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel, QueryFilter,
    QueryOrder, QuerySelect,
};

use super::client_certificate::{self, CertificateError, GivenCertificate};
use super::custom_headers::{self, GivenHeader, HeadersError};
use super::delivery::WAITING;
use super::destination::{self, Destinations};
use super::filter::Filter;
use super::schedule::DELAY_S_MAX;
use super::{EventType, endpoints, health, replays, secrets};
use crate::apps::{self, Viewer};
use crate::change::Change;
use crate::db::Tx;
use crate::outbound::{Guard, UrlProblem};
use crate::seal::Sealer;
use crate::sites::config;

/// Time limit of one try unless the subscription says otherwise, as Wix has it.
pub const TIMEOUT_MS_DEFAULT: i32 = 1_250;
/// Tries at once unless the subscription says otherwise. Half a second of latency then still allows 128 events a second.
pub const IN_FLIGHT_DEFAULT: i32 = 64;
/// Subscriptions of one site.
pub const SUBSCRIPTIONS_MAX: u64 = 1_000;

/// A subscription to make or to change; what is `None` stays, or takes its default.
#[derive(Debug, Default)]
pub struct SubscriptionChange {
    /// Where events go; stays what it was made with.
    pub kind: Option<SubscriptionKind>,
    /// The receiver of a webhook.
    pub url: Option<String>,
    /// Which events: types, or patterns as [`EventType::matching`] knows them.
    pub event_types: Option<Vec<String>>,
    /// Whether it receives events.
    pub status: Option<SubscriptionStatus>,
    /// Time limit of one try.
    pub timeout_ms: Option<i32>,
    /// Tries at once.
    pub in_flight_max: Option<i32>,
    /// Which waits lie between tries.
    pub retry_profile: Option<RetryProfile>,
    /// The waits of [`RetryProfile::Custom`], in seconds.
    pub retry_delays: Option<Vec<i64>>,
    /// The certificate that it shows.
    pub certificate: Change<GivenCertificate>,
    /// In which order deliveries are sent.
    pub ordering: Option<DeliveryOrdering>,
    /// Tries a second at most; zero for as many as there are.
    pub rate_limit: Option<i32>,
    /// The signatures that go into the headers.
    pub signature_headers: Option<Vec<SignatureScheme>>,
    /// What events must say.
    pub filter: Option<Filter>,
    /// Headers of its own.
    pub custom_headers: Change<Vec<GivenHeader>>,
    /// What becomes of the deliveries that wait for it.
    pub held: Option<HeldDeliveries>,
    /// Only if nobody changed it since.
    pub revision: Option<i64>,
}

/// Why a subscription was not made or changed.
#[derive(Debug, thiserror::Error)]
pub enum SubscriptionError {
    /// The site has no such subscription.
    #[error("there is no such webhook subscription")]
    NotFound,
    /// There is no such app, or the site cannot see it.
    #[error("there is no such app")]
    AppNotFound,
    /// The app must be installed first.
    #[error("the app is not installed on this site; create an app instance first")]
    AppNotInstalled,
    /// The URL is not acceptable.
    #[error(transparent)]
    Url(#[from] UrlProblem),
    /// A webhook needs a URL.
    #[error("is required with type WEBHOOK")]
    UrlMissing,
    /// Only a webhook has a URL.
    #[error("is only for type WEBHOOK: where the operator's NATS server is, the operator says")]
    UrlOfStream,
    /// What only a request over HTTP has.
    #[error("is only for type WEBHOOK")]
    OnlyForWebhook {
        /// Which field of the subscription.
        field: &'static str,
    },
    /// The headers are not acceptable.
    #[error(transparent)]
    Headers(#[from] HeadersError),
    /// The certificate is not acceptable.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// No number of points is in the range.
    #[error("is not above pointsMax")]
    FilterRange,
    /// The operator has named no NATS server.
    #[error("this service has no NATS server; its operator must set FOLLOWPOINTS_NATS_URL")]
    NatsNotConfigured,
    /// The stream has the site's events signed by another app.
    #[error(
        "the site's events are already published to NATS signed by another app; the stream keeps each event once"
    )]
    NatsOtherApp,
    /// No type of event is meant.
    #[error("is neither a type of event nor, with .* at the end, the beginning of one")]
    EventType {
        /// Its place in the list.
        index: usize,
    },
    /// The waits between tries are not acceptable.
    #[error("{what}")]
    RetryDelays {
        /// The rule that they violate.
        rule: &'static str,
        /// The same in words.
        what: &'static str,
    },
    /// Somebody changed it since.
    #[error("entity has already changed since the requested revision")]
    StaleRevision,
    /// The site has too many.
    #[error("a site has at most {SUBSCRIPTIONS_MAX} webhook subscriptions")]
    TooMany,
    /// The database failed.
    #[error("the database failed")]
    Store(#[from] DbErr),
}

/// Makes a subscription of `app` on `site`, where the app must be installed.
pub async fn create_subscription(
    tx: &Tx,
    sealer: &Sealer,
    destinations: Destinations<'_>,
    (viewer, site, app): (Viewer, SiteId, AppId),
    new: SubscriptionChange,
) -> Result<subscription::Model, SubscriptionError> {
    let kind = new.kind.unwrap_or(SubscriptionKind::Webhook);
    check(kind, &new)?;
    let url = destinations.checked(kind, new.url)?;
    let (retry_profile, retry_delays) =
        retries(new.retry_profile.unwrap_or(RetryProfile::Wix), new.retry_delays, None)?;
    config::touch(tx, site).await?;
    apps::find_visible_app(tx.conn(), viewer, app).await?.ok_or(SubscriptionError::AppNotFound)?;
    let instance =
        apps::find_instance_of(tx.conn(), site, app).await?.ok_or(SubscriptionError::AppNotInstalled)?;
    let of_site = subscription::Entity::find().filter(subscription::Column::SiteId.eq(site));
    if sea_orm::PaginatorTrait::count(of_site, tx.conn()).await? >= SUBSCRIPTIONS_MAX {
        return Err(SubscriptionError::TooMany);
    }
    if kind == SubscriptionKind::Nats {
        destination::check_app(tx, site, app).await?;
    }
    let (client_identity, custom_headers) =
        secret_parts(tx, sealer, site, (new.certificate, new.custom_headers), (None, None))?;
    let status = new.status.unwrap_or(SubscriptionStatus::Enabled);
    let model = subscription::Model {
        id: SubscriptionId(tx.new_id()),
        site_id: site,
        app_id: app,
        app_instance_id: instance.id,
        kind,
        url,
        event_types: patterns(&new.event_types.unwrap_or_default())?,
        status,
        status_reason: owners_reason(status),
        held_since: (status != SubscriptionStatus::Enabled).then(|| tx.now()),
        timeout_ms: new.timeout_ms.unwrap_or(TIMEOUT_MS_DEFAULT),
        in_flight_max: new.in_flight_max.unwrap_or(IN_FLIGHT_DEFAULT),
        retry_profile,
        retry_delays,
        client_identity,
        ordering: new.ordering.unwrap_or(DeliveryOrdering::Parallel),
        rate_limit: new.rate_limit.filter(|rate| *rate > 0),
        filter: stored_filter(&new.filter.unwrap_or_default()),
        custom_headers,
        signature_headers: signatures(&new.signature_headers.unwrap_or_default()),
        signing_public_key: None,
        revision: 1,
        created_at: tx.now(),
        updated_at: tx.now(),
    };
    subscription::Entity::insert(subscription::ActiveModel::from(model.clone()))
        .exec_without_returning(tx.conn())
        .await?;
    let endpoint = endpoints::new(site, model.id, model.ordering != DeliveryOrdering::Parallel);
    endpoint::Entity::insert(endpoint).exec_without_returning(tx.conn()).await?;
    Ok(model)
}

/// What is sealed, as it is stored.
type Stored = Option<Vec<u8>>;

/// The certificate and the headers as they are stored after the changes, with what is stored `earlier`.
fn secret_parts(
    tx: &Tx,
    sealer: &Sealer,
    site: SiteId,
    (certificate, headers): (Change<GivenCertificate>, Change<Vec<GivenHeader>>),
    earlier: (Stored, Stored),
) -> Result<(Stored, Stored), SubscriptionError> {
    let certificate = certificate.try_applied(earlier.0, |given, stored| {
        client_certificate::store(sealer, site, tx.now(), &given, stored).map(Some)
    })?;
    let headers = headers.try_applied(earlier.1, |given, stored| {
        custom_headers::store(sealer, site, given, stored.as_deref())
    })?;
    Ok((certificate, headers))
}

/// What does not depend on how the subscription is.
fn check(kind: SubscriptionKind, change: &SubscriptionChange) -> Result<(), SubscriptionError> {
    if change.filter.as_ref().is_some_and(Filter::is_impossible) {
        return Err(SubscriptionError::FilterRange);
    }
    if kind == SubscriptionKind::Nats {
        let is_signed = change.signature_headers.as_ref().is_some_and(|schemes| !schemes.is_empty());
        let parts = [
            ("clientCertificate", matches!(change.certificate, Change::Set(_))),
            ("customHeaders", matches!(change.custom_headers, Change::Set(_))),
            ("signatureHeaders", is_signed),
        ];
        if let Some((field, _)) = parts.into_iter().find(|(_, is_set)| *is_set) {
            return Err(SubscriptionError::OnlyForWebhook { field });
        }
    }
    Ok(())
}

/// Changes the subscription `id` of `site`.
pub async fn change_subscription(
    tx: &Tx,
    guard: &Guard,
    sealer: &Sealer,
    (site, id): (SiteId, SubscriptionId),
    change: SubscriptionChange,
) -> Result<subscription::Model, SubscriptionError> {
    config::touch(tx, site).await?;
    endpoints::hold(tx, &[id]).await?;
    let mut row = find_subscription(tx.conn(), site, id).await?.ok_or(SubscriptionError::NotFound)?;
    if change.revision.is_some_and(|revision| revision != row.revision) {
        return Err(SubscriptionError::StaleRevision);
    }
    check(row.kind, &change)?;
    if let Some(url) = change.url {
        if row.kind != SubscriptionKind::Webhook {
            return Err(SubscriptionError::UrlOfStream);
        }
        guard.check_url(&url)?;
        if url != row.url {
            // What is known is of another receiver.
            health::reset(tx, id).await?;
        }
        row.url = url;
    }
    if let Some(event_types) = change.event_types {
        row.event_types = patterns(&event_types)?;
    }
    if let Some(status) = change.status.filter(|status| *status != row.status) {
        if status == SubscriptionStatus::Enabled {
            health::reset(tx, id).await?;
        }
        row.status = status;
        let held_since = row.held_since.unwrap_or_else(|| tx.now());
        row.held_since = (status != SubscriptionStatus::Enabled).then_some(held_since);
        row.status_reason = owners_reason(status);
    }
    let profile = change.retry_profile.unwrap_or(row.retry_profile);
    (row.retry_profile, row.retry_delays) = retries(profile, change.retry_delays, row.retry_delays.take())?;
    if let Some(filter) = change.filter {
        row.filter = stored_filter(&filter);
    }
    (row.client_identity, row.custom_headers) = secret_parts(
        tx,
        sealer,
        site,
        (change.certificate, change.custom_headers),
        (row.client_identity.take(), row.custom_headers.take()),
    )?;
    if let Some(ordering) = change.ordering {
        row.ordering = ordering;
    }
    if let Some(rate) = change.rate_limit {
        row.rate_limit = Some(rate).filter(|rate| *rate > 0);
    }
    if let Some(schemes) = change.signature_headers {
        row.signature_headers = signatures(&schemes);
    }
    row.timeout_ms = change.timeout_ms.unwrap_or(row.timeout_ms);
    row.in_flight_max = change.in_flight_max.unwrap_or(row.in_flight_max);
    if change.held == Some(HeldDeliveries::Cancel) {
        cancel_waiting(tx, id).await?;
    }
    row.revision += 1;
    row.updated_at = tx.now();
    row.clone().into_active_model().reset_all().update(tx.conn()).await?;
    endpoints::changed(tx, id, row.ordering != DeliveryOrdering::Parallel).await?;
    Ok(row)
}

/// What is said of a status that the owner chose.
fn owners_reason(status: SubscriptionStatus) -> Option<String> {
    let reason = match status {
        SubscriptionStatus::Enabled => return None,
        SubscriptionStatus::Paused => "paused by the owner",
        SubscriptionStatus::Disabled => "disabled by the owner",
    };
    Some(reason.to_owned())
}

/// Deletes the subscription `id` of `site`; what was still waiting for it is cancelled, and so is its replay.
pub async fn delete_subscription(tx: &Tx, site: SiteId, id: SubscriptionId) -> Result<(), SubscriptionError> {
    config::touch(tx, site).await?;
    endpoints::hold(tx, &[id]).await?;
    find_subscription(tx.conn(), site, id).await?.ok_or(SubscriptionError::NotFound)?;
    cancel_waiting(tx, id).await?;
    endpoints::delete(tx, id).await?;
    secrets::delete_all(tx, id).await?;
    subscription::Entity::delete_by_id(id).exec(tx.conn()).await?;
    Ok(())
}

/// Cancels what waits for the subscription, and the replay that would have more wait.
async fn cancel_waiting(tx: &Tx, id: SubscriptionId) -> Result<(), DbErr> {
    replays::cancel_all(tx, id).await?;
    delivery::Entity::update_many()
        .col_expr(delivery::Column::Status, Expr::val(DeliveryStatus::Cancelled.as_str()))
        .col_expr(delivery::Column::FinishedAt, Expr::val(tx.now().0))
        .filter(delivery::Column::SubscriptionId.eq(id))
        .filter(delivery::Column::Status.is_in(WAITING))
        .exec(tx.conn())
        .await?;
    Ok(())
}

/// The subscription `id` of `site`.
pub async fn find_subscription(
    db: &impl ConnectionTrait,
    site: SiteId,
    id: SubscriptionId,
) -> Result<Option<subscription::Model>, DbErr> {
    subscription::Entity::find_by_id(id).filter(subscription::Column::SiteId.eq(site)).one(db).await
}

/// Subscriptions of `site` from the newest, after `before`.
pub async fn list_subscriptions(
    db: &impl ConnectionTrait,
    site: SiteId,
    before: Option<SubscriptionId>,
    limit: u64,
) -> Result<Vec<subscription::Model>, DbErr> {
    let mut query = subscription::Entity::find().filter(subscription::Column::SiteId.eq(site));
    if let Some(before) = before {
        query = query.filter(subscription::Column::Id.lt(before));
    }
    query.order_by_desc(subscription::Column::Id).limit(limit).all(db).await
}

/// The profile and, if it is the subscription's own, its waits as they are stored: the new ones, else the earlier ones.
fn retries(
    profile: RetryProfile,
    delays: Option<Vec<i64>>,
    earlier: Option<String>,
) -> Result<(RetryProfile, Option<String>), SubscriptionError> {
    let refused = |rule, what| Err(SubscriptionError::RetryDelays { rule, what });
    match (profile, delays) {
        (RetryProfile::Custom, Some(delays))
            if delays.iter().all(|delay| (1..=DELAY_S_MAX).contains(delay)) =>
        {
            Ok((profile, Some(serde_json::Value::from(delays).to_string())))
        }
        (RetryProfile::Custom, Some(_)) => refused("FORMAT", "each wait is from 1 second to 86400, a day"),
        (RetryProfile::Custom, None) if earlier.is_some() => Ok((profile, earlier)),
        (RetryProfile::Custom, None) => {
            refused("REQUIRED_FIELD", "is required with retryProfile CUSTOM; an empty list means no resend")
        }
        (_, Some(_)) => refused("FORMAT", "is only for retryProfile CUSTOM"),
        (_, None) => Ok((profile, None)),
    }
}

/// The list as it is stored, each scheme once.
fn signatures(schemes: &[SignatureScheme]) -> String {
    let named = SignatureScheme::ALL.iter().filter(|scheme| schemes.contains(scheme));
    named.map(|scheme| scheme.as_str()).collect::<serde_json::Value>().to_string()
}

fn stored_filter(filter: &Filter) -> Option<String> {
    (!filter.is_empty()).then(|| serde_json::to_string(filter).ok()).flatten()
}

/// The list as it is stored, each pattern once.
fn patterns(event_types: &[String]) -> Result<String, SubscriptionError> {
    let mut patterns: Vec<&str> = Vec::with_capacity(event_types.len());
    for (index, pattern) in event_types.iter().enumerate() {
        if EventType::matching(pattern).is_empty() {
            return Err(SubscriptionError::EventType { index });
        }
        if !patterns.contains(&pattern.as_str()) {
            patterns.push(pattern);
        }
    }
    Ok(serde_json::Value::from(patterns).to_string())
}
