//! What an account's webhooks brought, once its person wants to be forgotten: the words go, wherever they are stored, a little at a time.
//! That there was something stays, and so do the points that it earned, which are the members'.

use std::collections::BTreeSet;

use entity::id::{ItemId, SiteId, Timestamp};
use entity::kinds::{ItemStatus, Platform};
use entity::{activity, deletion_request, item, raw_delivery};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait as _, DbErr, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use super::Connections;
use crate::db::Tx;
use crate::rows::{self, Rows};
use crate::sites::config;
use crate::webhooks::retention;

/// Things that one transaction empties.
const AT_ONCE: u64 = 200;
/// What is said of things that were not worked on yet.
const FORGOTTEN: &str = "whoever connected the account wants to be forgotten";

impl Connections {
    /// Carries out the demands that are not carried out yet; says how many those were. Any number of nodes may do so at once.
    pub async fn forget_due(&self) -> Result<usize, DbErr> {
        let open = deletion_request::Entity::find()
            .filter(deletion_request::Column::DoneAt.is_null())
            .all(self.db.read())
            .await?;
        for request in &open {
            let accounts: Vec<String> = serde_json::from_str(&request.accounts).unwrap_or_default();
            for account in accounts {
                let mut after = String::new();
                while let Some(reached) = self.empty_some(request, &account, &after).await? {
                    after = reached;
                }
            }
            self.mark_done(request).await?;
        }
        Ok(open.len())
    }

    /// Empties things of `account` that came before the demand, behind the key `after`; gives how far that is, or `None` at the end. What is
    /// worked on at the moment is emptied once that is recorded, or before it is, and then it is not recorded any more.
    async fn empty_some(
        &self,
        request: &deletion_request::Model,
        account: &str,
        after: &str,
    ) -> Result<Option<String>, DbErr> {
        let tx = self.db.write().await?;
        let some = || {
            item::Entity::find()
                .filter(item::Column::Platform.eq(request.platform))
                .filter(item::Column::Account.eq(account))
                .filter(item::Column::ItemKey.gt(after))
                .filter(item::Column::ReceivedAt.lte(request.created_at))
                .order_by_asc(item::Column::ItemKey)
                .limit(AT_ONCE)
        };
        let sites: Vec<Option<SiteId>> =
            some().select_only().column(item::Column::SiteId).into_tuple().all(tx.conn()).await?;
        let turns: BTreeSet<SiteId> = sites.into_iter().flatten().collect();
        config::take_turns(&tx, &turns.iter().copied().collect::<Vec<_>>()).await?;
        let items = some().lock_exclusive().all(tx.conn()).await?;
        let Some(last) = items.last() else { return Ok(None) };
        if items.iter().filter_map(|item| item.site_id).any(|site| !turns.contains(&site)) {
            // Whose they are has just become known: once more, in the turn of that site.
            return Ok(Some(after.to_owned()));
        }
        empty(&tx, &items).await?;
        tx.commit().await?;
        Ok(Some(last.item_key.clone()))
    }

    async fn mark_done(&self, request: &deletion_request::Model) -> Result<(), DbErr> {
        let tx = self.db.write().await?;
        deletion_request::Entity::update_many()
            .col_expr(deletion_request::Column::DoneAt, Expr::val(Some(tx.now().0)))
            .col_expr(deletion_request::Column::Accounts, Expr::val("[]"))
            .filter(deletion_request::Column::Code.eq(&request.code))
            .exec(tx.conn())
            .await?;
        tx.commit().await
    }
}

async fn empty(tx: &Tx, items: &[item::Model]) -> Result<(), DbErr> {
    let ids: Vec<ItemId> = items.iter().map(|item| item.id).collect();
    let nobody = || Expr::val(None::<String>);
    item::Entity::update_many()
        .col_expr(item::Column::Payload, Expr::val("{}"))
        .col_expr(item::Column::Handle, nobody())
        .col_expr(item::Column::Person, nobody())
        .filter(item::Column::Id.is_in(ids.iter().copied()))
        .exec(tx.conn())
        .await?;
    item::Entity::update_many()
        .col_expr(item::Column::Status, Expr::val(ItemStatus::Done.as_str()))
        .col_expr(item::Column::Reason, Expr::val(FORGOTTEN))
        .col_expr(item::Column::ExpiresAt, Expr::val(None::<Timestamp>))
        .filter(item::Column::Id.is_in(ids.iter().copied()))
        .filter(item::Column::Status.ne(ItemStatus::Done))
        .exec(tx.conn())
        .await?;
    raw_delivery::Entity::update_many()
        .col_expr(raw_delivery::Column::Body, Expr::val(None::<Vec<u8>>))
        .filter(raw_delivery::Column::Id.is_in(items.iter().filter_map(|item| item.delivery_id)))
        .exec(tx.conn())
        .await?;
    let told = activity::Entity::find()
        .filter(activity::Column::ItemId.is_in(ids.iter().copied()))
        .all(tx.conn())
        .await?;
    for activity in &told {
        retention::expunge_entity(tx, activity.site_id, activity.id.0).await?;
    }
    forget_persons(tx, items).await?;
    activity::Entity::update_many()
        .col_expr(activity::Column::Properties, Expr::val("{}"))
        .col_expr(activity::Column::Handle, nobody())
        .col_expr(activity::Column::Person, nobody())
        .filter(activity::Column::ItemId.is_in(ids))
        .exec(tx.conn())
        .await?;
    Ok(())
}

/// Takes the handles off the persons of `items`, and forgets what they were to be answered. That there is somebody with this id, whose
/// follow has counted, stays.
async fn forget_persons(tx: &Tx, items: &[item::Model]) -> Result<(), DbErr> {
    let mut persons: Vec<(SiteId, Platform, &str)> = items
        .iter()
        .filter_map(|item| Some((item.site_id?, item.platform, item.person.as_deref()?)))
        .collect();
    persons.sort_unstable();
    persons.dedup();
    let rows = || {
        Rows::new(&persons)
            .uuid("site_id", |(site, ..)| site.0)
            .text("platform", |(_, platform, _)| platform.as_str())
            .text("person", |(.., person)| *person)
    };
    let handles = rows().write(
        "UPDATE person SET handle = NULL FROM {rows} AS r WHERE person.site_id = r.site_id \
         AND person.platform = r.platform AND person.external_id = r.person",
    );
    let replies = rows().write(
        "DELETE FROM direct_reply WHERE EXISTS (SELECT 1 FROM {rows} AS r \
         WHERE direct_reply.site_id = r.site_id AND direct_reply.person = r.person)",
    );
    rows::write_all(tx.conn(), vec![handles, replies]).await
}
