//! Fetches posts that nobody pushes: of brands' accounts by API for Business, and of members who have logged in.
//!
//! What is due is leased, so that of several nodes one asks. The first time marks what was posted before anybody asked for it; whatever else is
//! new counts, known by its key.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;

use entity::id::{ItemId, SiteId, Timestamp};
use entity::kinds::{ConnectionLogin, ItemStatus, Platform};
use entity::{connection, item, member_login};
use futures_util::future::join_all;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait as _, Condition, DbErr, EntityTrait, QueryFilter as _, QueryOrder as _, QuerySelect as _,
    UpdateMany,
};
use serde_json::json;

use super::adapters::business::{Business, HashtagVideos, MentionVideos};
use super::adapters::login_kit::{Member, User, Videos};
use super::adapters::read;
use super::calls::CallError;
use super::logins::{self, LoginError};
use super::post::Post;
use super::understand::{LOGIN, MENTION};
use super::webhook::kinds::BRAND_MENTION;
use super::{Tiktok, tracked, words};
use crate::db::Tx;
use crate::inbox::{self, NewItem, Settled};
use crate::rows;
use crate::sites::config;

/// Pause between two readings of a brand's account, in milliseconds: 10 minutes.
pub const CONNECTION_EVERY_MS: i64 = 10 * 60_000;
/// Pause between two readings of a member's videos, in milliseconds: an hour.
pub const LOGIN_EVERY_MS: i64 = 3_600_000;
/// How long nobody else reads what is being read, in milliseconds: longer than all its calls may take together.
const LEASE_MS: i64 = 5 * 60_000;
/// How long `TikTok` is left alone when it wants fewer calls, in milliseconds.
const LIMITED_MS: i64 = 15 * 60_000;
/// What one look takes of each kind.
const DUE_MAX: u64 = 64;
/// Accounts that are read at once: with the pages of each far below 600 calls a minute.
const AT_ONCE: usize = 4;
/// What is said of things that were there before.
const MARKED: &str = "it was posted before the account was connected and its hashtag tracked";

/// What the first reading of an account goes by.
struct First {
    /// When the account was connected.
    began_at: Timestamp,
    /// When each hashtag of the site was tracked.
    tracked: HashMap<String, Timestamp>,
}

impl First {
    /// Whether `post` was made when the site neither had the account nor tracked any of its hashtags.
    fn is_old(&self, post: &Post) -> bool {
        let tags = post.all_hashtags();
        let tracked = tags.iter().filter_map(|tag| self.tracked.get(tag)).min();
        self.is_before(post) && tracked.is_none_or(|since| post.posted_at < *since)
    }

    fn is_before(&self, post: &Post) -> bool {
        post.posted_at < self.began_at
    }
}

/// One whose posts cannot be stored must not keep the others waiting.
fn note(id: impl Display, polled: Result<(), DbErr>) {
    if let Err(error) = polled {
        tracing::warn!(account = %id, %error, "posts could not be stored; they are read again when it is time");
    }
}

impl Tiktok {
    /// Reads every account that is due; says how many those were. One that cannot be read is read later.
    pub async fn poll_due(&self) -> Result<usize, DbErr> {
        let connections = self.due_connections().await?;
        for some in connections.chunks(AT_ONCE) {
            let polled = join_all(some.iter().map(|row| self.poll_connection(row))).await;
            some.iter().zip(polled).for_each(|(row, polled)| note(row.id, polled));
        }
        let logins = self.due_logins().await?;
        for some in logins.chunks(AT_ONCE) {
            let polled = join_all(some.iter().map(|row| self.poll_login(row))).await;
            some.iter().zip(polled).for_each(|(row, polled)| note(row.id, polled));
        }
        Ok(connections.len() + logins.len())
    }

    async fn due_connections(&self) -> Result<Vec<connection::Model>, DbErr> {
        let now = self.db.now();
        let found = connection::Entity::find()
            .filter(connection::Column::Login.eq(ConnectionLogin::TiktokBusiness))
            .filter(connection::Column::DeadSince.is_null())
            .filter(connection::Column::Token.is_not_null())
            .filter(connection::Column::PollDueAt.lte(now))
            .filter(
                Condition::any()
                    .add(connection::Column::LimitedUntil.is_null())
                    .add(connection::Column::LimitedUntil.lte(now)),
            )
            .order_by_asc(connection::Column::PollDueAt)
            .limit(DUE_MAX)
            .all(self.db.read())
            .await?;
        self.leased(found, lease_connection).await
    }

    async fn due_logins(&self) -> Result<Vec<member_login::Model>, DbErr> {
        let now = self.db.now();
        let found = member_login::Entity::find()
            .filter(member_login::Column::Platform.eq(Platform::Tiktok))
            .filter(member_login::Column::DeadSince.is_null())
            .filter(member_login::Column::PollDueAt.lte(now))
            .order_by_asc(member_login::Column::PollDueAt)
            .limit(DUE_MAX)
            .all(self.db.read())
            .await?;
        self.leased(found, lease_login).await
    }

    /// Those of `found` that `lease` takes: no other node has done so meanwhile.
    async fn leased<M, E: EntityTrait>(
        &self,
        found: Vec<M>,
        lease: impl Fn(&M, Timestamp) -> UpdateMany<E>,
    ) -> Result<Vec<M>, DbErr> {
        let until = self.db.now().plus_ms(LEASE_MS);
        let mut leased = Vec::new();
        for row in found {
            match self.is_leased(lease(&row, until)).await {
                Ok(is_ours) => leased.extend(is_ours.then_some(row)),
                Err(error) if leased.is_empty() => return Err(error),
                // What is leased by then is read all the same.
                Err(error) => {
                    tracing::warn!(%error, "not all that is due could be leased; the next look tries again");
                    break;
                }
            }
        }
        Ok(leased)
    }

    async fn is_leased<E: EntityTrait>(&self, lease: UpdateMany<E>) -> Result<bool, DbErr> {
        let tx = self.db.write().await?;
        let taken = lease.exec(tx.conn()).await?;
        tx.commit().await?;
        Ok(taken.rows_affected == 1)
    }

    async fn poll_connection(&self, connection: &connection::Model) -> Result<(), DbErr> {
        let Some(business) = Business::open(self, connection) else {
            let problem = CallError::Dead("it cannot be opened".to_owned());
            return self.note_connection(connection, Some(&problem)).await;
        };
        let hashtags = read(&HashtagVideos(business.clone())).await;
        let mentions = read(&MentionVideos(business)).await;
        let problem =
            [hashtags.as_ref().err(), mentions.as_ref().err()].into_iter().flatten().next().cloned();
        let site = connection.site_id;
        let first = self.first(connection.has_polled, site, connection.created_at).await?;
        let (mut items, mut old) = (Vec::new(), HashSet::new());
        for post in hashtags.iter().flatten() {
            let item = post.item(site);
            old.extend(first.as_ref().filter(|first| first.is_old(post)).map(|_| item.key.clone()));
            items.push(item);
        }
        for post in mentions.iter().flatten() {
            // A webhook may tell of it too.
            let key = format!("{BRAND_MENTION}:{}", post.external_id);
            old.extend(first.as_ref().filter(|first| first.is_before(post)).map(|_| key.clone()));
            let account = connection.external_id.clone();
            items.push(NewItem { account, key, kind: MENTION.to_owned(), ..post.item(site) });
        }
        let tx = self.db.write().await?;
        let new = add(&tx, &items, &old).await?;
        // Until all was read once, what is older does not count as new.
        let has_polled = connection.has_polled || problem.is_none();
        connection::Entity::update_many()
            .col_expr(connection::Column::HasPolled, Expr::value(has_polled))
            .col_expr(
                connection::Column::LastItemAt,
                Expr::value(if new > 0 { Some(tx.now()) } else { connection.last_item_at }),
            )
            .filter(connection::Column::Id.eq(connection.id))
            .exec(tx.conn())
            .await?;
        tx.commit().await?;
        self.note_connection(connection, problem.as_ref()).await
    }

    /// What the first reading of an account of `site` goes by, which was connected at `began_at`; none if it was read before.
    async fn first(
        &self,
        has_polled: bool,
        site: SiteId,
        began_at: Timestamp,
    ) -> Result<Option<First>, DbErr> {
        if has_polled {
            return Ok(None);
        }
        Ok(Some(First { began_at, tracked: tracked::since(self.db.read(), site).await? }))
    }

    /// Says when `connection` is read next, and what was wrong. A token that is refused may only be old: whether the connection is dead
    /// its health check finds out, at once.
    async fn note_connection(
        &self,
        connection: &connection::Model,
        problem: Option<&CallError>,
    ) -> Result<(), DbErr> {
        let tx = self.db.write().await?;
        let now = tx.now();
        let mut update = connection::Entity::update_many()
            .col_expr(connection::Column::PollDueAt, Expr::value(now.plus_ms(CONNECTION_EVERY_MS)))
            .filter(connection::Column::Id.eq(connection.id));
        match problem {
            Some(CallError::Limited) => {
                let until = now.plus_ms(LIMITED_MS);
                update = update.col_expr(connection::Column::LimitedUntil, Expr::value(Some(until)));
            }
            Some(error @ CallError::Dead(_)) => {
                update = update
                    .col_expr(connection::Column::CheckDueAt, Expr::value(now))
                    .col_expr(connection::Column::Problem, Expr::value(Some(error.to_string())));
            }
            Some(error) => {
                tracing::info!(%error, connection = %connection.id, "an account could not be read in full");
            }
            None => {}
        }
        update.exec(tx.conn()).await?;
        tx.commit().await
    }

    async fn poll_login(&self, login: &member_login::Model) -> Result<(), DbErr> {
        match self.read_login(login).await {
            Ok(()) => Ok(()),
            Err(LoginError::Store(error)) => Err(error),
            Err(LoginError::Call(error @ CallError::Dead(_))) => {
                tracing::info!(%error, login = %login.id, "a member's login has ended");
                let tx = self.db.write().await?;
                logins::kill(&tx, login).await?;
                tx.commit().await
            }
            Err(error) => {
                tracing::info!(%error, login = %login.id, "a member's videos could not be read");
                let after_ms = match error {
                    LoginError::Call(CallError::Limited | CallError::Unavailable(_)) => LIMITED_MS,
                    _ => LOGIN_EVERY_MS,
                };
                let tx = self.db.write().await?;
                read_again(&tx, login, after_ms, login.has_polled, login.handle.as_deref()).await?;
                tx.commit().await
            }
        }
    }

    async fn read_login(&self, login: &member_login::Model) -> Result<(), LoginError> {
        let member = Member::new(self, self.access_token(login).await?);
        let user = member.user(&login.scopes).await?;
        if user.open_id != login.person {
            return Err(CallError::Dead("another person".to_owned()).into());
        }
        let may_list = login.scopes.split(',').any(|scope| scope.trim() == "video.list");
        let mut posts =
            if may_list { read(&Videos { member: &member, user: &user }).await? } else { Vec::new() };
        let site = login.site_id;
        let first = self.first(login.has_polled, site, login.created_at).await?;
        let is_old = |post: &&Post| first.as_ref().is_some_and(|first| first.is_old(post));
        let old = posts.iter().filter(is_old).map(|post| post.key(site)).collect();
        let tx = self.db.write().await?;
        config::take_turns(&tx, &[site]).await?;
        let is_proven = prove(&tx, login, &user).await?;
        for post in posts.iter_mut().filter(|_| is_proven) {
            post.open_id = Some(login.person.clone());
        }
        let items: Vec<NewItem> = posts.iter().map(|post| post.item(site)).collect();
        add(&tx, &items, &old).await?;
        read_again(&tx, login, LOGIN_EVERY_MS, true, user.handle.as_deref()).await?;
        tx.commit().await?;
        Ok(())
    }
}

/// To take `row` until `until`, if it still is as it was found.
fn lease_connection(row: &connection::Model, until: Timestamp) -> UpdateMany<connection::Entity> {
    connection::Entity::update_many()
        .col_expr(connection::Column::PollDueAt, Expr::value(until))
        .filter(connection::Column::Id.eq(row.id))
        .filter(connection::Column::PollDueAt.eq(row.poll_due_at))
}

/// The same of a member's login.
fn lease_login(row: &member_login::Model, until: Timestamp) -> UpdateMany<member_login::Entity> {
    member_login::Entity::update_many()
        .col_expr(member_login::Column::PollDueAt, Expr::value(until))
        .filter(member_login::Column::Id.eq(row.id))
        .filter(member_login::Column::PollDueAt.eq(row.poll_due_at))
}

async fn read_again(
    tx: &Tx,
    login: &member_login::Model,
    after_ms: i64,
    has_polled: bool,
    handle: Option<&str>,
) -> Result<(), DbErr> {
    member_login::Entity::update_many()
        .col_expr(member_login::Column::PollDueAt, Expr::value(tx.now().plus_ms(after_ms)))
        .col_expr(member_login::Column::HasPolled, Expr::value(has_polled))
        .col_expr(member_login::Column::Handle, Expr::value(handle.map(str::to_owned)))
        .filter(member_login::Column::Id.eq(login.id))
        // Whoever has logged in again since is read anew.
        .filter(member_login::Column::CreatedAt.eq(login.created_at))
        .exec(tx.conn())
        .await?;
    Ok(())
}

/// Stores what `TikTok` says of the member as what proves the handle. Says whether it is this login that proves it.
async fn prove(tx: &Tx, login: &member_login::Model, user: &User) -> Result<bool, DbErr> {
    let Some(handle) = &user.handle else { return Ok(false) };
    let payload = json!({"open_id": user.open_id, "handle": handle, "author": user.author});
    let created_at = login.created_at.0.to_string();
    let item = NewItem {
        platform: Platform::Tiktok,
        account: String::new(),
        key: format!("{LOGIN}:{}", words::digest(&[&login.id.0.to_string(), &created_at, handle])),
        kind: LOGIN.to_owned(),
        person: Some(login.person.clone()),
        handle: Some(handle.clone()),
        site: Some(login.site_id),
        occurred_at: Some(tx.now()),
        payload: payload.to_string(),
    };
    let stored = inbox::add(tx, std::slice::from_ref(&item)).await?;
    let id = match stored.new.first() {
        Some((_, id)) => Some(*id),
        None => known(tx, &item).await?,
    };
    let Some(id) = id else { return Ok(false) };
    logins::prove(tx, login, handle, id).await
}

async fn known(tx: &Tx, new: &NewItem) -> Result<Option<ItemId>, DbErr> {
    let found = item::Entity::find()
        .filter(item::Column::Platform.eq(new.platform))
        .filter(item::Column::Account.eq(&new.account))
        .filter(item::Column::ItemKey.eq(&new.key))
        .one(tx.conn())
        .await?;
    Ok(found.map(|item| item.id))
}

/// Adds what was found; what is among the `old` keys only to know it later. Says how many were new.
async fn add(tx: &Tx, items: &[NewItem], old: &HashSet<String>) -> Result<usize, DbErr> {
    let stored = inbox::add(tx, items).await?;
    let old = stored.new.iter().filter(|(key, _)| old.contains(key));
    let marked: Vec<Settled> = old.map(|(_, id)| marked(*id, tx.now())).collect();
    rows::write_all(tx.conn(), vec![inbox::settle(&marked)]).await?;
    Ok(stored.new.len())
}

fn marked(id: ItemId, now: Timestamp) -> Settled {
    Settled {
        id,
        site: None,
        handle: None,
        status: ItemStatus::Done,
        reason: Some(MARKED.to_owned()),
        due_at: now,
        expires_at: None,
    }
}
