//! What a network did with the packets that it was given.

/// What a network did, in packets. Nothing happens to one that is not counted here:
///
/// ```text
/// sent + duplicated + flooded =
///     carried + lost + nowhere + down + too_long + under way
/// carried = received and dropped by the devices, with reasons, + waiting in them + abandoned
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Given to the network by devices.
    pub sent: u64,
    /// Brought to a device's queue: whatever the device does with it, it counts itself.
    pub carried: u64,
    /// Lost, singly or in a burst.
    pub lost: u64,
    /// Second copies that were made.
    pub duplicated: u64,
    /// Further copies of frames for several devices: all but the first.
    pub flooded: u64,
    /// Packets with a bit turned over, copies among them.
    pub corrupted: u64,
    /// Packets that took longer, so that others could overtake them.
    pub delayed: u64,
    /// For an address that no device has.
    pub nowhere: u64,
    /// For a device whose link is down.
    pub down: u64,
    /// Longer than the network carries, which was changed since the device looked.
    pub too_long: u64,
    /// Carried, and in the queue of a device when that ended.
    pub abandoned: u64,
}

impl Account {
    /// All that were given to the network and do not arrive.
    pub fn not_carried(&self) -> u64 {
        self.lost + self.nowhere + self.down + self.too_long
    }

    /// All that arrive without having been sent.
    pub fn copies(&self) -> u64 {
        self.duplicated + self.flooded
    }
}
