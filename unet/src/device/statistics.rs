//! What a device counts.

/// What is counted, by its place in [`Statistics`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
#[non_exhaustive]
pub enum Count {
    /// Packets that the device accepted and did not refuse later.
    Sent,
    /// Their bytes, of frames or of payloads.
    SentBytes,
    /// Packets that were handed to the caller.
    Received,
    /// Their bytes.
    ReceivedBytes,
    /// Not sent: longer than the device or the way there carries.
    TooLong,
    /// Not sent: shorter than a frame's header, in too many pieces, or in a buffer of another pool.
    Malformed,
    /// Not sent: the neighbour's address is unknown.
    Unresolved,
    /// Not sent: refused by the kernel or the hardware after it had been taken.
    Failed,
    /// Arrived, and dropped because no buffer was free.
    NoBuffer,
    /// Arrived, and dropped because the receive queue was full.
    QueueFull,
    /// Arrived, and dropped because it did not fit into a buffer, came in too many pieces, or ended before
    /// its headers say.
    Truncated,
    /// Arrived, and dropped because a header or a length was wrong.
    BadHeader,
    /// Arrived, and dropped because a checksum was wrong.
    BadChecksum,
    /// Arrived, and dropped because it was for another host, port or protocol.
    Foreign,
    /// Said by the device and not believed: a descriptor that failed its check.
    Fault,
    /// System calls made to tell the device.
    Kicks,
    /// Packets among those received and sent that the driver copied: the device has them in memory of its own.
    Copied,
}

impl Count {
    /// Every count and its name, in order.
    pub const ALL: [(Count, &'static str); 17] = [
        (Count::Sent, "sent"),
        (Count::SentBytes, "sent-bytes"),
        (Count::Received, "received"),
        (Count::ReceivedBytes, "received-bytes"),
        (Count::TooLong, "too-long"),
        (Count::Malformed, "malformed"),
        (Count::Unresolved, "unresolved"),
        (Count::Failed, "failed"),
        (Count::NoBuffer, "no-buffer"),
        (Count::QueueFull, "queue-full"),
        (Count::Truncated, "truncated"),
        (Count::BadHeader, "bad-header"),
        (Count::BadChecksum, "bad-checksum"),
        (Count::Foreign, "foreign"),
        (Count::Fault, "fault"),
        (Count::Kicks, "kicks"),
        (Count::Copied, "copied"),
    ];

    /// What arrived and was not handed on.
    pub const DROPPED: [Count; 7] = [
        Count::NoBuffer,
        Count::QueueFull,
        Count::Truncated,
        Count::BadHeader,
        Count::BadChecksum,
        Count::Foreign,
        Count::Fault,
    ];

    /// What was taken to be sent and was not.
    pub const NOT_SENT: [Count; 4] =
        [Count::TooLong, Count::Malformed, Count::Unresolved, Count::Failed];
}

/// What a device counted. Read one by `statistics[Count::Sent]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics([u64; Count::ALL.len()]);

impl Statistics {
    /// Adds to a count.
    #[inline(always)]
    pub fn add(&mut self, count: Count, by: u64) {
        self.0[count as usize] = self.0[count as usize].wrapping_add(by);
    }

    /// The sum of some of the counts.
    pub fn sum(&self, counts: &[Count]) -> u64 {
        counts.iter().map(|count| self[*count]).sum()
    }

    /// What was counted, with its name, without those that are zero.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let all = Count::ALL.iter().map(|(count, name)| (*name, self[*count]));
        all.filter(|(_, value)| *value != 0)
    }
}

impl std::ops::Index<Count> for Statistics {
    type Output = u64;

    #[inline(always)]
    fn index(&self, count: Count) -> &u64 {
        &self.0[count as usize]
    }
}

impl std::ops::AddAssign for Statistics {
    fn add_assign(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, more)| *sum = sum.wrapping_add(more));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_stands_at_its_place() {
        for (place, (count, _)) in Count::ALL.iter().enumerate() {
            assert_eq!(*count as usize, place);
        }
    }
}
