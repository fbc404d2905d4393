//! How many packets may be under way, by the delay that they meet.
//!
//! As long as round trips stay below a target, the window is full and nothing is done for a packet: no
//! count, no pace. Above it, the window shrinks in proportion to the excess, once in a round trip; it may
//! fall below one packet, and then packets are spaced out. Below the target it grows by one packet in a round
//! trip, or by a sixteenth if that is more, which outweighs chance losses of about one in a hundred.
//!
//! After Kumar et al., *Swift: Delay is Simple and Effective for Congestion Control in the Datacenter*
//! (SIGCOMM 2020), whose target for the fabric becomes the shortest round trip seen, with an allowance.

use super::round_trip::RoundTrip;

/// One packet, in the window's units.
const PACKET: u64 = 256;
/// All that can be under way: nothing is restrained.
const FULL: u64 = 512 * PACKET;
/// A packet in 16 round trips.
const LEAST: u64 = PACKET / 16;
/// So long a thread takes to wake, which is no congestion.
pub const WAKING: u64 = 200_000;
/// Who was alone for so long counts as alone: who calls more seldom finds what another keeps waiting.
pub const ALONE_AFTER: u64 = 100_000_000;
/// By so much a host can be late that has other things to do. Such a delay alone does not take the last packet; nor,
/// where a thread sleeps, the last few: they would find it asleep each time, and be late for ever.
const BUSY: u64 = 1_000_000;
const LAST_AWAKE: u64 = PACKET;
const LAST_ASLEEP: u64 = 4 * PACKET;
/// So many packets come in one burst without harm, if they are half of what may be under way at most.
const FEW_AT_ONCE: u16 = 5;
/// So few packets under way are not what was too much.
const FEW: u32 = 16;
/// The shortest round trip is that of the last one or two such spans, in nanoseconds.
const MEMORY: u64 = 2_000_000_000;
/// While all is calm, one round trip in so many is looked at.
const SEEN_OF: u32 = 16;

/// The window of one session's sender.
#[derive(Debug)]
pub(super) struct Congestion {
    window: u64,
    /// What may be added to the shortest round trip; the end of time where nothing is between that could be
    /// crowded, and who is late is only late.
    allowance: u64,
    /// A round trip above it is congestion.
    target: u64,
    /// The shortest round trip of this span and of the one before, and when the span ends.
    shortest: [u64; 2],
    span_ends: u64,
    /// The window shrinks at most once until then.
    shrink_after: u64,
    /// And grows at most once until then.
    grow_after: u64,
    /// When the next packet may be sent, and when the other side may be permitted more.
    next: u64,
    next_permit: u64,
    /// How many calm round trips are passed over until the next is looked at.
    skip: u32,
}

impl Congestion {
    pub fn new(allowance: u64) -> Self {
        Self {
            window: FULL,
            allowance,
            target: u64::MAX,
            shortest: [u64::MAX; 2],
            span_ends: 0,
            shrink_after: 0,
            grow_after: 0,
            next: 0,
            next_permit: 0,
            skip: 0,
        }
    }

    /// Allows so much from the next round trip on that is looked at. Where nothing is between that could be crowded, that stays so.
    pub fn allow(&mut self, allowance: u64) {
        if self.is_network() {
            self.allowance = allowance;
        }
    }

    /// Whether something is between that can lose.
    pub fn is_network(&self) -> bool {
        self.allowance != u64::MAX
    }

    /// Whether so short a time can have been a round trip.
    pub fn is_possible(&self, round_trip: u64) -> bool {
        round_trip >= self.shortest[0].min(self.shortest[1])
    }

    /// Whether a round trip is worth a look: all that a calm one costs.
    #[inline(always)]
    pub fn is_notable(&mut self, round_trip: u64) -> bool {
        if round_trip > self.target || self.skip == 0 {
            return true;
        }
        self.skip -= 1;
        false
    }

    /// Whether nothing is restrained.
    #[inline(always)]
    pub fn is_calm(&self) -> bool {
        self.window == FULL
    }

    /// Takes a measured round trip; `smoothed` is what is usual, and whether a thread had to wake for it.
    pub fn sample(&mut self, now: u64, round_trip: u64, smoothed: u64, woken: bool) {
        if now >= self.span_ends {
            self.shortest = [u64::MAX, self.shortest[0]];
            self.span_ends = now.saturating_add(MEMORY);
        }
        self.shortest[0] = self.shortest[0].min(round_trip);
        let shortest = self.shortest[0].min(self.shortest[1]);
        self.target = shortest.saturating_add(shortest.max(self.allowance));
        let (waking, last) = if woken { (WAKING, LAST_ASLEEP) } else { (0, LAST_AWAKE) };
        let excess = round_trip.saturating_sub(self.target).saturating_sub(waking);
        let least = if excess > BUSY { LEAST } else { last };
        if excess > 0 && self.window >= least {
            let by = u128::from(self.window) * u128::from(excess) / u128::from(round_trip);
            let by = (by as u64 * 4 / 5).min(self.window / 2);
            self.shrink(now, smoothed, by.min(self.window - least));
        } else if now >= self.grow_after {
            self.window = (self.window + PACKET.max(self.window / 16)).min(FULL);
            self.grow_after = now.saturating_add(smoothed);
        }
        self.skip = if self.is_calm() { SEEN_OF } else { 0 };
    }

    /// Something was lost, or was lost again: the first may be chance, which delay tells better, and takes
    /// an eighth; the second takes half.
    pub fn on_loss(&mut self, now: u64, smoothed: u64, in_flight: u32, again: bool) {
        if !self.is_network() {
            return;
        }
        // From what was under way, not from what might have been. Acknowledgements come in clumps, so that
        // less is under way now than was.
        if now >= self.shrink_after {
            self.window = self.window.min(2 * u64::from(in_flight.max(FEW)) * PACKET);
        }
        // Who is silent is not slow: only delay spaces packets out.
        let most = self.window.saturating_sub(PACKET);
        self.shrink(now, smoothed, (self.window / if again { 2 } else { 8 }).min(most));
    }

    fn shrink(&mut self, now: u64, smoothed: u64, by: u64) {
        if now >= self.shrink_after {
            self.window = (self.window - by).max(LEAST);
            self.shrink_after = now.saturating_add(smoothed);
            self.skip = 0;
        }
    }

    /// How many more packets may be sent now. Never called while all is calm, where it is no question.
    pub fn room(&self, now: u64, in_flight: u32) -> u32 {
        let whole = (self.window / PACKET).max(1) as u32;
        if now < self.next { 0 } else { whole.saturating_sub(in_flight) }
    }

    /// A packet was sent, and the next one has its time. Who may sleep until then sends all that may be under way at
    /// once, and more as answers come: only where that is less than one packet, it waits.
    pub fn on_send(&mut self, now: u64, smoothed: u64, never_sleeps: bool) {
        if never_sleeps || self.window < PACKET {
            self.next = now.saturating_add(self.space(1, smoothed));
        }
    }

    /// The time that so many packets are spread over: a window takes a round trip.
    fn space(&self, packets: u32, smoothed: u64) -> u64 {
        let whole = u128::from(smoothed) * u128::from(PACKET) * u128::from(packets);
        u64::try_from(whole / u128::from(self.window)).unwrap_or(u64::MAX)
    }

    /// Whether the other side may be permitted so many packets now, at most [`Congestion::credits`], while so many
    /// are permitted that have not come. They count as permitted then. Never called while all is calm.
    pub fn permit(
        &mut self,
        now: u64,
        round_trip: &RoundTrip,
        permitted: u32,
        packets: u32,
    ) -> bool {
        if now < self.next_permit || u64::from(permitted + packets) > (self.window / PACKET).max(1)
        {
            return false;
        }
        // Not beyond the time after which silence is a loss: calls have their patience.
        let space = self.space(packets, round_trip.smoothed()).min(round_trip.timeout());
        self.next_permit = now.saturating_add(space);
        true
    }

    /// When it may be permitted more that was held back for its pace.
    pub fn next_permit(&self) -> u64 {
        self.next_permit
    }

    /// When a packet may be sent that was held back for its pace.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// How many packets the other side may be permitted at once: while all is calm, all; else a quarter of what may
    /// be under way. Of few it is half, and two rather than one, so that not each packet takes a word.
    pub fn credits(&self, most: u16) -> u16 {
        let whole = (self.window / PACKET).clamp(1, most.max(1).into()) as u16;
        match self.is_calm() {
            true => whole,
            false => (whole / 4).max((whole / 2).min(FEW_AT_ONCE)).max(whole.min(2)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Timers;

    const USUAL: u64 = 10_000;

    /// After a first round trip at 0, one each 10 µs.
    fn after(round_trips: impl IntoIterator<Item = u64>) -> Congestion {
        let mut it = Congestion::new(20_000);
        it.sample(0, USUAL, USUAL, false);
        for (number, round_trip) in (1..).zip(round_trips) {
            it.sample(number * USUAL, round_trip, USUAL, false);
        }
        it
    }

    #[test]
    fn while_calm_one_round_trip_in_sixteen_is_looked_at() {
        let mut it = after([]);
        assert_eq!((0..160).filter(|_| it.is_notable(USUAL)).count(), 144);
        let mut it = after([]);
        assert_eq!((0..16).filter(|_| it.is_notable(USUAL)).count(), 0);
        assert!(it.is_notable(USUAL) && it.is_notable(31_000));
    }

    #[test]
    fn delay_shrinks_the_window_in_proportion_and_its_end_restores_it() {
        let slow = after([40_000; 40]);
        let slower = after([4_000_000; 40]);
        assert!(!slow.is_calm() && slower.window < slow.window);
        assert_eq!(slower.window, LEAST);
        // As it may be the host's.
        assert_eq!(after([900_000; 100]).window, LAST_AWAKE);
        let mut it = after([400_000; 8]);
        let mut now = 10_000_000;
        while !it.is_calm() {
            now += USUAL / 8;
            it.sample(now, USUAL, USUAL, false);
        }
        assert!(now < 10_000_000_000);
    }

    #[test]
    fn a_thread_that_wakes_is_no_congestion_unless_it_takes_too_long() {
        let woken = |round_trip| {
            let mut it = after([]);
            (1..100).for_each(|number| it.sample(number * USUAL, round_trip, USUAL, true));
            it
        };
        assert!(woken(USUAL + WAKING).is_calm());
        assert!(!after([USUAL + WAKING]).is_calm());
        assert!((LAST_ASLEEP..2 * LAST_ASLEEP).contains(&woken(USUAL + 4 * WAKING).window));
        assert_eq!(woken(USUAL + WAKING + 10 * BUSY).window, LEAST);
    }

    #[test]
    fn only_who_never_sleeps_spaces_out_what_is_more_than_one_packet() {
        let next = |never_sleeps| {
            let mut it = after([40_000; 2]);
            assert!(!it.is_calm() && it.window > PACKET);
            it.on_send(1_000_000, USUAL, never_sleeps);
            it.next()
        };
        assert_eq!(next(false), 0);
        assert!((1_000_001..1_000_000 + USUAL).contains(&next(true)));
    }

    #[test]
    fn the_window_shrinks_once_in_a_round_trip() {
        let mut it = after([]);
        it.on_loss(20_000, USUAL, 100, true);
        assert_eq!(it.window, 100 * PACKET);
        it.on_loss(20_001, USUAL, 100, true);
        it.sample(20_002, 1_000_000, USUAL, false);
        assert_eq!(it.window, 100 * PACKET);
        it.on_loss(30_000, USUAL, 100, false);
        assert_eq!(it.window, 100 * PACKET - 100 * PACKET / 8);
    }

    #[test]
    fn below_one_packet_they_are_spaced_out() {
        let mut it = after([4_000_000; 40]);
        assert_eq!(it.credits(256), 1);
        assert_eq!((it.room(1_000_000, 0), it.room(1_000_000, 1)), (1, 0));
        it.on_send(1_000_000, USUAL, false);
        assert_eq!(it.next(), 1_000_000 + 16 * USUAL);
        assert_eq!(it.room(1_000_000 + USUAL, 0), 0);
        assert_eq!(it.room(1_000_000 + 16 * USUAL, 0), 1);
    }

    #[test]
    fn the_other_side_is_permitted_a_quarter_of_the_window_at_a_time() {
        let mut it = after([]);
        assert_eq!((it.credits(256), it.credits(3)), (256, 3));
        it.on_loss(20_000, USUAL, 20, false);
        let whole = it.window / PACKET;
        assert_eq!((whole, it.credits(256)), (35, 8));
        let mut usual = RoundTrip::new(&Timers::default());
        usual.sample(USUAL);
        assert!(it.permit(20_000, &usual, 27, 8));
        let next = 20_000 + 8 * USUAL / whole;
        assert!(it.next_permit().abs_diff(next) < 50);
        assert!(!it.permit(it.next_permit() - 1, &usual, 0, 8));
        assert!(!it.permit(it.next_permit(), &usual, 28, 8));
        assert!(it.permit(it.next_permit(), &usual, 28, 7));
    }

    #[test]
    fn of_few_packets_half_are_permitted_at_once_up_to_five() {
        let mut it = after([40_000; 2]);
        let credits = [1, 2, 3, 4, 8, 10, 16, 24, 35].map(|whole| {
            it.window = whole * PACKET;
            it.credits(256)
        });
        assert_eq!(credits, [1, 2, 2, 2, 4, 5, 5, 6, 8]);
    }

    #[test]
    fn where_nothing_can_be_crowded_silence_is_no_loss() {
        let mut it = Congestion::new(u64::MAX);
        for now in [1_000_000, 2_000_000] {
            it.on_loss(now, USUAL, 64, true);
            it.sample(now, 1_000_000, USUAL, false);
        }
        assert!(it.is_calm());
    }

    #[test]
    fn nothing_that_is_measured_is_too_large() {
        let mut it = Congestion::new(u64::MAX - 1);
        for time in [0, u64::MAX, 1, u64::MAX] {
            it.sample(u64::MAX, time, u64::MAX, time == 1);
            it.on_loss(u64::MAX, u64::MAX, u32::MAX, true);
            it.on_send(u64::MAX, u64::MAX, true);
        }
        assert!(it.room(0, u32::MAX) == 0 && it.credits(0) == 1);
    }
}
