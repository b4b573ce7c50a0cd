//! The slots of tries under way. Each kind of try has a share of them, so that however many hang, others still find some.

use super::queue::Lane;

/// Tries under way at once.
const IN_FLIGHT_MAX: usize = 768;
/// Of these, at most so many may be first tries at endpoints that work. However many of the others hang, 128 are left for them.
const FRESH_IN_FLIGHT_MAX: usize = 448;
/// Of these, at most so many may be first tries at endpoints of which it is not known.
const UNPROVEN_IN_FLIGHT_MAX: usize = 256;
/// Of these, at most so many may be resends.
const RESENDS_IN_FLIGHT_MAX: usize = 256;
/// Of these, at most so many may be for endpoints that fail.
const PROBES_IN_FLIGHT_MAX: usize = 128;

/// Tries under way, by their lane.
#[derive(Debug, Default)]
pub(super) struct Slots([usize; Lane::COUNT]);

impl Slots {
    /// Tries under way.
    pub(super) fn in_use(&self) -> usize {
        self.0.iter().sum()
    }

    /// Whether a try of `lane` may start.
    pub(super) fn has_room(&self, lane: Lane) -> bool {
        let max = match lane {
            Lane::Fresh => FRESH_IN_FLIGHT_MAX,
            Lane::Unproven => UNPROVEN_IN_FLIGHT_MAX,
            Lane::Resends => RESENDS_IN_FLIGHT_MAX,
            Lane::Probes => PROBES_IN_FLIGHT_MAX,
        };
        self.in_use() < IN_FLIGHT_MAX && self.0[lane as usize] < max
    }

    /// Notes that a try of `lane` starts.
    pub(super) const fn take(&mut self, lane: Lane) {
        self.0[lane as usize] += 1;
    }

    /// Notes that a try of `lane` has ended.
    pub(super) const fn give_back(&mut self, lane: Lane) {
        self.0[lane as usize] -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Starts as many of `lane` as may; says how many that were.
    fn fill(slots: &mut Slots, lane: Lane) -> usize {
        let before = slots.in_use();
        while slots.has_room(lane) {
            slots.take(lane);
        }
        slots.in_use() - before
    }

    #[test]
    fn each_kind_of_try_has_a_share() {
        let shares = Lane::ALL.map(|lane| fill(&mut Slots::default(), lane));
        assert_eq!(shares, [448, 256, 256, 128]);
    }

    #[test]
    fn however_many_of_the_others_hang_those_that_work_find_slots() {
        let mut slots = Slots::default();
        let others = [Lane::Unproven, Lane::Resends, Lane::Probes].map(|lane| fill(&mut slots, lane));
        assert_eq!((others, fill(&mut slots, Lane::Fresh)), ([256, 256, 128], 128));
        slots.give_back(Lane::Probes);
        assert_eq!(Lane::ALL.map(|lane| slots.has_room(lane)), [true, false, false, true]);
        slots.take(Lane::Fresh);
        assert_eq!(Lane::ALL.map(|lane| slots.has_room(lane)), [false; Lane::COUNT], "there are 768 in all");
    }
}
