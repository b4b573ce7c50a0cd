//! Members: persons signed in on a site, known by the site's own id of them.

pub mod api;
mod lookup;

pub use lookup::MemberLookup;

use entity::id::{ContactId, MemberId, SiteId};
use entity::member;
use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel as _,
    QueryFilter, QueryOrder, QuerySelect,
};

use crate::change::Change;
use crate::db::Tx;

/// Characters of an external id, e-mail address or name.
pub const TEXT_MAX: usize = 256;

/// What is known of a new member.
#[derive(Debug, Default)]
pub struct NewMember {
    /// The site's own id of the person.
    pub external_id: Option<String>,
    /// E-mail address.
    pub email: Option<String>,
    /// Display name.
    pub name: Option<String>,
}

/// Makes a member of `site`, or finds the one with the same external id. Says whether it is new.
pub async fn create_member(tx: &Tx, site: SiteId, new: NewMember) -> Result<(member::Model, bool), DbErr> {
    let model = member::Model {
        id: MemberId(tx.new_id()),
        site_id: site,
        external_id: new.external_id,
        email: new.email,
        name: new.name,
        contact_id: ContactId(tx.new_id()),
        created_at: tx.now(),
        updated_at: tx.now(),
    };
    add_if_absent(tx, model).await
}

/// Stores `model` unless its site has a member of the same external id, which is given back instead.
pub async fn add_if_absent(tx: &Tx, model: member::Model) -> Result<(member::Model, bool), DbErr> {
    member::Entity::insert(member::ActiveModel::from(model.clone()))
        .on_conflict(
            OnConflict::columns([member::Column::SiteId, member::Column::ExternalId]).do_nothing().to_owned(),
        )
        .exec_without_returning(tx.conn())
        .await?;
    let Some(external_id) = &model.external_id else {
        return Ok((model, true));
    };
    match find_by_external_id(tx.conn(), model.site_id, external_id).await? {
        Some(stored) if stored.id != model.id => Ok((stored, false)),
        _ => Ok((model, true)),
    }
}

/// What becomes of what is known of a member.
#[derive(Debug, Default)]
pub struct MemberChange {
    /// E-mail address.
    pub email: Change<String>,
    /// Display name.
    pub name: Change<String>,
}

/// Changes the member `id` of `site`; `None` for an unknown one.
pub async fn change_member(
    tx: &Tx,
    site: SiteId,
    id: MemberId,
    change: MemberChange,
) -> Result<Option<member::Model>, DbErr> {
    // Held, so that of two changes at the same moment neither takes back the other's field.
    let found = member::Entity::find_by_id((site, id)).lock_exclusive().one(tx.conn()).await?;
    let Some(earlier) = found else { return Ok(None) };
    let row = member::Model {
        email: change.email.applied(earlier.email),
        name: change.name.applied(earlier.name),
        updated_at: tx.now(),
        ..earlier
    };
    row.into_active_model().reset_all().update(tx.conn()).await.map(Some)
}

/// The member of `site` with this external id.
pub async fn find_by_external_id(
    db: &impl ConnectionTrait,
    site: SiteId,
    external_id: &str,
) -> Result<Option<member::Model>, DbErr> {
    member::Entity::find()
        .filter(member::Column::SiteId.eq(site))
        .filter(member::Column::ExternalId.eq(external_id))
        .one(db)
        .await
}

/// The member `id` of `site`.
pub async fn find_member(
    db: &impl ConnectionTrait,
    site: SiteId,
    id: MemberId,
) -> Result<Option<member::Model>, DbErr> {
    member::Entity::find_by_id((site, id)).one(db).await
}

/// Members of `site` from the newest, after the one called `before`.
pub async fn list_members(
    db: &impl ConnectionTrait,
    site: SiteId,
    before: Option<MemberId>,
    limit: u64,
) -> Result<Vec<member::Model>, DbErr> {
    let mut query = member::Entity::find().filter(member::Column::SiteId.eq(site));
    if let Some(before) = before {
        query = query.filter(member::Column::Id.lt(before));
    }
    query.order_by_desc(member::Column::Id).limit(limit).all(db).await
}
