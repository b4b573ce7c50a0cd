//! Who of a site's members a person on a platform is: by the platform's id once it is proven, by a link code that proves it now, or by a
//! handle that exactly one member claims.

use std::collections::{HashMap, HashSet};

use entity::id::{ItemId, MemberId, SiteId, Timestamp};
use entity::kinds::Platform;
use entity::{item, link_code, member_handle, person};
use sea_orm::{DbErr, FromQueryResult as _};

use super::Sighting;
use crate::db::Tx;
use crate::profiles::link_codes;
use crate::rows::{Rows, Write};

/// Why something does not count for who has the handle.
const CLAIMED_LATE: &str = "it was posted before the member claimed the handle";

type HandleKey = (SiteId, MemberId, Platform);

/// What came of matching a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// Who it is.
    pub member: MemberId,
    /// Whether that is proven, and not only claimed.
    pub is_proven: bool,
    /// The code that has just proven it.
    pub code: Option<String>,
}

/// Persons, handles and codes as a batch found them, and as it leaves them.
#[derive(Default)]
pub struct Matching {
    persons: HashMap<(SiteId, Platform, String), person::Model>,
    changed_persons: HashSet<(SiteId, Platform, String)>,
    /// Things of whose person something later is known already.
    outdated: HashSet<ItemId>,
    handles: HashMap<HandleKey, member_handle::Model>,
    changed_handles: HashSet<HandleKey>,
    codes: HashMap<(SiteId, Vec<u8>), link_code::Model>,
    used_codes: HashSet<(SiteId, Vec<u8>)>,
}

impl Matching {
    /// Reads what may concern `sightings`.
    pub async fn read(tx: &Tx, sightings: &[&Sighting]) -> Result<Self, DbErr> {
        let mut matching = Self::default();
        matching.read_persons(tx, sightings).await?;
        matching.read_handles(tx, sightings).await?;
        matching.read_codes(tx, sightings).await?;
        Ok(matching)
    }

    async fn read_persons(&mut self, tx: &Tx, sightings: &[&Sighting]) -> Result<(), DbErr> {
        let known: Vec<(SiteId, Platform, &str)> =
            sightings.iter().filter_map(|sighting| external(sighting)).collect();
        for part in unique(known).chunks(PART_MAX) {
            let rows = Rows::new(part)
                .uuid("site_id", |(site, ..)| site.0)
                .text("platform", |(_, platform, _)| platform.as_str())
                .text("external_id", |(.., external)| *external)
                .query(
                    tx.conn(),
                    "SELECT p.* FROM {rows} r JOIN person p ON p.site_id = r.site_id AND p.platform = r.platform \
                     AND p.external_id = r.external_id",
                )
                .await?;
            for row in rows {
                let row = person::Model::from_query_result(&row, "")?;
                self.persons.insert((row.site_id, row.platform, row.external_id.clone()), row);
            }
        }
        Ok(())
    }

    async fn read_handles(&mut self, tx: &Tx, sightings: &[&Sighting]) -> Result<(), DbErr> {
        const BY_PERSON: &str = "SELECT h.* FROM {rows} r JOIN member_handle h ON h.site_id = r.site_id \
             AND h.platform = r.platform AND h.person = r.word AND h.person IS NOT NULL";
        const BY_HANDLE: &str = "SELECT h.* FROM {rows} r JOIN member_handle h ON h.site_id = r.site_id \
             AND h.platform = r.platform AND h.handle = r.word";
        let persons: Vec<_> = sightings.iter().filter_map(|sighting| external(sighting)).collect();
        let handles: Vec<_> = sightings
            .iter()
            .filter_map(|sighting| Some((sighting.site, sighting.person.platform, self.handle(sighting)?)))
            .collect();
        let mut found = Vec::new();
        for (words, sql) in [(unique(persons), BY_PERSON), (unique(handles), BY_HANDLE)] {
            for part in words.chunks(PART_MAX) {
                let rows = Rows::new(part)
                    .uuid("site_id", |(site, ..)| site.0)
                    .text("platform", |(_, platform, _)| platform.as_str())
                    .text("word", |(.., word)| *word)
                    .query(tx.conn(), sql)
                    .await?;
                for row in rows {
                    let row = member_handle::Model::from_query_result(&row, "")?;
                    found.push(((row.site_id, row.member_id, row.platform), row));
                }
            }
        }
        self.handles.extend(found);
        Ok(())
    }

    async fn read_codes(&mut self, tx: &Tx, sightings: &[&Sighting]) -> Result<(), DbErr> {
        let mut asked: Vec<(SiteId, String)> = Vec::new();
        for sighting in sightings.iter().filter(|sighting| sighting.is_message) {
            let codes = sighting.code_texts.iter().flat_map(|text| link_codes::candidates(text));
            asked.extend(codes.map(|code| (sighting.site, code)));
        }
        asked.sort_unstable();
        asked.dedup();
        for (site, code) in asked {
            let key = (site, link_codes::hash(&code));
            if let Some(row) = link_codes::find(tx.conn(), key.0, &key.1).await? {
                // The member's own handle, which the code may replace.
                for handle in crate::profiles::handles::of_member(tx.conn(), site, row.member_id).await? {
                    self.handles.entry((site, handle.member_id, handle.platform)).or_insert(handle);
                }
                self.codes.insert(key, row);
            }
        }
        Ok(())
    }

    /// Who did `sighting`, whose person is noted. A valid code in it proves the handle; the first proof of a person wins.
    pub fn find(&mut self, now: Timestamp, of: &item::Model, sighting: &Sighting) -> Result<Match, String> {
        let (item, person) = (of.id, &sighting.person);
        let (site, platform) = (sighting.site, person.platform);
        if let Some(external) = &person.external_id {
            self.meet(now, item, sighting, external);
            if let Some(member) = self.proven(site, platform, external) {
                if !self.outdated.contains(&item) {
                    self.rename(sighting, member);
                }
                return Ok(Match { member, is_proven: true, code: None });
            }
            if sighting.is_message
                && let Some((code, member)) = self.redeem(now, sighting, external)
            {
                self.prove(now, item, sighting, member, external);
                return Ok(Match { member, is_proven: true, code: Some(code) });
            }
        }
        let Some(handle) = self.handle(sighting) else {
            return Err("the platform did not say who it is".to_owned());
        };
        let of_handle: Vec<&member_handle::Model> = self
            .handles
            .values()
            .filter(|row| row.site_id == site && row.platform == platform && row.handle == handle)
            .collect();
        // Ids to different accounts say nothing about each other.
        let is_other = |row: &member_handle::Model| {
            row.person_account.as_deref() == Some(&person.account)
                && person.external_id.is_some()
                && row.person != person.external_id
        };
        if let Some(row) = of_handle.iter().find(|row| row.person.is_some()) {
            // Somebody else has the handle by now: the one who proved it keeps what was earned, and no more comes.
            return if is_other(row) {
                Err("the handle was proven by somebody else, who had it before".to_owned())
            } else {
                Ok(Match { member: row.member_id, is_proven: true, code: None })
            };
        }
        match of_handle.as_slice() {
            [] => Err("no member has this handle".to_owned()),
            [row] if is_late(row, of, sighting) => Err(CLAIMED_LATE.to_owned()),
            [row] => Ok(Match { member: row.member_id, is_proven: false, code: None }),
            _ => Err("several members claim this handle, and none has proven it".to_owned()),
        }
    }

    /// Why nothing comes of `sighting`, given who has proven the handle that `item` was told of.
    #[must_use]
    pub fn refuses(&self, item: &item::Model, sighting: &Sighting) -> Option<&'static str> {
        let handle = sighting.person.handle.as_deref()?;
        let (site, platform) = (sighting.site, sighting.person.platform);
        // Who only says so refuses nothing to somebody who may prove it yet.
        let mut proven = self.handles.values().filter(|row| {
            row.site_id == site && row.platform == platform && row.handle == handle && row.person.is_some()
        });
        proven.any(|row| is_late(row, item, sighting)).then_some(CLAIMED_LATE)
    }

    /// The handle of who did `sighting`: as it says itself, or as the platform has told of the person with something else.
    fn handle<'a>(&'a self, sighting: &'a Sighting) -> Option<&'a str> {
        let told = sighting.person.handle.as_deref();
        told.or_else(|| {
            let (site, platform, external) = external(sighting)?;
            self.persons.get(&(site, platform, external.to_owned()))?.handle.as_deref()
        })
    }

    fn proven(&self, site: SiteId, platform: Platform, external: &str) -> Option<MemberId> {
        let is_theirs = |row: &&member_handle::Model| {
            row.site_id == site && row.platform == platform && row.person.as_deref() == Some(external)
        };
        self.handles.values().find(is_theirs).map(|row| row.member_id)
    }

    /// The first code of `sighting` that counts, which it then does no more.
    fn redeem(&mut self, now: Timestamp, sighting: &Sighting, external: &str) -> Option<(String, MemberId)> {
        for code in sighting.code_texts.iter().flat_map(|text| link_codes::candidates(text)) {
            let key = (sighting.site, link_codes::hash(&code));
            let Some(row) = self.codes.get_mut(&key) else { continue };
            // What was sent in time counts, however late the work on it is.
            let in_time = sighting.occurred_at < row.expires_at;
            if row.platform == sighting.person.platform && row.used_at.is_none() && in_time {
                row.used_at = Some(now);
                row.used_by = Some(external.to_owned());
                let member = row.member_id;
                self.used_codes.insert(key);
                return Some((code, member));
            }
        }
        None
    }

    fn prove(&mut self, now: Timestamp, item: ItemId, sighting: &Sighting, member: MemberId, external: &str) {
        let (site, platform) = (sighting.site, sighting.person.platform);
        let key = (site, member, platform);
        // What the member claims is no proof: without the platform's word for it the person is known by the id alone.
        let handle = sighting.person.handle.clone().unwrap_or_else(|| external.to_owned());
        self.free(site, platform, &handle, member);
        let row = member_handle::Model {
            site_id: site,
            member_id: member,
            platform,
            handle,
            person: Some(external.to_owned()),
            person_account: Some(sighting.person.account.clone()),
            proven_at: Some(now),
            proven_by: Some(item),
            claimed_at: self.handles.get(&key).map_or(now, |row| row.claimed_at),
        };
        self.handles.insert(key, row);
        self.changed_handles.insert(key);
    }

    /// Whoever else has proven `handle` has it no more, as the platform gives a handle to one person at a time; they stay who
    /// they are by the platform's id.
    fn free(&mut self, site: SiteId, platform: Platform, handle: &str, for_member: MemberId) {
        for (key, row) in &mut self.handles {
            let is_same = row.site_id == site && row.platform == platform && row.handle == handle;
            if is_same
                && row.member_id != for_member
                && let Some(person) = &row.person
            {
                row.handle.clone_from(person);
                self.changed_handles.insert(*key);
            }
        }
    }

    /// Notes the handle that a proven person has now.
    fn rename(&mut self, sighting: &Sighting, member: MemberId) {
        let (site, platform) = (sighting.site, sighting.person.platform);
        let Some(handle) = &sighting.person.handle else { return };
        let key = (site, member, platform);
        if self.handles.get(&key).is_some_and(|row| row.handle != *handle) {
            self.free(site, platform, handle, member);
            if let Some(row) = self.handles.get_mut(&key) {
                row.handle.clone_from(handle);
                self.changed_handles.insert(key);
            }
        }
    }

    /// Notes what `sighting` tells of its person, unless something later is known already: platforms repeat what they could not
    /// deliver, in no order.
    fn meet(&mut self, now: Timestamp, item: ItemId, sighting: &Sighting, external: &str) {
        let person = &sighting.person;
        let key = (sighting.site, person.platform, external.to_owned());
        self.changed_persons.insert(key.clone());
        let row = self.persons.entry(key).or_insert_with(|| person::Model {
            site_id: sighting.site,
            platform: person.platform,
            external_id: external.to_owned(),
            handle: None,
            follows: None,
            follows_since: None,
            last_message_at: None,
            told_at: person.told_at,
            counted_for: None,
            is_count_proven: false,
            updated_at: now,
        });
        row.updated_at = now;
        if sighting.is_message {
            row.last_message_at = row.last_message_at.max(Some(sighting.occurred_at));
        }
        if person.told_at < row.told_at {
            self.outdated.insert(item);
            return;
        }
        row.told_at = person.told_at;
        if let Some(handle) = &person.handle {
            row.handle = Some(handle.clone());
        }
    }

    /// The person of `sighting`, whether or not `item` tells the latest that is known.
    pub fn person(&mut self, sighting: &Sighting) -> Option<&mut person::Model> {
        let external = sighting.person.external_id.clone()?;
        self.persons.get_mut(&(sighting.site, sighting.person.platform, external))
    }

    /// Whether what `item` tells of its person is not what the person is by now.
    #[must_use]
    pub fn is_outdated(&self, item: ItemId) -> bool {
        self.outdated.contains(&item)
    }

    /// Handles that were proven or renamed: what waits for them can be worked on again.
    #[must_use]
    pub fn changed_handles(&self) -> Vec<member_handle::Model> {
        self.changed_handles.iter().filter_map(|key| self.handles.get(key)).cloned().collect()
    }

    /// Marks the codes that were used.
    pub async fn use_codes(&self, tx: &Tx) -> Result<(), DbErr> {
        for row in self.used_codes.iter().filter_map(|key| self.codes.get(key)) {
            link_codes::mark_used(tx, row).await?;
        }
        Ok(())
    }

    /// To write what has changed. Handles that were freed come before those that take them.
    #[must_use]
    pub fn writes(&self) -> (Vec<Write>, Vec<Write>) {
        let persons: Vec<&person::Model> =
            self.changed_persons.iter().filter_map(|key| self.persons.get(key)).collect();
        let handles: Vec<&member_handle::Model> =
            self.changed_handles.iter().filter_map(|key| self.handles.get(key)).collect();
        let (freed, taken): (Vec<_>, Vec<_>) =
            handles.into_iter().partition(|row| row.person.as_deref() == Some(row.handle.as_str()));
        (vec![handles_write(&freed)], vec![handles_write(&taken), persons_write(&persons)])
    }
}

/// Rows that one query looks up.
const PART_MAX: usize = 256;

fn external(sighting: &Sighting) -> Option<(SiteId, Platform, &str)> {
    let person = &sighting.person;
    Some((sighting.site, person.platform, person.external_id.as_deref()?))
}

fn unique<T: Ord>(mut items: Vec<T>) -> Vec<T> {
    items.sort_unstable();
    items.dedup();
    items
}

fn persons_write(rows: &[&person::Model]) -> Write {
    Rows::new(rows)
        .uuid("site_id", |row| row.site_id.0)
        .text("platform", |row| row.platform.as_str())
        .text("external_id", |row| row.external_id.as_str())
        .text_or_null("handle", |row| row.handle.as_deref())
        .int_or_null("follows_flag", |row| row.follows.map(i64::from))
        .int_or_null("follows_since", |row| row.follows_since.map(|at| at.0))
        .int_or_null("last_message_at", |row| row.last_message_at.map(|at| at.0))
        .int("told_at", |row| row.told_at.0)
        .uuid_or_null("counted_for", |row| row.counted_for.map(|id| id.0))
        .int("proven_flag", |row| i64::from(row.is_count_proven))
        .int("updated_at", |row| row.updated_at.0)
        .write(
            "INSERT INTO person (site_id, platform, external_id, handle, follows, follows_since, last_message_at, \
             told_at, counted_for, is_count_proven, updated_at) \
             SELECT site_id, platform, external_id, handle, follows_flag = 1, follows_since, last_message_at, \
             told_at, counted_for, proven_flag = 1, updated_at FROM {rows} AS r WHERE true \
             ON CONFLICT (site_id, platform, external_id) DO UPDATE SET handle = excluded.handle, \
             follows = excluded.follows, follows_since = excluded.follows_since, \
             last_message_at = excluded.last_message_at, told_at = excluded.told_at, \
             counted_for = excluded.counted_for, is_count_proven = excluded.is_count_proven, \
             updated_at = excluded.updated_at",
        )
}

/// Whether the member of `row` claimed the handle too late for `item` to count. What came before somebody did so has waited for that.
fn is_late(row: &member_handle::Model, item: &item::Model, sighting: &Sighting) -> bool {
    let until = sighting.conditions.claimed_until;
    until.is_some_and(|until| item.received_at >= row.claimed_at && row.claimed_at > until)
}

fn handles_write(rows: &[&member_handle::Model]) -> Write {
    Rows::new(rows)
        .uuid("site_id", |row| row.site_id.0)
        .uuid("member_id", |row| row.member_id.0)
        .text("platform", |row| row.platform.as_str())
        .text("handle", |row| row.handle.as_str())
        .text_or_null("person", |row| row.person.as_deref())
        .text_or_null("person_account", |row| row.person_account.as_deref())
        .int_or_null("proven_at", |row| row.proven_at.map(|at| at.0))
        .uuid_or_null("proven_by", |row| row.proven_by.map(|id| id.0))
        .int("claimed_at", |row| row.claimed_at.0)
        .insert(
            "member_handle",
            " ON CONFLICT (site_id, member_id, platform) DO UPDATE SET handle = excluded.handle, \
             person = excluded.person, person_account = excluded.person_account, proven_at = excluded.proven_at, proven_by = excluded.proven_by",
        )
}
