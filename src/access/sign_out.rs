//! Signing a member out everywhere.

use entity::id::{MemberId, SiteId};
use entity::refresh_token;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, Condition, DbErr, EntityTrait, PaginatorTrait as _, QueryFilter, QuerySelect};

use crate::db::{self, Db};

/// Revokes every refresh token of `member` of `site`; says how many sign-ins could have gone on.
pub async fn sign_out(database: &Db, site: SiteId, member: MemberId) -> Result<u64, DbErr> {
    let mut tries = 1;
    loop {
        match sign_out_once(database, site, member).await {
            // The tokens may be used at the same moment.
            Err(error) if db::lost_a_race(&error) && tries < db::TRIES_MAX => tries += 1,
            done => return done,
        }
    }
}

async fn sign_out_once(database: &Db, site: SiteId, member: MemberId) -> Result<u64, DbErr> {
    let tx = database.write().await?;
    let not_revoked = || {
        Condition::all()
            .add(refresh_token::Column::SiteId.eq(site))
            .add(refresh_token::Column::MemberId.eq(member))
            .add(refresh_token::Column::RevokedAt.is_null())
    };
    let sign_ins = refresh_token::Entity::find()
        .select_only()
        .column(refresh_token::Column::FamilyId)
        .distinct()
        .filter(not_revoked())
        .filter(refresh_token::Column::ExpiresAt.gt(tx.now()))
        .count(tx.conn())
        .await?;
    // The successor of a token that is being used is seen only when that is done, which revoking the token waits for.
    loop {
        let revoked = refresh_token::Entity::update_many()
            .col_expr(refresh_token::Column::RevokedAt, Expr::val(tx.now().0))
            .filter(not_revoked())
            .exec(tx.conn())
            .await?;
        if revoked.rows_affected == 0 {
            break;
        }
    }
    tx.commit().await?;
    Ok(sign_ins)
}
