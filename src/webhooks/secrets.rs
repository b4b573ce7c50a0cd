//! What signs a subscription's webhooks in their headers: made when first wanted, sealed, and rotated so that nobody has
//! to change anything at the same moment. The secrets that a rotation replaces sign on beside the new ones until their
//! overlap ends, so a receiver that has either accepts every delivery.

use entity::id::{SigningSecretId, SiteId, SubscriptionId, Timestamp};
use entity::kinds::SignatureScheme;
use entity::{subscription, subscription_secret};
use http::header::InvalidHeaderValue;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, ExprTrait as _, QueryFilter, QueryOrder,
};

use super::endpoints;
use super::standard::{self, SigningSecret, UnusableSecret};
use super::subscriptions::find_subscription;
use crate::db::Tx;
use crate::seal::{SealError, Sealer};
use crate::sites::config;

/// How long replaced secrets sign on unless the rotation says otherwise, in seconds: a day.
pub const OVERLAP_S_DEFAULT: i64 = 86_400;
/// Replaced secrets of one kind that sign on at the most.
pub const REPLACED_MAX: usize = 10;

/// Why secrets were not made or rotated.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The site has no such subscription.
    #[error("there is no such webhook subscription")]
    NotFound,
    /// There is nothing to rotate.
    #[error("the webhook subscription has no signing secret; set its signatureHeaders first")]
    NoSecret,
    /// Too many replaced ones still sign.
    #[error(
        "{REPLACED_MAX} replaced secrets still sign; wait until the overlap of one ends, or rotate with overlapSeconds 0"
    )]
    TooMany,
    /// The database failed.
    #[error("the database failed")]
    Store(#[from] DbErr),
    /// One could not be sealed or opened.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// One could not be made.
    #[error(transparent)]
    Unusable(#[from] UnusableSecret),
    /// What it signed cannot be in a header.
    #[error(transparent)]
    Header(#[from] InvalidHeaderValue),
}

/// A subscription and, if it was made just now, the shared secret in the form that its receiver gets.
pub type WithSecret = (subscription::Model, Option<String>);

/// A secret that signs, until an instant if it was replaced.
#[derive(Debug)]
pub struct LiveSecret {
    /// What it signs with.
    pub secret: SigningSecret,
    /// Signs no more from this instant on.
    pub until: Option<Timestamp>,
}

/// Makes the secrets that `row`, just made or changed, wants and does not have yet.
pub async fn provide(tx: &Tx, sealer: &Sealer, row: subscription::Model) -> Result<WithSecret, SecretError> {
    let wanted: Vec<SignatureScheme> = serde_json::from_str(&row.signature_headers).unwrap_or_default();
    if wanted.is_empty() {
        return Ok((row, None));
    }
    let stored = stored(tx.conn(), row.id).await?;
    let has = |scheme: &SignatureScheme| stored.iter().any(|secret| secret.kind == *scheme);
    let missing: Vec<_> = wanted.into_iter().filter(|scheme| !has(scheme)).collect();
    make(tx, sealer, row, &missing).await
}

/// Replaces every secret of the subscription `id` of `site`; the replaced ones sign on for `overlap_s` seconds. With 0, those of
/// earlier rotations end too: whoever wants no overlap has lost a secret, and nobody may count on an old one any more.
pub async fn rotate(
    tx: &Tx,
    sealer: &Sealer,
    (site, id): (SiteId, SubscriptionId),
    overlap_s: i64,
) -> Result<WithSecret, SecretError> {
    config::touch(tx, site).await?;
    find_subscription(tx.conn(), site, id).await?.ok_or(SecretError::NotFound)?;
    let stored = stored(tx.conn(), id).await?;
    let schemes: Vec<_> = stored.iter().filter(|row| row.retired_at.is_none()).map(|row| row.kind).collect();
    if schemes.is_empty() {
        return Err(SecretError::NoSecret);
    }
    let replaced = |scheme: SignatureScheme| {
        let lives = |row: &&subscription_secret::Model| row.retired_at.is_some_and(|until| until > tx.now());
        stored.iter().filter(|row| row.kind == scheme).filter(lives).count()
    };
    if overlap_s > 0 && schemes.iter().any(|scheme| replaced(*scheme) >= REPLACED_MAX) {
        return Err(SecretError::TooMany);
    }
    let retired_at = subscription_secret::Column::RetiredAt;
    let mut ends = Condition::any().add(retired_at.is_null());
    if overlap_s == 0 {
        ends = ends.add(retired_at.gt(tx.now()));
    }
    subscription_secret::Entity::update_many()
        .col_expr(retired_at, Expr::val(tx.now().plus_ms(overlap_s * 1_000).0))
        .filter(subscription_secret::Column::SubscriptionId.eq(id))
        .filter(ends)
        .exec(tx.conn())
        .await?;
    // Who signs looks at the revision, so no try that is made from now on goes without the new ones.
    subscription::Entity::update_many()
        .col_expr(subscription::Column::Revision, Expr::col(subscription::Column::Revision).add(1))
        .col_expr(subscription::Column::UpdatedAt, Expr::val(tx.now().0))
        .filter(subscription::Column::Id.eq(id))
        .exec(tx.conn())
        .await?;
    // What its node has queued is read again, with the new revision.
    endpoints::changed(tx, id, false).await?;
    let row = find_subscription(tx.conn(), site, id).await?.ok_or(SecretError::NotFound)?;
    make(tx, sealer, row, &schemes).await
}

async fn make(
    tx: &Tx,
    sealer: &Sealer,
    mut row: subscription::Model,
    schemes: &[SignatureScheme],
) -> Result<WithSecret, SecretError> {
    let mut shown = None;
    for scheme in schemes {
        let bytes = standard::new_secret()?;
        let id = SigningSecretId(tx.new_id());
        let secret = subscription_secret::Model {
            site_id: row.site_id,
            subscription_id: row.id,
            id,
            kind: *scheme,
            sealed: sealer.seal(&purpose(id), &bytes)?,
            created_at: tx.now(),
            retired_at: None,
        };
        subscription_secret::Entity::insert(subscription_secret::ActiveModel::from(secret))
            .exec_without_returning(tx.conn())
            .await?;
        match SigningSecret::new(*scheme, &bytes)?.public_key() {
            Some(public) => {
                subscription::Entity::update_many()
                    .col_expr(subscription::Column::SigningPublicKey, Expr::val(&public))
                    .filter(subscription::Column::Id.eq(row.id))
                    .exec(tx.conn())
                    .await?;
                row.signing_public_key = Some(public);
            }
            None => shown = Some(standard::shown_secret(&bytes)),
        }
    }
    Ok((row, shown))
}

/// Every secret of `subscription` that is kept, the newest first.
async fn stored(
    db: &impl ConnectionTrait,
    subscription: SubscriptionId,
) -> Result<Vec<subscription_secret::Model>, DbErr> {
    subscription_secret::Entity::find()
        .filter(subscription_secret::Column::SubscriptionId.eq(subscription))
        .order_by_desc(subscription_secret::Column::Id)
        .all(db)
        .await
}

/// What signs the webhooks of `subscription`, the newest first; whether its time is over is for the caller to see.
pub async fn live_secrets(
    db: &impl ConnectionTrait,
    sealer: &Sealer,
    subscription: SubscriptionId,
) -> Result<Vec<LiveSecret>, SecretError> {
    let open = |row: subscription_secret::Model| {
        let bytes = sealer.open(&purpose(row.id), &row.sealed)?;
        Ok(LiveSecret { secret: SigningSecret::new(row.kind, &bytes)?, until: row.retired_at })
    };
    stored(db, subscription).await?.into_iter().map(open).collect()
}

/// Deletes the secrets whose overlap has ended; says how many.
pub async fn delete_expired(tx: &Tx) -> Result<u64, DbErr> {
    let deleted = subscription_secret::Entity::delete_many()
        .filter(subscription_secret::Column::RetiredAt.lte(tx.now()))
        .exec(tx.conn())
        .await?;
    Ok(deleted.rows_affected)
}

/// Deletes every secret of `subscription`, which is about to be deleted.
pub(super) async fn delete_all(tx: &Tx, subscription: SubscriptionId) -> Result<(), DbErr> {
    subscription_secret::Entity::delete_many()
        .filter(subscription_secret::Column::SubscriptionId.eq(subscription))
        .exec(tx.conn())
        .await?;
    Ok(())
}

fn purpose(id: SigningSecretId) -> String {
    format!("subscription-secret:{id}")
}
