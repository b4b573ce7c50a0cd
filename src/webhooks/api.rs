//! Admin API: webhook subscriptions, made, listed, read, changed, tested and deleted.

use entity::id::{AppId, SiteId, SubscriptionId, Timestamp};
use entity::{kinds, subscription};
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::types::MaybeUndefined;
use poem_openapi::{Enum, Object, OpenApi};
use uuid::Uuid;

use super::client_certificate::{self, CertificateChange, CertificateError, facts};
use super::destination::Destinations;
use super::log_api::Attempt;
use super::secrets::{self, WithSecret};
use super::subscriptions::{self, SubscriptionChange, SubscriptionError};
use super::{health, trial};
use crate::app::App;
use crate::http::Tag;
use crate::http::auth::AdminCaller;
use crate::http::body::Body;
use crate::http::paging::{PageRequest, PagingMetadata};
use crate::http::problem::Problem;
use crate::http::wire::{self, Empty};
use crate::outbound::CertificateFacts;

/// The operations.
pub struct WebhookSubscriptionsApi {
    /// The running service.
    pub app: App,
}

/// Where the events of a subscription go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(remote = "kinds::SubscriptionKind", rename = "SubscriptionType", rename_all = "SCREAMING_SNAKE_CASE")]
enum SubscriptionTypeName {
    /// To `url`, by HTTP.
    Webhook,
    /// To the stream of the operator's NATS server.
    Nats,
}

/// Whether a subscription receives events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(
    remote = "kinds::SubscriptionStatus",
    rename = "SubscriptionStatus",
    rename_all = "SCREAMING_SNAKE_CASE"
)]
enum SubscriptionStatusName {
    /// Events are sent.
    Enabled,
    /// Events are held, for up to 30 days.
    Paused,
    /// Events are held, for up to 30 days. A receiver that answers 410 brings its subscription here.
    Disabled,
}

/// What becomes of deliveries that wait for a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(remote = "kinds::HeldDeliveries", rename = "HeldDeliveries", rename_all = "SCREAMING_SNAKE_CASE")]
enum HeldDeliveriesName {
    /// They are sent once it is enabled.
    Release,
    /// They are cancelled now.
    Cancel,
}

/// Which waits lie between the tries of a delivery. Each wait gets up to a tenth more, so that receivers which come back are
/// not met by everybody at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(remote = "kinds::RetryProfile", rename = "RetryProfile", rename_all = "SCREAMING_SNAKE_CASE")]
enum RetryProfileName {
    /// Wix's twelve resends: 1 min, 10 min, 1 h, 3 × 2 h, 3 × 4 h, 2 × 8 h, 12 h.
    Wix,
    /// The Standard Webhooks list: 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h.
    Standard,
    /// The waits in `retryDelaysSeconds`.
    Custom,
}

/// In which order deliveries are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(remote = "kinds::DeliveryOrdering", rename = "DeliveryOrdering", rename_all = "SCREAMING_SNAKE_CASE")]
enum DeliveryOrderingName {
    /// In none: each as soon as it can be.
    Parallel,
    /// Those about one account one after the other: the next waits until the one before was accepted or is exhausted.
    PerEntity,
    /// All one after the other.
    Strict,
}

/// How a webhook is signed in its headers `webhook-id`, `webhook-timestamp` and `webhook-signature`, as Standard Webhooks has
/// it, beside the token that is its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(remote = "kinds::SignatureScheme", rename = "SignatureScheme")]
enum SignatureSchemeName {
    /// `v1`: HMAC-SHA256 with `signingSecret`.
    #[oai(rename = "V1")]
    V1,
    /// `v1a`: Ed25519, verified with `signingPublicKey`.
    #[oai(rename = "V1A")]
    V1a,
}

/// A subscription: the events of a site that go to a URL of an app, or to NATS.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub(super) struct WebhookSubscription {
    /// Its id.
    id: Uuid,
    /// The app whose key signs.
    app_id: Uuid,
    /// The installation named in the envelope.
    app_instance_id: Uuid,
    /// Which events: types, or with `.*` at the end all that begin so, like `wix.loyalty.v1.*`; `*` means all.
    event_types: Vec<String>,
    /// Where they go.
    #[oai(rename = "type")]
    kind: SubscriptionTypeName,
    /// The receiver; absent with type `NATS`.
    url: Option<String>,
    /// Whether it receives events.
    status: SubscriptionStatusName,
    /// Why it is not enabled.
    status_reason: Option<String>,
    /// Since when its receiver has accepted nothing, if it fails. After 5 days the subscription is disabled.
    failing_since_date: Option<String>,
    /// Time limit of one try in milliseconds.
    timeout_ms: i32,
    /// Tries at once.
    max_in_flight: i32,
    /// Which waits lie between tries.
    retry_profile: RetryProfileName,
    /// The waits of profile `CUSTOM`, in seconds.
    retry_delays_seconds: Option<Vec<i64>>,
    /// The certificate that is shown to a receiver which asks for one.
    client_certificate: Option<ClientCertificate>,
    /// In which order deliveries are sent.
    ordering: DeliveryOrderingName,
    /// Tries a second at most; absent without a limit.
    max_per_second: Option<i32>,
    /// The signatures in the headers, beside the token.
    signature_headers: Vec<SignatureSchemeName>,
    /// The Ed25519 key that verifies `v1a` signatures.
    signing_public_key: Option<String>,
    /// Grows with every change; a number as text.
    revision: String,
    /// When it was made.
    created_date: String,
    /// When it last changed.
    updated_date: String,
}

impl From<subscription::Model> for WebhookSubscription {
    fn from(row: subscription::Model) -> Self {
        Self {
            id: row.id.0,
            app_id: row.app_id.0,
            app_instance_id: row.app_instance_id.0,
            event_types: serde_json::from_str(&row.event_types).unwrap_or_default(),
            kind: row.kind.into(),
            url: (row.kind == kinds::SubscriptionKind::Webhook).then_some(row.url),
            status: row.status.into(),
            status_reason: row.status_reason,
            failing_since_date: None,
            timeout_ms: row.timeout_ms,
            max_in_flight: row.in_flight_max,
            retry_profile: row.retry_profile.into(),
            client_certificate: row.client_identity.and_then(|stored| facts(&stored)).map(Into::into),
            retry_delays_seconds: row.retry_delays.and_then(|text| serde_json::from_str(&text).ok()),
            ordering: row.ordering.into(),
            max_per_second: row.rate_limit,
            signature_headers: serde_json::from_str::<Vec<kinds::SignatureScheme>>(&row.signature_headers)
                .map_or_else(|_| Vec::new(), |schemes| schemes.into_iter().map(Into::into).collect()),
            signing_public_key: row.signing_public_key,
            revision: row.revision.to_string(),
            created_date: row.created_at.to_rfc3339(),
            updated_date: row.updated_at.to_rfc3339(),
        }
    }
}

/// A client certificate. Its private key is never shown.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct ClientCertificate {
    /// The common name of its subject, if it has one.
    subject: Option<String>,
    /// SHA-256 of the certificate in hexadecimal.
    sha256_fingerprint: String,
    /// Until when it is good.
    not_after: String,
}

impl From<CertificateFacts> for ClientCertificate {
    fn from(facts: CertificateFacts) -> Self {
        Self {
            subject: facts.subject,
            sha256_fingerprint: facts.sha256_fingerprint,
            not_after: Timestamp(facts.not_after_ms).to_rfc3339(),
        }
    }
}

/// A client certificate to show to the receiver.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct NewClientCertificate {
    /// The certificate in PEM, and behind it those between it and the receiver's root.
    #[oai(validator(min_length = 1, max_length = 32768))]
    certificate_pem: String,
    /// Its private key in PEM, not encrypted: RSA, P-256, P-384, P-521 or Ed25519.
    #[oai(validator(min_length = 1, max_length = 16384))]
    private_key_pem: String,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct CreateSubscriptionRequest {
    webhook_subscription: NewSubscription,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct NewSubscription {
    /// The app; it must be installed on the site.
    app_id: Uuid,
    /// Which events: types, or with `.*` at the end all that begin so, like `wix.loyalty.v1.*`; `*` means all.
    #[oai(validator(min_items = 1, max_items = 20))]
    event_types: Vec<String>,
    /// Where they go; `WEBHOOK` by default. It cannot be changed. With `NATS` every message is the token that a webhook would
    /// have as its body, on the subject `followpoints.<siteId>.<eventType>`.
    #[oai(rename = "type")]
    kind: Option<SubscriptionTypeName>,
    /// With type `WEBHOOK`: the receiver, https, and not in a private network unless the operator allows it.
    #[oai(validator(min_length = 1, max_length = 2048))]
    url: Option<String>,
    /// Time limit of one try in milliseconds; 1250 by default, as Wix has it.
    #[oai(validator(minimum(value = "100"), maximum(value = "15000")))]
    timeout_ms: Option<i32>,
    /// Tries at once; 64 by default.
    #[oai(validator(minimum(value = "1"), maximum(value = "256")))]
    max_in_flight: Option<i32>,
    /// Which waits lie between tries; `WIX` by default.
    retry_profile: Option<RetryProfileName>,
    /// With profile `CUSTOM`: up to 30 waits of 1 to 86400 seconds; none means that nothing is sent twice.
    #[oai(validator(max_items = 30))]
    retry_delays_seconds: Option<Vec<i64>>,
    /// In which order deliveries are sent; `PARALLEL` by default.
    ordering: Option<DeliveryOrderingName>,
    /// Tries a second at most; without a limit by default.
    #[oai(validator(minimum(value = "1"), maximum(value = "10000")))]
    max_per_second: Option<i32>,
    /// Signatures in the headers, beside the token; none by default.
    #[oai(validator(max_items = 2))]
    signature_headers: Option<Vec<SignatureSchemeName>>,
    /// `ENABLED` by default.
    status: Option<SubscriptionStatusName>,
    /// The certificate to show to a receiver that asks for one.
    client_certificate: Option<NewClientCertificate>,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct UpdateSubscriptionRequest {
    webhook_subscription: SubscriptionUpdate,
}

/// What is absent stays.
#[derive(Debug, Object)]
#[oai(rename = "WebhookSubscriptionUpdate", rename_all = "camelCase")]
struct SubscriptionUpdate {
    /// Which events: types, or with `.*` at the end all that begin so, like `wix.loyalty.v1.*`; `*` means all.
    #[oai(validator(min_items = 1, max_items = 20))]
    event_types: Option<Vec<String>>,
    /// With type `WEBHOOK`: where they go.
    #[oai(validator(min_length = 1, max_length = 2048))]
    url: Option<String>,
    /// Time limit of one try in milliseconds.
    #[oai(validator(minimum(value = "100"), maximum(value = "15000")))]
    timeout_ms: Option<i32>,
    /// Tries at once.
    #[oai(validator(minimum(value = "1"), maximum(value = "256")))]
    max_in_flight: Option<i32>,
    /// Which waits lie between tries. What already waits for its next try keeps that time.
    retry_profile: Option<RetryProfileName>,
    /// With profile `CUSTOM`: up to 30 waits of 1 to 86400 seconds; none means that nothing is sent twice.
    #[oai(validator(max_items = 30))]
    retry_delays_seconds: Option<Vec<i64>>,
    /// In which order deliveries are sent. It counts for events from now on.
    ordering: Option<DeliveryOrderingName>,
    /// Tries a second at most; 0 for no limit.
    #[oai(validator(minimum(value = "0"), maximum(value = "10000")))]
    max_per_second: Option<i32>,
    /// Signatures in the headers, beside the token. One that is left out and comes back has the secret that it had.
    #[oai(validator(max_items = 2))]
    signature_headers: Option<Vec<SignatureSchemeName>>,
    /// Whether it receives events.
    status: Option<SubscriptionStatusName>,
    /// What becomes of the deliveries that wait for it at this moment; `RELEASE` by default.
    held_deliveries: Option<HeldDeliveriesName>,
    /// The certificate to show to a receiver that asks for one; `null` removes the one there is.
    client_certificate: MaybeUndefined<NewClientCertificate>,
    /// The revision that was read; a newer one answers 409.
    #[oai(validator(max_length = 20))]
    revision: Option<String>,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub(super) struct SubscriptionResponse {
    webhook_subscription: WebhookSubscription,
    /// The secret of `v1` signatures, if it was made by this request; it is not shown again.
    signing_secret: Option<String>,
}

impl SubscriptionResponse {
    pub(super) fn with_secret((row, signing_secret): WithSecret) -> Self {
        Self { webhook_subscription: row.into(), signing_secret }
    }
}

/// What became of a test event.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct WebhookTest {
    /// The id of the test event.
    event_id: Uuid,
    /// Whether the receiver accepted it: any status from 200 to 299, or with type `NATS` an acknowledgement.
    accepted: bool,
    /// The one try.
    attempt: Attempt,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct TestSubscriptionResponse {
    webhook_test: WebhookTest,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct ListSubscriptionsResponse {
    webhook_subscriptions: Vec<WebhookSubscription>,
    paging_metadata: PagingMetadata,
}

#[OpenApi(prefix_path = "/admin/v1", tag = "Tag::Webhooks")]
impl WebhookSubscriptionsApi {
    /// Create a webhook subscription
    ///
    /// The app must be installed on the site. Every event committed from now on goes to the URL, or to NATS, at least once.
    #[oai(path = "/webhook-subscriptions", method = "post", operation_id = "createWebhookSubscription")]
    async fn create_webhook_subscription(
        &self,
        caller: AdminCaller,
        body: Body<CreateSubscriptionRequest>,
    ) -> Result<Json<SubscriptionResponse>, Problem> {
        let site = caller.site()?;
        let new = body.0.webhook_subscription;
        let change = SubscriptionChange {
            kind: new.kind.map(Into::into),
            url: new.url,
            event_types: Some(new.event_types),
            status: new.status.map(Into::into),
            timeout_ms: new.timeout_ms,
            in_flight_max: new.max_in_flight,
            retry_profile: new.retry_profile.map(Into::into),
            retry_delays: new.retry_delays_seconds,
            certificate: match new.client_certificate {
                Some(certificate) => self.certificate(site, &certificate)?,
                None => CertificateChange::Keep,
            },
            ordering: new.ordering.map(Into::into),
            rate_limit: new.max_per_second,
            signature_headers: new.signature_headers.map(schemes),
            held: None,
            revision: None,
        };
        let whose = (caller.viewer()?, site, AppId(new.app_id));
        let tx = self.app.db.write().await?;
        let App { client, streams, sealer, .. } = &self.app;
        let destinations = Destinations { guard: client.guard(), has_nats: streams.is_some() };
        let row = subscriptions::create_subscription(&tx, destinations, whose, change).await?;
        let made = secrets::provide(&tx, sealer, row).await?;
        tx.commit().await?;
        Ok(Json(SubscriptionResponse::with_secret(made)))
    }

    /// List webhook subscriptions
    ///
    /// Newest first.
    #[oai(path = "/webhook-subscriptions", method = "get", operation_id = "listWebhookSubscriptions")]
    async fn list_webhook_subscriptions(
        &self,
        caller: AdminCaller,
        /// Where to go on.
        cursor: Query<Option<String>>,
        /// Items of a page, 1 to 100.
        limit: Query<Option<u32>>,
    ) -> Result<Json<ListSubscriptionsResponse>, Problem> {
        let site = caller.site()?;
        let page = PageRequest::new(cursor.0.as_deref(), limit.0, ())?;
        let before = page.after.map(SubscriptionId);
        let rows = subscriptions::list_subscriptions(self.app.db.read(), site, before, page.rows()).await?;
        let (rows, paging_metadata) = page.finish(rows, |row| row.id.0);
        let ids: Vec<SubscriptionId> = rows.iter().map(|row| row.id).collect();
        let failing = health::failing(self.app.db.read(), &ids).await?;
        let with_health = |row: subscription::Model| WebhookSubscription {
            failing_since_date: failing.get(&row.id).map(|since| since.to_rfc3339()),
            ..WebhookSubscription::from(row)
        };
        let webhook_subscriptions = rows.into_iter().map(with_health).collect();
        Ok(Json(ListSubscriptionsResponse { webhook_subscriptions, paging_metadata }))
    }

    /// Get a webhook subscription
    #[oai(path = "/webhook-subscriptions/:id", method = "get", operation_id = "getWebhookSubscription")]
    async fn get_webhook_subscription(
        &self,
        caller: AdminCaller,
        /// The subscription.
        id: Path<Uuid>,
    ) -> Result<Json<SubscriptionResponse>, Problem> {
        let id = SubscriptionId(id.0);
        let row = subscriptions::find_subscription(self.app.db.read(), caller.site()?, id).await?;
        let row = row.ok_or(SubscriptionError::NotFound)?;
        let failing = health::failing(self.app.db.read(), &[id]).await?;
        let failing_since_date = failing.get(&id).map(|since| since.to_rfc3339());
        let webhook_subscription = WebhookSubscription { failing_since_date, ..row.into() };
        Ok(Json(SubscriptionResponse { webhook_subscription, signing_secret: None }))
    }

    /// Update a webhook subscription
    ///
    /// While it is paused or disabled, events are held for it; enabling it sends them, or not with `heldDeliveries` `CANCEL`.
    #[oai(path = "/webhook-subscriptions/:id", method = "patch", operation_id = "updateWebhookSubscription")]
    async fn update_webhook_subscription(
        &self,
        caller: AdminCaller,
        /// The subscription.
        id: Path<Uuid>,
        body: Body<UpdateSubscriptionRequest>,
    ) -> Result<Json<SubscriptionResponse>, Problem> {
        let site = caller.site()?;
        let update = body.0.webhook_subscription;
        let change = SubscriptionChange {
            kind: None,
            url: update.url,
            event_types: update.event_types,
            status: update.status.map(Into::into),
            timeout_ms: update.timeout_ms,
            in_flight_max: update.max_in_flight,
            retry_profile: update.retry_profile.map(Into::into),
            retry_delays: update.retry_delays_seconds,
            certificate: match update.client_certificate {
                MaybeUndefined::Undefined => CertificateChange::Keep,
                MaybeUndefined::Null => CertificateChange::Remove,
                MaybeUndefined::Value(certificate) => self.certificate(site, &certificate)?,
            },
            ordering: update.ordering.map(Into::into),
            rate_limit: update.max_per_second,
            signature_headers: update.signature_headers.map(schemes),
            held: update.held_deliveries.map(Into::into),
            revision: wire::revision(update.revision.as_deref(), "webhookSubscription.revision")?,
        };
        let tx = self.app.db.write().await?;
        let whose = (site, SubscriptionId(id.0));
        let row = subscriptions::change_subscription(&tx, self.app.client.guard(), whose, change).await?;
        let changed = secrets::provide(&tx, &self.app.sealer, row).await?;
        tx.commit().await?;
        self.app.dispatcher.requeue(whose.1);
        Ok(Json(SubscriptionResponse::with_secret(changed)))
    }

    /// Send a test event
    ///
    /// At once and once, also to a subscription that is not enabled: an event of type `followpoints.webhooks.v1.test`, signed
    /// like every other. It is not kept and not sent again.
    #[oai(
        path = "/webhook-subscriptions/:id/test",
        method = "post",
        operation_id = "testWebhookSubscription"
    )]
    async fn test_webhook_subscription(
        &self,
        caller: AdminCaller,
        /// The subscription.
        id: Path<Uuid>,
    ) -> Result<Json<TestSubscriptionResponse>, Problem> {
        let id = SubscriptionId(id.0);
        let App { db, dispatcher, .. } = &self.app;
        let row = subscriptions::find_subscription(db.read(), caller.site()?, id).await?;
        let job = trial::test_job(db, row.ok_or(SubscriptionError::NotFound)?, &caller.identity());
        let (tried, accepted) = dispatcher.test(&job).await;
        let event_id = job.event.id.0;
        let webhook_test = WebhookTest { event_id, accepted, attempt: Attempt::first(tried) };
        Ok(Json(TestSubscriptionResponse { webhook_test }))
    }

    /// Delete a webhook subscription
    ///
    /// What was still waiting for it is cancelled.
    #[oai(path = "/webhook-subscriptions/:id", method = "delete", operation_id = "deleteWebhookSubscription")]
    async fn delete_webhook_subscription(
        &self,
        caller: AdminCaller,
        /// The subscription.
        id: Path<Uuid>,
    ) -> Result<Json<Empty>, Problem> {
        let site = caller.site()?;
        let tx = self.app.db.write().await?;
        subscriptions::delete_subscription(&tx, site, SubscriptionId(id.0)).await?;
        tx.commit().await?;
        self.app.dispatcher.requeue(SubscriptionId(id.0));
        Ok(Json(Empty {}))
    }
}

impl WebhookSubscriptionsApi {
    fn certificate(&self, site: SiteId, new: &NewClientCertificate) -> Result<CertificateChange, Problem> {
        let App { sealer, db, .. } = &self.app;
        let pair = (new.certificate_pem.as_str(), new.private_key_pem.as_str());
        Ok(CertificateChange::Set(client_certificate::store(sealer, site, db.now(), pair)?))
    }
}

fn schemes(names: Vec<SignatureSchemeName>) -> Vec<kinds::SignatureScheme> {
    names.into_iter().map(Into::into).collect()
}

impl From<CertificateError> for Problem {
    fn from(error: CertificateError) -> Self {
        let text = error.to_string();
        let refused = |field, text| {
            Self::invalid(format!("webhookSubscription.clientCertificate.{field}"), "FORMAT", text)
        };
        match error {
            CertificateError::Certificate(_) => refused("certificatePem", text),
            CertificateError::PrivateKey(_) => refused("privateKeyPem", text),
            CertificateError::Seal(cause) => Self::from(cause),
        }
    }
}

impl From<SubscriptionError> for Problem {
    fn from(error: SubscriptionError) -> Self {
        let text = error.to_string();
        match error {
            SubscriptionError::NotFound => Self::not_found("WEBHOOK_SUBSCRIPTION_NOT_FOUND", text),
            SubscriptionError::AppNotFound => Self::not_found("APP_NOT_FOUND", text),
            SubscriptionError::AppNotInstalled => Self::precondition("APP_NOT_INSTALLED", text),
            SubscriptionError::Url(_) | SubscriptionError::UrlOfStream => {
                Self::invalid("webhookSubscription.url", "FORMAT", text)
            }
            SubscriptionError::UrlMissing => Self::invalid("webhookSubscription.url", "REQUIRED_FIELD", text),
            SubscriptionError::NatsNotConfigured => Self::precondition("NATS_NOT_CONFIGURED", text),
            SubscriptionError::NatsOtherApp => Self::precondition("NATS_OTHER_APP", text),
            SubscriptionError::EventType { index } => {
                Self::invalid(format!("webhookSubscription.eventTypes[{index}]"), "INVALID_ENUM_VALUE", text)
            }
            SubscriptionError::RetryDelays { rule, .. } => {
                Self::invalid("webhookSubscription.retryDelaysSeconds", rule, text)
            }
            SubscriptionError::StaleRevision => Self::stale_revision(),
            SubscriptionError::TooMany => Self::precondition("TOO_MANY_SUBSCRIPTIONS", text),
            SubscriptionError::Store(cause) => Self::from(cause),
        }
    }
}
