//! The end of what is known of a member on social platforms, for privacy.

use entity::id::{MemberId, SiteId};
use entity::kinds::{ItemStatus, Platform};
use entity::{activity, direct_reply, item, link_code, member_handle, member_login, member_profile, person};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, Condition, DbErr, EntityTrait, QueryFilter, QuerySelect as _, QueryTrait as _, Value,
};

use super::{handles, hold};
use crate::db::{self, Db, Tx};
use crate::inbox::messages::{self, Message};
use crate::sites::config;

/// What is said of things that were not done yet.
const ERASED: &str = "what is known of the member was erased";

/// Erases what platforms told about `member` of `site` and what the member told about itself: attributes, handles, link codes,
/// logins, the handles of the persons behind them, and the content of activities. Points, follows and that there were
/// activities stay.
pub async fn erase(database: &Db, site: SiteId, member: MemberId) -> Result<(), DbErr> {
    let mut tries = 1;
    loop {
        match erase_once(database, site, member).await {
            Err(error) if db::lost_a_race(&error) && tries < db::TRIES_MAX => tries += 1,
            erased => return erased,
        }
    }
}

async fn erase_once(database: &Db, site: SiteId, member: MemberId) -> Result<(), DbErr> {
    let tx = database.write().await?;
    // Whatever is recorded meanwhile would write again what it has read before.
    config::take_turns(&tx, &[site]).await?;
    if hold(&tx, site, member).await? {
        empty_persons(&tx, site, member).await?;
        empty_activities(&tx, site, member).await?;
        delete_rows(&tx, site, member).await?;
        tx.commit().await?;
    }
    Ok(())
}

/// Takes the handle off the persons whom the member has proven to be, and forgets what they were to be answered.
async fn empty_persons(tx: &Tx, site: SiteId, member: MemberId) -> Result<(), DbErr> {
    let proven = handles::of_member(tx.conn(), site, member).await?;
    let proven = proven.into_iter().filter_map(|row| Some((row.platform, row.person?, Some(row.handle))));
    let logins: Vec<(Platform, String, Option<String>)> = member_login::Entity::find()
        .select_only()
        .columns([member_login::Column::Platform, member_login::Column::Person, member_login::Column::Handle])
        .filter(member_login::Column::SiteId.eq(site))
        .filter(member_login::Column::MemberId.eq(member))
        .into_tuple()
        .all(tx.conn())
        .await?;
    person::Entity::update_many()
        .col_expr(person::Column::CountedFor, Expr::val(Value::Uuid(None)))
        .filter(person::Column::SiteId.eq(site))
        .filter(person::Column::CountedFor.eq(member))
        .exec(tx.conn())
        .await?;
    for (platform, external_id, handle) in proven.chain(logins) {
        // The same person has another id for each account of the brand.
        let mut theirs = Condition::any().add(person::Column::ExternalId.eq(external_id.as_str()));
        if let Some(handle) = handle {
            theirs = theirs.add(person::Column::Handle.eq(handle));
        }
        person::Entity::update_many()
            .col_expr(person::Column::Handle, Expr::val(Value::String(None)))
            .filter(person::Column::SiteId.eq(site))
            .filter(person::Column::Platform.eq(platform))
            .filter(theirs)
            .exec(tx.conn())
            .await?;
        direct_reply::Entity::delete_many()
            .filter(direct_reply::Column::SiteId.eq(site))
            .filter(direct_reply::Column::Person.eq(external_id))
            .exec(tx.conn())
            .await?;
    }
    Ok(())
}

/// Leaves of the member's activities, and of what platforms sent about them, that they were. What waited for more than that is done.
async fn empty_activities(tx: &Tx, site: SiteId, member: MemberId) -> Result<(), DbErr> {
    let own =
        || Condition::all().add(activity::Column::SiteId.eq(site)).add(activity::Column::MemberId.eq(member));
    let of_activities =
        || activity::Entity::find().select_only().column(activity::Column::ItemId).filter(own()).into_query();
    let items: Vec<(Platform, String, String)> = item::Entity::find()
        .select_only()
        .columns([item::Column::Platform, item::Column::Account, item::Column::ItemKey])
        .filter(item::Column::Id.in_subquery(of_activities()))
        .into_tuple()
        .all(tx.conn())
        .await?;
    // Edits of messages have no activities of their own.
    let messages: Vec<Message<'_>> = items
        .iter()
        .filter_map(|(platform, account, key)| Message::of_key(*platform, account, key))
        .collect();
    messages::empty_edits(tx, &messages).await?;
    item::Entity::update_many()
        .col_expr(item::Column::Payload, Expr::val("{}"))
        .col_expr(item::Column::Handle, Expr::val(Value::String(None)))
        .filter(item::Column::Id.in_subquery(of_activities()))
        .exec(tx.conn())
        .await?;
    item::Entity::update_many()
        .col_expr(item::Column::Status, Expr::val(ItemStatus::Done.as_str()))
        .col_expr(item::Column::Reason, Expr::val(ERASED))
        .col_expr(item::Column::ExpiresAt, Expr::val(Value::BigInt(None)))
        .filter(item::Column::Id.in_subquery(of_activities()))
        .filter(item::Column::Status.ne(ItemStatus::Done))
        .exec(tx.conn())
        .await?;
    activity::Entity::update_many()
        .col_expr(activity::Column::Properties, Expr::val("{}"))
        .col_expr(activity::Column::Handle, Expr::val(Value::String(None)))
        .filter(own())
        .exec(tx.conn())
        .await?;
    Ok(())
}

async fn delete_rows(tx: &Tx, site: SiteId, member: MemberId) -> Result<(), DbErr> {
    member_profile::Entity::delete_by_id((site, member)).exec(tx.conn()).await?;
    member_handle::Entity::delete_many()
        .filter(member_handle::Column::SiteId.eq(site))
        .filter(member_handle::Column::MemberId.eq(member))
        .exec(tx.conn())
        .await?;
    link_code::Entity::delete_many()
        .filter(link_code::Column::SiteId.eq(site))
        .filter(link_code::Column::MemberId.eq(member))
        .exec(tx.conn())
        .await?;
    handles::forget_claims(tx, site, member).await?;
    // A login that stayed would tell everything again.
    member_login::Entity::delete_many()
        .filter(member_login::Column::SiteId.eq(site))
        .filter(member_login::Column::MemberId.eq(member))
        .exec(tx.conn())
        .await?;
    Ok(())
}
