//! The secrets with which an app gets its tokens: kept as hashes, and rotated so that nobody has to change anything at the same
//! moment. One that a rotation replaces is worth as much as the new one until its overlap ends.

use entity::id::{AppId, AppSecretId, Timestamp};
use entity::{app, app_secret};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, PaginatorTrait as _, QueryFilter,
    QuerySelect as _,
};

use super::Viewer;
use crate::db::Tx;
use crate::seal;

/// Every app secret begins so.
pub const PREFIX: &str = "fps_";
/// How long a replaced secret works on unless the rotation says otherwise, in seconds: a day.
pub const OVERLAP_S_DEFAULT: i64 = 86_400;
/// Replaced secrets of one app that work on at the most.
pub const REPLACED_MAX: u64 = 10;

/// Why a secret was not rotated.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// There is no such app, or it is not the caller's to change.
    #[error("there is no such app")]
    NotFound,
    /// Too many replaced ones still work.
    #[error(
        "{REPLACED_MAX} replaced secrets still work; wait until the overlap of one ends, or rotate with overlapSeconds 0"
    )]
    TooMany,
    /// The database failed.
    #[error("the database failed")]
    Store(#[from] DbErr),
}

/// Stores `secret` as the newest of `app`.
pub(super) async fn add(tx: &Tx, app: AppId, secret: &str) -> Result<(), DbErr> {
    let model = app_secret::Model {
        app_id: app,
        id: AppSecretId(tx.new_id()),
        secret_hash: seal::hash(secret).to_vec(),
        created_at: tx.now(),
        retired_at: None,
    };
    app_secret::Entity::insert(app_secret::ActiveModel::from(model))
        .exec_without_returning(tx.conn())
        .await?;
    Ok(())
}

/// Makes `secret` the newest of the app `id`, which `viewer` must own; the one it replaces works on for `overlap_s` seconds. With
/// 0 those of earlier rotations end too: whoever wants no overlap has lost a secret, and nobody may count on an old one any
/// more.
pub async fn rotate(
    tx: &Tx,
    (viewer, id): (Viewer, AppId),
    secret: &str,
    overlap_s: i64,
) -> Result<app::Model, RotateError> {
    let row = super::find_own_app(tx.conn(), viewer, id).await?.ok_or(RotateError::NotFound)?;
    // Held, so that rotations at the same moment come one after the other, and the last one's secret is the newest.
    app::Entity::find_by_id(id).lock_exclusive().one(tx.conn()).await?.ok_or(RotateError::NotFound)?;
    let of_app = app_secret::Column::AppId.eq(id);
    if overlap_s == 0 {
        // Not retired: a clock that is set back would bring them back to life.
        app_secret::Entity::delete_many().filter(of_app).exec(tx.conn()).await?;
    } else {
        let replaced = app_secret::Entity::find()
            .filter(of_app.clone())
            .filter(app_secret::Column::RetiredAt.gt(tx.now()))
            .count(tx.conn())
            .await?;
        if replaced >= REPLACED_MAX {
            return Err(RotateError::TooMany);
        }
        app_secret::Entity::update_many()
            .col_expr(app_secret::Column::RetiredAt, Expr::val(tx.now().plus_ms(overlap_s * 1_000).0))
            .filter(of_app)
            .filter(app_secret::Column::RetiredAt.is_null())
            .exec(tx.conn())
            .await?;
    }
    add(tx, id, secret).await?;
    Ok(row)
}

/// Whether `secret` is one of `app` that works at `now`.
pub async fn is_valid(
    db: &impl ConnectionTrait,
    app: AppId,
    secret: &str,
    now: Timestamp,
) -> Result<bool, DbErr> {
    let works = Condition::any()
        .add(app_secret::Column::RetiredAt.is_null())
        .add(app_secret::Column::RetiredAt.gt(now));
    let known =
        app_secret::Entity::find().filter(app_secret::Column::AppId.eq(app)).filter(works).all(db).await?;
    let hash = seal::hash(secret);
    Ok(known.iter().any(|row| seal::same(&row.secret_hash, &hash)))
}

/// Deletes the secrets whose overlap has ended; says how many.
pub async fn delete_expired(tx: &Tx) -> Result<u64, DbErr> {
    let deleted = app_secret::Entity::delete_many()
        .filter(app_secret::Column::RetiredAt.lte(tx.now()))
        .exec(tx.conn())
        .await?;
    Ok(deleted.rows_affected)
}
