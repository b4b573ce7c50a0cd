//! When to try again: the subscription's waits, jitter upwards only, `Retry-After` as a lower bound.

use entity::id::{DeliveryId, Timestamp};
use entity::kinds::RetryProfile;

const SECOND_MS: i64 = 1_000;
const MINUTE_MS: i64 = 60 * SECOND_MS;
const HOUR_MS: i64 = 60 * MINUTE_MS;

/// Wix's resends, each counted from the failure before it: 47 h 11 min in all.
pub const RESENDS_MS: [i64; 12] = [
    MINUTE_MS,
    10 * MINUTE_MS,
    HOUR_MS,
    2 * HOUR_MS,
    2 * HOUR_MS,
    2 * HOUR_MS,
    4 * HOUR_MS,
    4 * HOUR_MS,
    4 * HOUR_MS,
    8 * HOUR_MS,
    8 * HOUR_MS,
    12 * HOUR_MS,
];
/// The resends of the Standard Webhooks specification's example: 75 h 35 min 5 s in all.
pub const STANDARD_RESENDS_MS: [i64; 9] = [
    5 * SECOND_MS,
    5 * MINUTE_MS,
    30 * MINUTE_MS,
    2 * HOUR_MS,
    5 * HOUR_MS,
    10 * HOUR_MS,
    14 * HOUR_MS,
    20 * HOUR_MS,
    24 * HOUR_MS,
];
/// The longest wait in a subscription's own profile, in seconds: a day.
pub const DELAY_S_MAX: i64 = 86_400;
/// Jitter is at least this much of a spread …
const JITTER_MIN_MS: i64 = 1_000;
/// … and at most this much, a tenth of the wait in between.
const JITTER_MAX_MS: i64 = 15 * MINUTE_MS;
/// The longest `Retry-After` that is honoured.
const RETRY_AFTER_MAX_MS: i64 = 12 * HOUR_MS;

/// The waits of `profile` in milliseconds; `delays_s` are those of [`RetryProfile::Custom`] in seconds.
#[must_use]
pub fn resends_ms(profile: RetryProfile, delays_s: &[i64]) -> Vec<i64> {
    match profile {
        RetryProfile::Wix => RESENDS_MS.to_vec(),
        RetryProfile::Standard => STANDARD_RESENDS_MS.to_vec(),
        RetryProfile::Custom => delays_s.iter().map(|delay| delay * SECOND_MS).collect(),
    }
}

/// When the delivery is due again after a failure at `failed_at` with `step` of the `resends` used up, or `None` when they
/// have ended. `hint_ms` is the receiver's `Retry-After`.
#[must_use]
pub fn next_attempt_at(
    delivery: DeliveryId,
    resends: &[i64],
    step: i32,
    failed_at: Timestamp,
    hint_ms: Option<i64>,
) -> Option<Timestamp> {
    let base = *resends.get(usize::try_from(step).ok()?)?;
    let spread = (base / 10).clamp(JITTER_MIN_MS, JITTER_MAX_MS);
    let wait = base + jitter(delivery, step, spread);
    let hint = hint_ms.unwrap_or(0).clamp(0, RETRY_AFTER_MAX_MS);
    Some(failed_at.plus_ms(wait.max(hint)))
}

/// A number from 0 to `spread`, spread evenly over deliveries: derived from the id's random bits, so that a schedule
/// can be foretold and tested.
fn jitter(delivery: DeliveryId, step: i32, spread: i64) -> i64 {
    let (_, low) = delivery.0.as_u64_pair();
    let mixed = (low ^ u64::from(step.unsigned_abs()).wrapping_mul(0x9e37_79b9_7f4a_7c15))
        .wrapping_mul(0xff51_afd7_ed55_8ccd);
    i64::try_from((mixed >> 33) % (spread.unsigned_abs() + 1)).unwrap_or(0)
}

/// Milliseconds that a `Retry-After` header asks for: seconds, or an HTTP date compared with `now`.
#[must_use]
pub fn retry_after_ms(header: &str, now: Timestamp) -> Option<i64> {
    let header = header.trim();
    if let Ok(seconds) = header.parse::<u64>() {
        return Some(i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1000));
    }
    if !header.is_empty() && header.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(RETRY_AFTER_MAX_MS);
    }
    let date = chrono::NaiveDateTime::parse_from_str(header, "%a, %d %b %Y %H:%M:%S GMT").ok()?;
    Some((date.and_utc().timestamp_millis() - now.0).max(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_is_wix_twelve_resends_with_jitter_upwards_only() {
        let failed = Timestamp(1_700_000_000_000);
        for (step, base) in (0_i32..).zip(RESENDS_MS) {
            for random in 0..200_u128 {
                let delivery = DeliveryId(uuid::Uuid::from_u128(random * 0x1234_5678_9abc_def1));
                let wait = next_attempt_at(delivery, &RESENDS_MS, step, failed, None).unwrap().0 - failed.0;
                assert!(wait >= base, "step {step}: {wait} is before {base}");
                assert!(wait <= base + (base / 10).clamp(1_000, 900_000), "step {step}: {wait} is too late");
            }
        }
        assert_eq!(RESENDS_MS.iter().sum::<i64>(), (47 * 60 + 11) * 60_000);
        assert_eq!(next_attempt_at(DeliveryId(uuid::Uuid::nil()), &RESENDS_MS, 12, failed, None), None);
    }

    #[test]
    fn the_standard_profile_takes_75_hours_35_minutes_and_a_custom_one_its_own_waits() {
        assert_eq!(resends_ms(RetryProfile::Wix, &[]), RESENDS_MS);
        let standard = resends_ms(RetryProfile::Standard, &[]);
        assert_eq!(standard.iter().sum::<i64>(), ((75 * 60 + 35) * 60 + 5) * 1_000);
        assert_eq!(resends_ms(RetryProfile::Custom, &[1, 30]), [1_000, 30_000]);
    }

    #[test]
    fn retry_after_only_delays_and_is_capped_at_twelve_hours() {
        let failed = Timestamp(0);
        let wait =
            |hint| next_attempt_at(DeliveryId(uuid::Uuid::nil()), &RESENDS_MS, 0, failed, hint).unwrap().0;
        let plain = wait(None);
        assert_eq!(wait(Some(5)), plain);
        assert_eq!(wait(Some(300_000)), 300_000);
        assert_eq!(wait(Some(i64::MAX)), 12 * 3_600_000);
    }

    #[test]
    fn retry_after_reads_seconds_and_dates_and_ignores_nonsense() {
        let now = Timestamp(784_111_777_000 - 9_000);
        assert_eq!(retry_after_ms("120", now), Some(120_000));
        assert_eq!(retry_after_ms(" 0 ", now), Some(0));
        assert_eq!(retry_after_ms("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(9_000));
        assert_eq!(retry_after_ms("Sun, 06 Nov 1994 08:49:37 GMT", now.plus_ms(20_000)), Some(0));
        assert_eq!(retry_after_ms("99999999999999999999999", now), Some(12 * 3_600_000));
        for nonsense in ["", "soon", "-5", "1.5"] {
            assert_eq!(retry_after_ms(nonsense, now), None, "{nonsense}");
        }
    }
}
