//! What a link counts of all its channels, in its page of counters: what was handed to the device, what was
//! taken from it, and what the device counted. A supervisor that holds the page reads it also when the
//! process was killed.
//!
//! Two sums hold at every moment, but for what is in hand. Messages are counted as sent before the device
//! has them, and datagrams as taken before they are looked at, so that what a killed process had in hand is
//! never missing on the left:
//!
//! ```text
//! sent + control sent = handed + unsent                                      + waiting, at most 64
//! taken = received + overrun + replayed + unknown + stale + foreign
//!         + malformed + checksum + control taken                             + in hand, at most a burst
//! ```

use segment::counters::{Counters, DEVICE_CELLS, Snapshot};

use crate::device::{Count, Statistics};

/// Where the device's own counts begin.
const DEVICE: usize = 8;

const _: () = assert!(DEVICE + Count::ALL.len() <= DEVICE_CELLS);

/// What is counted of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum LinkCount {
    /// Datagrams, or pieces of them, that the device took to be sent.
    Handed = 0,
    /// Datagrams, or pieces of them, that the device has received and handed on.
    Taken = 1,
    /// Datagrams beside messages that were to be sent.
    ControlSent = 2,
    /// Datagrams beside messages that were received and made sense.
    ControlTaken = 3,
    /// Datagrams that waited for the device and were dropped, because their channel closed or too many
    /// others waited.
    Unsent = 4,
}

impl LinkCount {
    /// Every count and its name, in order.
    pub const ALL: [(LinkCount, &'static str); 5] = [
        (LinkCount::Handed, "handed"),
        (LinkCount::Taken, "taken"),
        (LinkCount::ControlSent, "control-sent"),
        (LinkCount::ControlTaken, "control-taken"),
        (LinkCount::Unsent, "unsent"),
    ];

    #[inline(always)]
    pub(super) fn add(self, counters: &Counters, count: usize) {
        counters.add_of_device(self as usize, count as u64);
    }
}

/// Writes down what the device counted.
pub(super) fn publish(counters: &Counters, statistics: &Statistics) {
    for (count, _) in Count::ALL {
        counters.set_of_device(DEVICE + count as usize, statistics[count]);
    }
}

/// What stands in a link's page beside the counters of its channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkAccount<'a>(&'a Snapshot);

impl<'a> LinkAccount<'a> {
    /// What a page says; all zero if it is not a link's.
    pub fn of(page: &'a Snapshot) -> Self {
        Self(page)
    }

    /// The value of a count, as of the last datagram.
    pub fn get(&self, count: LinkCount) -> u64 {
        self.0.of_device(count as usize)
    }

    /// What the device counted, as of the last tenth of a second in which somebody waited or received.
    pub fn statistics(&self) -> Statistics {
        let mut statistics = Statistics::default();
        for (count, _) in Count::ALL {
            statistics.add(count, self.0.of_device(DEVICE + count as usize));
        }
        statistics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_device_are_as_the_book_says() {
        let book = include_str!("../../../docs/src/segment-layout.md");
        for (place, (count, name)) in LinkCount::ALL.iter().enumerate() {
            assert_eq!(*count as usize, place);
            assert!(book.contains(&format!("\n| {place} | {name} | datagrams ")), "{name}");
        }
        assert!(book.contains(&format!("\n| {DEVICE} | {} | the device's", Count::ALL[0].1)));
    }

    #[test]
    fn what_a_device_counted_is_read_from_the_page_as_it_was_published() {
        let counters = Counters::of_endpoint().expect("memory");
        let mut statistics = Statistics::default();
        for (place, (count, _)) in Count::ALL.iter().enumerate() {
            statistics.add(*count, 100 + place as u64);
        }
        publish(&counters, &statistics);
        LinkCount::Taken.add(&counters, 7);
        LinkCount::Taken.add(&counters, 5);
        let page = Snapshot::read(counters.page().expect("its own")).expect("a page");
        assert_eq!(LinkAccount::of(&page).statistics(), statistics);
        assert_eq!(LinkAccount::of(&page).get(LinkCount::Taken), 12);
        // And they are not lost with it.
        let sums = Counters::of_endpoint().expect("memory");
        sums.absorb(&counters);
        sums.absorb(&counters);
        let page = Snapshot::read(sums.page().expect("its own")).expect("a page");
        assert_eq!(LinkAccount::of(&page).get(LinkCount::Taken), 24);
    }
}
