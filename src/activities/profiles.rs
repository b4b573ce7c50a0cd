//! The profiles of the members of a batch, as it found them and as it leaves them.

use std::collections::{BTreeSet, HashMap};

use entity::id::{MemberId, SiteId};
use entity::member_profile;
use sea_orm::{DbErr, FromQueryResult as _};
use serde_json::Value;

use super::Sighting;
use super::matching::Match;
use crate::db::Tx;
use crate::profiles::attributes::{Attributes, prefix};
use crate::rows::{Rows, Write};

type Key = (SiteId, MemberId);

/// Rows that one query looks up.
const PART_MAX: usize = 256;

/// Attributes by member.
#[derive(Default)]
pub struct Profiles {
    attributes: HashMap<Key, Attributes>,
    changed: BTreeSet<Key>,
}

impl Profiles {
    /// Reads the profiles of `members`.
    pub async fn read(tx: &Tx, members: &[Key]) -> Result<Self, DbErr> {
        let mut profiles = Self::default();
        for part in members.chunks(PART_MAX) {
            let rows = Rows::new(part)
                .uuid("site_id", |(site, _)| site.0)
                .uuid("member_id", |(_, member)| member.0)
                .query(
                    tx.conn(),
                    "SELECT p.* FROM {rows} r JOIN member_profile p ON p.site_id = r.site_id \
                     AND p.member_id = r.member_id",
                )
                .await?;
            for row in rows {
                let row = member_profile::Model::from_query_result(&row, "")?;
                profiles.attributes.insert((row.site_id, row.member_id), Attributes::parse(&row.attributes));
            }
        }
        Ok(profiles)
    }

    /// Notes what `sighting` tells about the member.
    pub fn tell(&mut self, sighting: &Sighting, found: &Match) {
        let key = (sighting.site, found.member);
        let attributes = self.attributes.entry(key).or_default();
        let before = attributes.clone();
        let person = &sighting.person;
        // What a post says about following is not known; only a message's lookup does.
        let mut facts = person.facts.clone();
        facts.follows_brand = facts.follows_brand.filter(|_| sighting.is_message);
        attributes.tell(
            person.platform,
            person.handle.as_deref(),
            &facts,
            sighting.source,
            sighting.occurred_at,
        );
        if let Some(code) = &found.code {
            attributes.set("dm_keyword", code.as_str(), sighting.source, sighting.occurred_at);
        }
        if *attributes != before {
            self.changed.insert(key);
        }
    }

    /// How many follow the person: as the platform told now, or else before.
    #[must_use]
    pub fn followers(&self, sighting: &Sighting, member: MemberId) -> Option<i64> {
        let person = &sighting.person;
        person.facts.followers.or_else(|| {
            let name = format!("{}_followers", prefix(person.platform));
            self.attributes.get(&(sighting.site, member))?.get(&name).and_then(Value::as_i64)
        })
    }

    /// To write what has changed.
    #[must_use]
    pub fn write(&self, tx: &Tx) -> Write {
        let changed: Vec<(&Key, &Attributes)> =
            self.changed.iter().filter_map(|key| Some((key, self.attributes.get(key)?))).collect();
        Rows::new(&changed)
            .uuid("site_id", |((site, _), _)| site.0)
            .uuid("member_id", |((_, member), _)| member.0)
            .text("attributes", |(_, attributes)| attributes.to_json())
            .same_int("updated_at", tx.now().0)
            .insert(
                "member_profile",
                " ON CONFLICT (site_id, member_id) DO UPDATE SET attributes = excluded.attributes, \
                 updated_at = excluded.updated_at",
            )
    }
}
