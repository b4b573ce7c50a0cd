//! What a platform says about following becomes the follow that everybody knows: the same rule, transaction, points and events as
//! a follow by the API, with the platform as its source.

use entity::id::{ItemId, MemberId, SiteId};
use entity::kinds::{ActivityOutcome, Channel, Evidence, FollowSource, Platform, UnfollowPolicy};
use entity::person;

use super::awarding::Outcome;
use super::matching::Match;
use super::record::RecordError;
use crate::access::Identity;
use crate::db::Tx;
use crate::follows::batch::Batch;
use crate::follows::{Follow, FollowError, Proof, Subject};
use crate::points::Booking;
use crate::sites::config::Configs;

/// How old evidence must be for the same to be written anew, in milliseconds: a day.
const REFRESH_MS: i64 = 24 * 3_600_000;

/// What told it.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// The thing that the platform sent.
    pub item: ItemId,
    /// The site.
    pub site: SiteId,
    /// The platform.
    pub platform: Platform,
}

/// The channel that a platform is.
#[must_use]
pub const fn channel(platform: Platform) -> Channel {
    match platform {
        Platform::Instagram => Channel::Instagram,
        Platform::Tiktok => Channel::Tiktok,
    }
}

/// The member follows the brand, says the platform of `person`. One person's follow counts for one member, for ever: for the first
/// one, but for whoever proves to be the person rather than for one who has only claimed the handle.
pub fn register(
    tx: &Tx,
    configs: &Configs,
    batch: &mut Batch,
    seen: &Seen,
    person: &mut person::Model,
    found: &Match,
) -> Result<Outcome, RecordError> {
    let channel = channel(seen.platform);
    let settings = configs.get(&seen.site).and_then(|config| config.settings(channel));
    if !found.is_proven && settings.is_some_and(|settings| !settings.claimed_handle_earns) {
        let reason = "the member has not proven the handle yet".to_owned();
        return Ok(Outcome { outcome: ActivityOutcome::Held, reason: Some(reason), points: 0 });
    }
    let is_others = person.counted_for.is_some_and(|member| member != found.member);
    if is_others && (person.is_count_proven || !found.is_proven) {
        return Ok(Outcome::ignored("this person's follow has counted for another member"));
    }
    let points = settings.and_then(|settings| settings.points).unwrap_or(0);
    let evidence = if found.is_proven { Evidence::Verified } else { Evidence::ClaimedHandle };
    let source = match seen.platform {
        Platform::Instagram => FollowSource::Instagram,
        Platform::Tiktok => FollowSource::Tiktok,
    };
    let follow = Follow {
        site: seen.site,
        subject: Subject::Member(found.member),
        channel,
        identity: Identity::Member(found.member),
        idempotency_key: None,
        proof: Proof { source, evidence, item: Some(seen.item) },
    };
    let decided = batch.decide(tx, configs, &follow);
    if matches!(decided, Ok(_) | Err(FollowError::AlreadyFollowed(_))) {
        person.is_count_proven = found.is_proven || (person.is_count_proven && !is_others);
        person.counted_for = Some(found.member);
    }
    match decided {
        Ok(_) if points > 0 => Ok(Outcome { outcome: ActivityOutcome::Awarded, reason: None, points }),
        Ok(_) => Ok(Outcome::ignored("following this channel earns no points")),
        Err(FollowError::AlreadyFollowed(row)) => {
            let is_stronger = strength(evidence) > strength(row.evidence);
            let is_fresher = evidence == row.evidence
                && row.evidence_at.is_some_and(|at| at.plus_ms(REFRESH_MS) <= tx.now());
            if is_stronger || is_fresher {
                batch.prove(tx, row.account_id, channel, evidence, seen.item);
            }
            let reason = Some("the channel was followed before".to_owned());
            Ok(Outcome { outcome: ActivityOutcome::AlreadyEarned, reason, points: 0 })
        }
        Err(
            refused @ (FollowError::ProgramNotActive(_)
            | FollowError::ChannelNotEnabled(_)
            | FollowError::AccountNotFound),
        ) => Ok(Outcome::ignored(refused.to_string())),
        Err(error) => Err(error.into()),
    }
}

const fn strength(evidence: Evidence) -> u8 {
    match evidence {
        Evidence::Withdrawn => 0,
        Evidence::Declared => 1,
        Evidence::Stale => 2,
        Evidence::ClaimedHandle => 3,
        Evidence::Verified => 4,
    }
}

/// The member no longer follows the brand, says the platform: what that means is the owner's choice. The award is never
/// given again.
pub async fn withdraw(
    tx: &Tx,
    configs: &Configs,
    batch: &mut Batch,
    seen: &Seen,
    member: MemberId,
) -> Result<(), RecordError> {
    let channel = channel(seen.platform);
    let Some(settings) = configs.get(&seen.site).and_then(|config| config.settings(channel)) else {
        return Ok(());
    };
    let Some(account) = batch.existing(seen.site, member) else { return Ok(()) };
    let Some(row) = batch.follow(account, channel).cloned() else { return Ok(()) };
    if settings.unfollow_policy == UnfollowPolicy::Keep {
        return Ok(());
    }
    batch.prove(tx, account, channel, Evidence::Withdrawn, seen.item);
    let until = row.created_at.plus_ms(i64::from(settings.reverse_within_days) * 24 * 3_600_000);
    if settings.unfollow_policy == UnfollowPolicy::Reverse && tx.now() < until {
        let earned = batch.follow_award(tx, account, channel).await?;
        // What was spent meanwhile is spent.
        let points = earned.min(batch.balance(account));
        if points > 0 {
            batch.book(tx, account, Booking::unfollow(channel, points), &Identity::Member(member))?;
        }
    }
    Ok(())
}
