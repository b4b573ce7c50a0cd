//! Link codes: short, one-time, typed into a direct message. Whoever sends one from a handle has the handle.

use entity::id::{MemberId, SiteId, Timestamp};
use entity::kinds::Platform;
use entity::link_code;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, PaginatorTrait as _, QueryFilter};

use crate::db::Tx;
use crate::seal;

/// Letters and digits that nobody mistakes for one another: without 0, O, 1, I, L, U and V.
const ALPHABET: &[u8; 29] = b"23456789ABCDEFGHJKMNPQRSTWXYZ";
/// Characters of a code: 29^8 are 5·10^11.
pub const LENGTH: usize = 8;
/// How long a code counts, in milliseconds: half an hour.
pub const LIFE_MS: i64 = 30 * 60_000;
/// Codes that a member may ask for within [`WINDOW_MS`].
pub const PER_WINDOW: u64 = 5;
/// The time within which they are counted, in milliseconds: an hour.
pub const WINDOW_MS: i64 = 3_600_000;
/// Words of a message that are looked at.
const WORDS_MAX: usize = 64;

/// Why no code was made.
#[derive(Debug, thiserror::Error)]
pub enum LinkCodeError {
    /// The member has asked for too many.
    #[error("at most {PER_WINDOW} codes an hour")]
    TooMany {
        /// When the next may be asked for.
        again_at: Timestamp,
    },
    /// No randomness.
    #[error("no code could be made")]
    Random(#[from] seal::SealError),
    /// The database failed.
    #[error("the database failed")]
    Store(#[from] DbErr),
}

/// Makes a code for `member`: the code in two groups, `7K4Q-9XWM`, and when it ends.
pub async fn create(
    tx: &Tx,
    site: SiteId,
    member: MemberId,
    platform: Platform,
) -> Result<(String, Timestamp), LinkCodeError> {
    // Or calls at the same moment would not count each other's.
    super::hold(tx, site, member).await?;
    let since = tx.now().plus_ms(-WINDOW_MS);
    let recent = link_code::Entity::find()
        .filter(link_code::Column::SiteId.eq(site))
        .filter(link_code::Column::MemberId.eq(member))
        .filter(link_code::Column::CreatedAt.gt(since));
    if recent.clone().count(tx.conn()).await? >= PER_WINDOW {
        let rows = recent.all(tx.conn()).await?;
        let oldest = rows.iter().map(|row| row.created_at).min().unwrap_or(tx.now());
        return Err(LinkCodeError::TooMany { again_at: oldest.plus_ms(WINDOW_MS) });
    }
    let code = random()?;
    let expires_at = tx.now().plus_ms(LIFE_MS);
    let row = link_code::Model {
        site_id: site,
        code_hash: hash(&code),
        member_id: member,
        platform,
        created_at: tx.now(),
        expires_at,
        used_at: None,
        used_by: None,
    };
    link_code::Entity::insert(link_code::ActiveModel::from(row)).exec_without_returning(tx.conn()).await?;
    let (one, other) = code.split_at(LENGTH / 2);
    Ok((format!("{one}-{other}"), expires_at))
}

/// Deletes codes that ended a day ago: until then whoever sends one late is told so.
pub async fn delete_expired(tx: &Tx) -> Result<u64, DbErr> {
    let before = tx.now().plus_ms(-24 * 3_600_000);
    let deleted = link_code::Entity::delete_many()
        .filter(link_code::Column::ExpiresAt.lt(before))
        .exec(tx.conn())
        .await?;
    Ok(deleted.rows_affected)
}

fn random() -> Result<String, seal::SealError> {
    let mut code = String::with_capacity(LENGTH);
    while code.len() < LENGTH {
        // Bytes beyond the last whole run of the alphabet would make its first letters more likely.
        let runs = 256 / ALPHABET.len() * ALPHABET.len();
        let bytes = seal::random::<32>()?;
        let letters = bytes.iter().map(|byte| usize::from(*byte)).filter(|byte| *byte < runs);
        let letters =
            letters.filter_map(|byte| ALPHABET.get(byte % ALPHABET.len())).map(|letter| char::from(*letter));
        code.extend(letters.take(LENGTH - code.len()));
    }
    Ok(code)
}

/// The code of `site` of which `hash` is stored.
pub async fn find(
    db: &impl ConnectionTrait,
    site: SiteId,
    hash: &[u8],
) -> Result<Option<link_code::Model>, DbErr> {
    link_code::Entity::find_by_id((site, hash.to_vec())).one(db).await
}

/// Writes that `code` was used, by whom and when.
pub async fn mark_used(tx: &Tx, code: &link_code::Model) -> Result<(), DbErr> {
    link_code::Entity::update_many()
        .col_expr(link_code::Column::UsedAt, Expr::val(code.used_at.map(|at| at.0)))
        .col_expr(link_code::Column::UsedBy, Expr::val(code.used_by.clone()))
        .filter(link_code::Column::SiteId.eq(code.site_id))
        .filter(link_code::Column::CodeHash.eq(code.code_hash.clone()))
        .exec(tx.conn())
        .await?;
    Ok(())
}

/// What is stored of `code`, which [`candidates`] gave.
#[must_use]
pub fn hash(code: &str) -> Vec<u8> {
    seal::hash(code).to_vec()
}

/// Everything in `text` that may be a code, as it is compared: in upper case and without the hyphen.
#[must_use]
pub fn candidates(text: &str) -> Vec<String> {
    let words: Vec<String> = text
        .split(|c: char| !c.is_alphanumeric() && c != '-')
        .filter(|word| !word.is_empty())
        .take(WORDS_MAX)
        .map(|word| word.chars().filter(|c| *c != '-').map(|c| c.to_ascii_uppercase()).collect())
        .collect();
    let is_code = |word: &str| word.len() == LENGTH && word.bytes().all(|byte| ALPHABET.contains(&byte));
    let pairs = words.windows(2).map(<[String]>::concat);
    // `ref` parameters of links come with a word before the code: link-7K4Q9XWM.
    let ends = words.iter().filter_map(|word| word.get(word.len().checked_sub(LENGTH)?..)).map(str::to_owned);
    let mut found: Vec<String> =
        words.iter().cloned().chain(pairs).chain(ends).filter(|word| is_code(word)).collect();
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_found_however_they_are_typed() {
        for text in [
            "7K4Q-9XWM",
            "hi! my code: 7k4q 9xwm.",
            "link-7K4Q9XWM",
            "LINK_7K4Q9XWM",
            "NORDBREW 7k4q-9xwm",
            "7K4Q9XWM\n",
        ] {
            assert!(candidates(text).contains(&"7K4Q9XWM".to_owned()), "{text}");
        }
        assert!(candidates("").is_empty());
        assert!(candidates("hello there my friend").is_empty());
    }

    #[test]
    fn a_code_has_no_letters_to_be_mistaken() -> Result<(), seal::SealError> {
        let code = random()?;
        assert_eq!(code.len(), LENGTH);
        assert_eq!(candidates(&code), [code]);
        Ok(())
    }
}
