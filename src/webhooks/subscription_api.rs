//! The JSON of webhook subscriptions: what is shown, what is sent in, and what the settings mean.

use entity::id::Timestamp;
use entity::{kinds, subscription};
use poem_openapi::types::MaybeUndefined;
use poem_openapi::{Enum, Object};
use uuid::Uuid;

use super::client_certificate::{GivenCertificate, facts};
use super::custom_headers::{self, GivenHeader};
use super::filter::Filter;
use super::log::Backlog;
use super::secrets::WithSecret;
use crate::http::paging::PagingMetadata;
use crate::http::wire::ChannelName;
use crate::outbound::CertificateFacts;

/// Where the events of a subscription go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(remote = "kinds::SubscriptionKind", rename = "SubscriptionType", rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum SubscriptionTypeName {
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
pub(super) enum SubscriptionStatusName {
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
pub(super) enum HeldDeliveriesName {
    /// They are sent once it is enabled.
    Release,
    /// They are cancelled now, and so is a replay that would have more sent.
    Cancel,
}

/// Which waits lie between the tries of a delivery. Each wait gets up to a tenth more, so that receivers which come back are
/// not met by everybody at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(remote = "kinds::RetryProfile", rename = "RetryProfile", rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum RetryProfileName {
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
pub(super) enum DeliveryOrderingName {
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
pub(super) enum SignatureSchemeName {
    /// `v1`: HMAC-SHA256 with `signingSecret`.
    #[oai(rename = "V1")]
    V1,
    /// `v1a`: Ed25519, verified with `signingPublicKey`.
    #[oai(rename = "V1A")]
    V1a,
}

/// What events must say. An event that says nothing of a matter passes.
#[derive(Debug, Clone, Default, Object)]
#[oai(rename = "WebhookFilter", rename_all = "camelCase", skip_serializing_if_is_none)]
pub(super) struct FilterJson {
    /// The channel of a follow, or the platform of an activity, is one of these; any, if there are none.
    #[oai(validator(max_items = 5))]
    pub(super) channels: Option<Vec<ChannelName>>,
    /// The account's balance after the event, or the points of an activity, are at least this.
    pub(super) points_min: Option<i64>,
    /// The account's balance after the event, or the points of an activity, are at most this.
    pub(super) points_max: Option<i64>,
}

impl From<Filter> for FilterJson {
    fn from(filter: Filter) -> Self {
        let channels = filter.channels.into_iter().map(ChannelName::from).collect::<Vec<_>>();
        Self {
            channels: (!channels.is_empty()).then_some(channels),
            points_min: filter.points_min,
            points_max: filter.points_max,
        }
    }
}

impl From<FilterJson> for Filter {
    fn from(json: FilterJson) -> Self {
        Self {
            channels: json.channels.unwrap_or_default().into_iter().map(Into::into).collect(),
            points_min: json.points_min,
            points_max: json.points_max,
        }
    }
}

/// A header of the subscription's own; its value is not shown.
#[derive(Debug, Object)]
pub(super) struct CustomHeader {
    /// Its name, in small letters.
    pub(super) name: String,
}

/// A header that every try carries.
#[derive(Debug, Object)]
pub(super) struct CustomHeaderInput {
    /// Its name, but not one that the service sets.
    #[oai(validator(min_length = 1, max_length = 100))]
    name: String,
    /// Its value: visible ASCII and spaces. It is sealed and shown nowhere.
    #[oai(validator(min_length = 1, max_length = 1024))]
    value: String,
}

impl From<CustomHeaderInput> for GivenHeader {
    fn from(header: CustomHeaderInput) -> Self {
        Self { name: header.name, value: Some(header.value) }
    }
}

/// A header that every try carries.
#[derive(Debug, Object)]
pub(super) struct CustomHeaderUpdate {
    /// Its name, but not one that the service sets.
    #[oai(validator(min_length = 1, max_length = 100))]
    name: String,
    /// Its value; the header of this name keeps the one it has without it.
    #[oai(validator(min_length = 1, max_length = 1024))]
    value: Option<String>,
}

impl From<CustomHeaderUpdate> for GivenHeader {
    fn from(header: CustomHeaderUpdate) -> Self {
        Self { name: header.name, value: header.value }
    }
}

/// A subscription: the events of a site that go to a URL of an app, or to NATS.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub(super) struct WebhookSubscription {
    /// Its id.
    pub(super) id: Uuid,
    /// The app whose key signs.
    pub(super) app_id: Uuid,
    /// The installation named in the envelope.
    pub(super) app_instance_id: Uuid,
    /// Which events: types, or with `.*` at the end all that begin so, like `wix.loyalty.v1.*`; `*` means all.
    pub(super) event_types: Vec<String>,
    /// Where they go.
    #[oai(rename = "type")]
    pub(super) kind: SubscriptionTypeName,
    /// The receiver; absent with type `NATS`.
    pub(super) url: Option<String>,
    /// Whether it receives events.
    pub(super) status: SubscriptionStatusName,
    /// Why it is not enabled.
    pub(super) status_reason: Option<String>,
    /// Since when its receiver has accepted nothing, if it fails. After 5 days the subscription is disabled.
    pub(super) failing_since_date: Option<String>,
    /// Time limit of one try in milliseconds.
    pub(super) timeout_ms: i32,
    /// Tries at once.
    pub(super) max_in_flight: i32,
    /// Which waits lie between tries.
    pub(super) retry_profile: RetryProfileName,
    /// The waits of profile `CUSTOM`, in seconds.
    pub(super) retry_delays_seconds: Option<Vec<i64>>,
    /// The certificate that is shown to a receiver which asks for one.
    pub(super) client_certificate: Option<ClientCertificate>,
    /// In which order deliveries are sent.
    pub(super) ordering: DeliveryOrderingName,
    /// Tries a second at most; absent without a limit. After a rest a tenth more may come in the first second, and at least one.
    pub(super) max_per_second: Option<i32>,
    /// What events must say.
    pub(super) filter: Option<FilterJson>,
    /// Headers that every try carries.
    pub(super) custom_headers: Vec<CustomHeader>,
    /// The signatures in the headers, beside the token.
    pub(super) signature_headers: Vec<SignatureSchemeName>,
    /// The Ed25519 key that verifies `v1a` signatures.
    pub(super) signing_public_key: Option<String>,
    /// Grows with every change; a number as text.
    pub(super) revision: String,
    /// When it was made.
    pub(super) created_date: String,
    /// When it last changed.
    pub(super) updated_date: String,
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
            filter: row
                .filter
                .and_then(|text| serde_json::from_str::<Filter>(&text).ok())
                .map(FilterJson::from),
            custom_headers: row
                .custom_headers
                .map(|stored| custom_headers::names(&stored))
                .unwrap_or_default()
                .into_iter()
                .map(|name| CustomHeader { name })
                .collect(),
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
pub(super) struct ClientCertificate {
    /// The common name of its subject, if it has one.
    pub(super) subject: Option<String>,
    /// SHA-256 of the certificate in hexadecimal.
    sha256_fingerprint: String,
    /// Until when it is good.
    pub(super) not_after: String,
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
pub(super) struct ClientCertificateInput {
    /// The certificate in PEM, and behind it those between it and the receiver's root.
    #[oai(validator(min_length = 1, max_length = 32768))]
    certificate_pem: String,
    /// Its private key in PEM, not encrypted: RSA, P-256, P-384, P-521 or Ed25519.
    #[oai(validator(min_length = 1, max_length = 16384))]
    private_key_pem: String,
}

impl From<ClientCertificateInput> for GivenCertificate {
    fn from(new: ClientCertificateInput) -> Self {
        let (certificate, private_key) = (Some(new.certificate_pem), Some(new.private_key_pem));
        Self { certificate, private_key, sha256_fingerprint: None }
    }
}

/// A client certificate to show to the receiver: a new one with its private key, or the one there is, as it was read.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub(super) struct ClientCertificateUpdate {
    /// The certificate in PEM, and behind it those between it and the receiver's root.
    #[oai(validator(min_length = 1, max_length = 32768))]
    certificate_pem: Option<String>,
    /// Its private key in PEM, not encrypted: RSA, P-256, P-384, P-521 or Ed25519.
    #[oai(validator(min_length = 1, max_length = 16384))]
    private_key_pem: Option<String>,
    /// Of the one there is: SHA-256 of the certificate in hexadecimal.
    #[oai(validator(max_length = 64))]
    sha256_fingerprint: Option<String>,
}

impl From<ClientCertificateUpdate> for GivenCertificate {
    fn from(update: ClientCertificateUpdate) -> Self {
        Self {
            certificate: update.certificate_pem,
            private_key: update.private_key_pem,
            sha256_fingerprint: update.sha256_fingerprint,
        }
    }
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub(super) struct CreateSubscriptionRequest {
    pub(super) webhook_subscription: SubscriptionInput,
}

#[derive(Debug, Object)]
#[oai(rename = "WebhookSubscriptionInput", rename_all = "camelCase")]
pub(super) struct SubscriptionInput {
    /// The app; it must be installed on the site.
    pub(super) app_id: Uuid,
    /// Which events: types, or with `.*` at the end all that begin so, like `wix.loyalty.v1.*`; `*` means all.
    #[oai(validator(min_items = 1, max_items = 20))]
    pub(super) event_types: Vec<String>,
    /// Where they go; `WEBHOOK` by default. It cannot be changed. With `NATS` every message is the token that a webhook would
    /// have as its body, on the subject `followpoints.<siteId>.<eventType>`.
    #[oai(rename = "type")]
    pub(super) kind: Option<SubscriptionTypeName>,
    /// With type `WEBHOOK`: the receiver, https, and not in a private network unless the operator allows it.
    #[oai(validator(min_length = 1, max_length = 2048))]
    pub(super) url: Option<String>,
    /// Time limit of one try in milliseconds; 1250 by default, as Wix has it.
    #[oai(validator(minimum(value = "100"), maximum(value = "15000")))]
    pub(super) timeout_ms: Option<i32>,
    /// Tries at once; 64 by default.
    #[oai(validator(minimum(value = "1"), maximum(value = "256")))]
    pub(super) max_in_flight: Option<i32>,
    /// Which waits lie between tries; `WIX` by default.
    pub(super) retry_profile: Option<RetryProfileName>,
    /// With profile `CUSTOM`: up to 30 waits of 1 to 86400 seconds; none means that nothing is sent twice.
    #[oai(validator(max_items = 30))]
    pub(super) retry_delays_seconds: Option<Vec<i64>>,
    /// In which order deliveries are sent; `PARALLEL` by default.
    pub(super) ordering: Option<DeliveryOrderingName>,
    /// Tries a second at most; without a limit by default. After a rest a tenth more may come in the first second, and at least one.
    #[oai(validator(minimum(value = "1"), maximum(value = "10000")))]
    pub(super) max_per_second: Option<i32>,
    /// What events must say; everything passes by default.
    pub(super) filter: Option<FilterJson>,
    /// Headers that every try carries; they may be secrets of the receiver.
    #[oai(validator(max_items = 20))]
    pub(super) custom_headers: Option<Vec<CustomHeaderInput>>,
    /// Signatures in the headers, beside the token; none by default.
    #[oai(validator(max_items = 2))]
    pub(super) signature_headers: Option<Vec<SignatureSchemeName>>,
    /// `ENABLED` by default.
    pub(super) status: Option<SubscriptionStatusName>,
    /// The certificate to show to a receiver that asks for one.
    pub(super) client_certificate: Option<ClientCertificateInput>,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub(super) struct UpdateSubscriptionRequest {
    pub(super) webhook_subscription: SubscriptionUpdate,
}

/// What is absent stays.
#[derive(Debug, Object)]
#[oai(rename = "WebhookSubscriptionUpdate", rename_all = "camelCase")]
pub(super) struct SubscriptionUpdate {
    /// Which events: types, or with `.*` at the end all that begin so, like `wix.loyalty.v1.*`; `*` means all.
    /// It counts for events from now on: what already waits is sent.
    #[oai(validator(min_items = 1, max_items = 20))]
    pub(super) event_types: Option<Vec<String>>,
    /// With type `WEBHOOK`: where they go.
    #[oai(validator(min_length = 1, max_length = 2048))]
    pub(super) url: Option<String>,
    /// Time limit of one try in milliseconds.
    #[oai(validator(minimum(value = "100"), maximum(value = "15000")))]
    pub(super) timeout_ms: Option<i32>,
    /// Tries at once.
    #[oai(validator(minimum(value = "1"), maximum(value = "256")))]
    pub(super) max_in_flight: Option<i32>,
    /// Which waits lie between tries. What already waits for its next try keeps that time.
    pub(super) retry_profile: Option<RetryProfileName>,
    /// With profile `CUSTOM`: up to 30 waits of 1 to 86400 seconds; none means that nothing is sent twice.
    #[oai(validator(max_items = 30))]
    pub(super) retry_delays_seconds: Option<Vec<i64>>,
    /// In which order deliveries are sent. It counts for events, and for what is sent again, from now on.
    pub(super) ordering: Option<DeliveryOrderingName>,
    /// Tries a second at most; 0 or `null` for no limit. After a rest a tenth more may come in the first second, and at least one.
    #[oai(validator(minimum(value = "0"), maximum(value = "10000")))]
    pub(super) max_per_second: MaybeUndefined<i32>,
    /// What events must say; `{}` or `null` lets everything pass. It counts for events from now on.
    pub(super) filter: MaybeUndefined<FilterJson>,
    /// Headers that every try carries, all of them; an empty list or `null` for none.
    #[oai(validator(max_items = 20))]
    pub(super) custom_headers: MaybeUndefined<Vec<CustomHeaderUpdate>>,
    /// Signatures in the headers, beside the token; an empty list or `null` for none. One that is left out and comes back has
    /// the secret that it had.
    #[oai(validator(max_items = 2))]
    pub(super) signature_headers: MaybeUndefined<Vec<SignatureSchemeName>>,
    /// Whether it receives events.
    pub(super) status: Option<SubscriptionStatusName>,
    /// What becomes of the deliveries that wait for it at this moment; `RELEASE` by default.
    pub(super) held_deliveries: Option<HeldDeliveriesName>,
    /// The certificate to show to a receiver that asks for one; `null` removes the one there is.
    pub(super) client_certificate: MaybeUndefined<ClientCertificateUpdate>,
    /// The revision that was read; a newer one answers 409.
    #[oai(validator(max_length = 20))]
    pub(super) revision: Option<String>,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub(super) struct SubscriptionResponse {
    pub(super) webhook_subscription: WebhookSubscription,
    /// The secret of `v1` signatures, if it was made by this request; it is not shown again.
    pub(super) signing_secret: Option<String>,
}

/// What waits for a subscription to be sent, sent again, or released.
#[derive(Debug, Object)]
#[oai(rename = "WebhookBacklog", rename_all = "camelCase", skip_serializing_if_is_none)]
pub(super) struct BacklogJson {
    /// How many deliveries; not more than 10000 are counted.
    deliveries: u32,
    /// Whether there are more than that.
    has_more: bool,
    /// When the oldest of them was made; absent if there is none.
    oldest_date: Option<String>,
}

impl From<Backlog> for BacklogJson {
    fn from(backlog: Backlog) -> Self {
        Self {
            deliveries: u32::try_from(backlog.deliveries).unwrap_or(u32::MAX),
            has_more: backlog.has_more,
            oldest_date: backlog.oldest.map(Timestamp::to_rfc3339),
        }
    }
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub(super) struct BacklogResponse {
    pub(super) webhook_backlog: BacklogJson,
}

impl SubscriptionResponse {
    pub(super) fn with_secret((row, signing_secret): WithSecret) -> Self {
        Self { webhook_subscription: row.into(), signing_secret }
    }
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub(super) struct ListSubscriptionsResponse {
    pub(super) webhook_subscriptions: Vec<WebhookSubscription>,
    pub(super) paging_metadata: PagingMetadata,
}
