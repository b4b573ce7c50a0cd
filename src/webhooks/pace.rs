//! How fast tries start that may wait a little: those that work hardly notice those that fail.

use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

/// Whenever `may_start` is notified, calls `start` until it says that there is no more, with everything else that this process
/// has to do in between.
pub(super) async fn one_by_one(may_start: &Notify, start: impl Fn() -> bool) {
    loop {
        may_start.notified().await;
        while start() {
            tokio::task::yield_now().await;
        }
    }
}

/// The same with a `rest` after each call: so many start in a second at the most, however many could.
pub(super) async fn with_rests(may_start: &Notify, rest: Duration, start: impl Fn() -> bool) {
    let mut ticks = tokio::time::interval(rest);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        may_start.notified().await;
        ticks.tick().await;
        while start() {
            ticks.tick().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_may_wait_starts_with_rests_however_often_it_is_said_that_there_is_more() {
        let (may_start, begun, starts) = (Notify::new(), Instant::now(), RefCell::new(Vec::new()));
        let start = || {
            starts.borrow_mut().push(begun.elapsed().as_millis());
            may_start.notify_one();
            starts.borrow().len() % 3 != 0
        };
        may_start.notify_one();
        let rest = Duration::from_millis(2);
        let _ = tokio::time::timeout(rest * 4, with_rests(&may_start, rest, start)).await;
        assert_eq!(*starts.borrow(), [0, 2, 4, 6, 8]);
    }
}
