//! How long the parts of a request took.

use std::time::Duration;

use tokio::time::Instant;

use super::Phase;

/// How long the parts of one request took. A part that did not occur, as on a kept connection, is absent; the part in which
/// a request failed is there as far as it came. Of a request that was sent twice it is the second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// Finding the addresses of the host's name.
    pub dns: Option<Duration>,
    /// Opening the TCP connection, through a proxy included.
    pub connect: Option<Duration>,
    /// Agreeing on encryption.
    pub tls: Option<Duration>,
    /// From the request until the first byte of the answer; over HTTP/2 until its head.
    pub first_byte: Option<Duration>,
    /// From the start until the answer was read or given up.
    pub total: Duration,
}

/// How far a request has come, and since when. It outlives the request, which may be cut off at any point.
#[derive(Debug)]
pub(super) struct Course {
    started: Instant,
    phase: Option<Phase>,
    since: Instant,
    timings: Timings,
}

impl Course {
    pub(super) fn start() -> Self {
        let now = Instant::now();
        Self { started: now, phase: None, since: now, timings: Timings::default() }
    }

    /// Ends the phase before, if there is one, and begins this.
    pub(super) fn enter(&mut self, phase: Phase) {
        self.leave();
        (self.phase, self.since) = (Some(phase), Instant::now());
    }

    /// Forgets the connection of a try that is repeated on a new one.
    pub(super) fn repeat(&mut self) {
        self.phase = None;
        self.timings = Timings { dns: self.timings.dns, ..Timings::default() };
    }

    /// The phase that is under way.
    pub(super) fn phase(&self) -> Phase {
        self.phase.unwrap_or(Phase::ResponseHead)
    }

    /// The time since the phase began.
    pub(super) fn in_phase(&self) -> Duration {
        self.since.elapsed()
    }

    /// How long everything took; `first_byte` is known to who reads the connection.
    pub(super) fn end(mut self, first_byte: Option<Duration>) -> Timings {
        self.leave();
        Timings { first_byte, total: self.started.elapsed(), ..self.timings }
    }

    fn leave(&mut self) {
        let took = Some(self.since.elapsed());
        match self.phase.take() {
            Some(Phase::Dns) => self.timings.dns = took,
            Some(Phase::Connect) => self.timings.connect = took,
            Some(Phase::Tls) => self.timings.tls = took,
            Some(Phase::ResponseHead) | None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_phases_that_were_entered_have_a_time() {
        let mut course = Course::start();
        course.enter(Phase::Dns);
        course.enter(Phase::Connect);
        let timings = course.end(None);
        assert!(timings.dns.is_some() && timings.connect.is_some());
        assert_eq!((timings.tls, timings.first_byte), (None, None));
        assert!(timings.total >= timings.dns.unwrap_or_default() + timings.connect.unwrap_or_default());
    }

    #[test]
    fn a_repeated_try_keeps_the_lookup_and_forgets_the_connection() {
        let mut course = Course::start();
        for phase in [Phase::Dns, Phase::Connect, Phase::Tls, Phase::ResponseHead] {
            course.enter(phase);
            assert_eq!(course.phase(), phase);
        }
        course.repeat();
        let timings = course.end(None);
        assert!(timings.dns.is_some());
        assert_eq!((timings.connect, timings.tls), (None, None));
    }
}
