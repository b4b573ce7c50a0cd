//! How near a connection is to its limit of calls, and the gate that keeps it from reaching it.
//!
//! Answers say in percent how much of a limit is used. From [`SLOW_PERCENT`] on calls are spread over time, from
//! [`STOP_PERCENT`] on none is made until the platform gives access back. Whoever finds the gate closed learns when to come back.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use entity::id::{ConnectionId, Timestamp};
use serde_json::Value;

use super::answers::number;
use super::graph_error::{GraphError, THROTTLED_MS};

/// From here on calls are spread.
pub const SLOW_PERCENT: i64 = 80;
/// From here on none is made.
pub const STOP_PERCENT: i64 = 95;
/// The time between two calls that are spread, in milliseconds.
pub const SPREAD_MS: i64 = 5_000;
/// The longest that a call is put off at once when calls are spread, in milliseconds.
const SPREAD_MAX_MS: i64 = 3_600_000;
/// How long an answer's percentage is believed, in milliseconds: the limits are counted per hour.
const BELIEVED_MS: i64 = 3_600_000;

/// How much of the limits is used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// The highest of all percentages.
    pub percent: i64,
    /// The longest time until access comes back, in milliseconds; 0 if none is named.
    pub regain_ms: i64,
}

impl Usage {
    /// Reads `X-App-Usage` and `X-Business-Use-Case-Usage`; what cannot be read says nothing.
    #[must_use]
    pub fn parse(app: Option<&str>, business: Option<&str>) -> Self {
        let read = |text: Option<&str>| text.and_then(|text| serde_json::from_str::<Value>(text).ok());
        let mut usage = Self::default();
        if let Some(app) = read(app) {
            usage.take(&app);
        }
        if let Some(Value::Object(accounts)) = read(business) {
            accounts.values().filter_map(Value::as_array).flatten().for_each(|entry| usage.take(entry));
        }
        usage
    }

    fn take(&mut self, entry: &Value) {
        for name in ["call_count", "total_time", "total_cputime"] {
            self.percent = self.percent.max(number(&entry[name]).unwrap_or(0));
        }
        let minutes = number(&entry["estimated_time_to_regain_access"]).unwrap_or(0);
        self.regain_ms = self.regain_ms.max(minutes.max(0).saturating_mul(60_000));
    }
}

/// What is known of one connection.
#[derive(Debug, Clone, Copy, Default)]
struct Meter {
    percent: i64,
    /// When that was said.
    read_at: i64,
    /// No call before this.
    closed_until: i64,
    /// Calls are spread: the next may be made then.
    next_at: i64,
    /// Who found the gate closed last was told to come back then.
    promised_at: i64,
}

/// The gate of every connection of this node.
#[derive(Debug, Default)]
pub struct Gate(Mutex<HashMap<ConnectionId, Meter>>);

impl Gate {
    fn meters(&self) -> MutexGuard<'_, HashMap<ConnectionId, Meter>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a call of `connection` may be made now.
    pub fn pass(&self, connection: ConnectionId, now: Timestamp) -> Result<(), GraphError> {
        let mut meters = self.meters();
        let Some(meter) = meters.get_mut(&connection) else { return Ok(()) };
        if meter.closed_until > now.0 {
            return Err(GraphError::Throttled(meter.closed_until - now.0));
        }
        let is_slow = meter.percent >= SLOW_PERCENT && now.0 - meter.read_at < BELIEVED_MS;
        if !is_slow {
            return Ok(());
        }
        if meter.next_at <= now.0 {
            meter.next_at = now.0 + SPREAD_MS;
            return Ok(());
        }
        // Each of those who must wait gets a time of its own, as far as that goes.
        let earliest = meter.promised_at.max(meter.next_at).max(now.0);
        meter.promised_at = (earliest + SPREAD_MS).min(now.0 + SPREAD_MAX_MS);
        Err(GraphError::Spread(meter.promised_at - now.0))
    }

    /// Learns what an answer said.
    pub fn note(&self, connection: ConnectionId, now: Timestamp, usage: Usage) {
        let mut meters = self.meters();
        let meter = meters.entry(connection).or_default();
        (meter.percent, meter.read_at) = (usage.percent, now.0);
        if usage.percent >= STOP_PERCENT {
            let rest = if usage.regain_ms > 0 { usage.regain_ms } else { THROTTLED_MS };
            meter.closed_until = meter.closed_until.max(now.0.saturating_add(rest));
        }
    }

    /// Closes the gate of `connection` for `ms` milliseconds.
    pub fn close(&self, connection: ConnectionId, now: Timestamp, ms: i64) {
        let mut meters = self.meters();
        let meter = meters.entry(connection).or_default();
        meter.closed_until = meter.closed_until.max(now.0.saturating_add(ms));
    }

    /// Until when the gate of `connection` is closed.
    #[must_use]
    pub fn closed_until(&self, connection: ConnectionId, now: Timestamp) -> Option<Timestamp> {
        let until = self.meters().get(&connection).map(|meter| Timestamp(meter.closed_until));
        until.filter(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const ID: ConnectionId = ConnectionId(Uuid::from_u128(1));

    fn at(ms: i64) -> Timestamp {
        Timestamp(1_000_000 + ms)
    }

    #[test]
    fn headers_are_read_quoted_or_not() {
        let business = r#"{"1784":[{"type":"instagram","call_count":"97","total_cputime":40,
            "estimated_time_to_regain_access":"19"},{"type":"messenger","call_count":3}]}"#;
        let app = r#"{"call_count":28,"total_time":25,"total_cputime":25}"#;
        assert_eq!(Usage::parse(Some(app), None), Usage { percent: 28, regain_ms: 0 });
        assert_eq!(Usage::parse(Some(app), Some(business)), Usage { percent: 97, regain_ms: 19 * 60_000 });
        for odd in ["", "x", "[]", "7", r#"{"1784":null}"#, r#"{"1784":[7]}"#, r#"{"call_count":"many"}"#] {
            assert_eq!(Usage::parse(Some(odd), Some(odd)), Usage::default(), "{odd}");
        }
    }

    #[test]
    fn below_eighty_percent_every_call_passes() {
        let gate = Gate::default();
        gate.note(ID, at(0), Usage { percent: SLOW_PERCENT - 1, regain_ms: 0 });
        for _ in 0..100 {
            assert_eq!(gate.pass(ID, at(0)), Ok(()));
        }
    }

    #[test]
    fn from_eighty_percent_on_calls_are_spread() {
        let gate = Gate::default();
        gate.note(ID, at(0), Usage { percent: SLOW_PERCENT, regain_ms: 0 });
        assert_eq!(gate.pass(ID, at(0)), Ok(()));
        // Those who come too early get times of their own.
        assert_eq!(gate.pass(ID, at(0)), Err(GraphError::Spread(2 * SPREAD_MS)));
        assert_eq!(gate.pass(ID, at(0)), Err(GraphError::Spread(3 * SPREAD_MS)));
        assert_eq!(gate.pass(ConnectionId(Uuid::from_u128(2)), at(0)), Ok(()));
        assert_eq!(gate.pass(ID, at(2 * SPREAD_MS)), Ok(()));
        assert_eq!(gate.pass(ID, at(3 * SPREAD_MS)), Ok(()));
        // An hour later nobody knows how much is used.
        assert_eq!(gate.pass(ID, at(BELIEVED_MS)), Ok(()));
        assert_eq!(gate.pass(ID, at(BELIEVED_MS)), Ok(()));
    }

    #[test]
    fn from_ninety_five_percent_on_nothing_passes_until_access_comes_back() {
        let gate = Gate::default();
        gate.note(ID, at(0), Usage { percent: STOP_PERCENT, regain_ms: 19 * 60_000 });
        assert_eq!(gate.pass(ID, at(1)), Err(GraphError::Throttled(19 * 60_000 - 1)));
        assert_eq!(gate.closed_until(ID, at(1)), Some(at(19 * 60_000)));
        assert_eq!(gate.pass(ID, at(19 * 60_000)), Ok(()));
        assert_eq!(gate.closed_until(ID, at(19 * 60_000)), None);
        gate.note(ID, at(20 * 60_000), Usage { percent: STOP_PERCENT, regain_ms: 0 });
        assert_eq!(gate.pass(ID, at(20 * 60_000)), Err(GraphError::Throttled(THROTTLED_MS)));
    }

    #[test]
    fn a_shorter_rest_does_not_open_the_gate_earlier() {
        let gate = Gate::default();
        gate.close(ID, at(0), 60_000);
        gate.close(ID, at(0), 1_000);
        gate.note(ID, at(0), Usage::default());
        assert_eq!(gate.pass(ID, at(0)), Err(GraphError::Throttled(60_000)));
    }
}
