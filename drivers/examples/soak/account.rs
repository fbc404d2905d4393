//! What processes counted, and whether it adds up.

use std::ops::{AddAssign, Index, IndexMut};

use unet::device::Count;
use unet::{Counter, LinkAccount, LinkCount, Snapshot};

use crate::host::{Host, KernelCounts};

/// A line of the books, by its place in [`Ledger`].
#[derive(Clone, Copy, Debug)]
#[repr(usize)]
pub enum Line {
    Sent,
    ControlSent,
    Unsent,
    Taken,
    Received,
    ControlTaken,
    Overrun,
    Replayed,
    Unknown,
    Stale,
    Foreign,
    Malformed,
    Checksum,
    /// Missing by the sequence numbers.
    Lost,
    /// The device's: taken to be sent, and not sent; refused by the kernel.
    NotSent,
    Failed,
    /// The device's: dropped for headers, checksums or port; for want of buffers or of room.
    Bad,
    NoRoom,
    /// What AF_XDP sockets dropped, by the kernel's word.
    QueueDrops,
    /// How many AF_XDP sockets there are.
    Queues,
}

const LINES: usize = Line::Queues as usize + 1;

/// What a link counts of what it took.
const TAKEN: [Line; 9] = [
    Line::Received,
    Line::ControlTaken,
    Line::Overrun,
    Line::Replayed,
    Line::Unknown,
    Line::Stale,
    Line::Foreign,
    Line::Malformed,
    Line::Checksum,
];

/// What processes counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ledger([u64; LINES]);

impl Index<Line> for Ledger {
    type Output = u64;

    fn index(&self, line: Line) -> &u64 {
        &self.0[line as usize]
    }
}

impl IndexMut<Line> for Ledger {
    fn index_mut(&mut self, line: Line) -> &mut u64 {
        &mut self.0[line as usize]
    }
}

impl AddAssign for Ledger {
    fn add_assign(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, more)| *sum += more);
    }
}

impl Ledger {
    /// Adds what stands in a page.
    pub fn add_page(&mut self, page: &Snapshot) {
        if page.of_channel {
            return;
        }
        let link = LinkAccount::of(page);
        let device = link.statistics();
        for (line, value) in [
            (Line::Sent, page.get(Counter::Sent)),
            (Line::ControlSent, link.get(LinkCount::ControlSent)),
            (Line::Unsent, link.get(LinkCount::Unsent)),
            (Line::Taken, link.get(LinkCount::Taken)),
            (Line::Received, page.get(Counter::Received)),
            (Line::ControlTaken, link.get(LinkCount::ControlTaken)),
            (Line::Overrun, page.get(Counter::WireOverrun)),
            (Line::Replayed, page.get(Counter::WireReplayed)),
            (Line::Unknown, page.get(Counter::WireUnknown)),
            (Line::Stale, page.get(Counter::WireStale)),
            (Line::Foreign, page.get(Counter::WireForeign)),
            (Line::Malformed, page.get(Counter::WireMalformed)),
            (Line::Checksum, page.get(Counter::WireChecksum)),
            (Line::Lost, page.get(Counter::WireLost)),
            (Line::NotSent, device.sum(&[Count::TooLong, Count::Malformed, Count::Unresolved])),
            (Line::Failed, device[Count::Failed]),
            (
                Line::Bad,
                device.sum(&[Count::BadHeader, Count::BadChecksum, Count::Foreign, Count::Fault]),
            ),
            (Line::NoRoom, device.sum(&[Count::NoBuffer, Count::QueueFull, Count::Truncated])),
        ] {
            self[line] += value;
        }
    }

    /// What a link took and did not count as anything.
    pub fn in_hand(&self) -> i64 {
        self[Line::Taken] as i64 - TAKEN.iter().map(|line| self[*line] as i64).sum::<i64>()
    }

    /// The lines that are not zero.
    pub fn lines(&self) -> impl Iterator<Item = (String, u64)> {
        const ALL: [Line; LINES] = [
            Line::Sent,
            Line::ControlSent,
            Line::Unsent,
            Line::Taken,
            Line::Received,
            Line::ControlTaken,
            Line::Overrun,
            Line::Replayed,
            Line::Unknown,
            Line::Stale,
            Line::Foreign,
            Line::Malformed,
            Line::Checksum,
            Line::Lost,
            Line::NotSent,
            Line::Failed,
            Line::Bad,
            Line::NoRoom,
            Line::QueueDrops,
            Line::Queues,
        ];
        let all = ALL.map(|line| (format!("{line:?}"), self[line]));
        all.into_iter().filter(|(_, value)| *value > 0)
    }
}

/// All that was counted of a moment, when everybody stood still.
#[derive(Clone, Debug, Default)]
pub struct Books {
    /// Of all processes that ever ran in a host, those that were killed among them.
    pub processes: [Ledger; 2],
    /// Of the hosts' kernels.
    pub kernels: [KernelCounts; 2],
}

/// One direction: what was to be sent, and where it went.
#[derive(Clone, Debug)]
pub struct Direction {
    pub to_send: i64,
    pub went: [(&'static str, i64); 8],
    /// What is left: in flight at kills.
    pub rest: i64,
    /// Taken and not counted as anything.
    pub in_hand: i64,
    /// What the sender's kernel had no room for: how much of it is in no book, it does not say.
    pub no_room: i64,
    /// What the sender's interface dropped, of others too.
    pub interface_drops: i64,
}

impl Books {
    /// What was counted in a host, in words.
    pub fn of(&self, host: Host) -> (Vec<(String, u64)>, &KernelCounts) {
        (self.processes[host as usize].lines().collect(), &self.kernels[host as usize])
    }

    /// What is in no book, both ways.
    pub fn in_no_book(&self) -> i64 {
        [0, 1].map(|from| self.direction(from)).iter().map(|it| it.rest + it.in_hand).sum()
    }

    /// From host `from` to the other one.
    pub fn direction(&self, from: usize) -> Direction {
        let (ours, theirs) = (&self.processes[from], &self.processes[1 - from]);
        let (here, there) = (&self.kernels[from], &self.kernels[1 - from]);
        let went = [
            ("taken", theirs[Line::Taken]),
            ("not sent: too long, no way there", ours[Line::NotSent]),
            ("refused by the interface or the kernel", ours[Line::Failed]),
            (
                "lost between the kernels: no carrier, no room",
                here.datagrams[1].saturating_sub(there.datagrams[0]),
            ),
            ("dropped by the queue: no buffer, no room", theirs[Line::QueueDrops]),
            ("dropped by the device: headers, checksums", theirs[Line::Bad]),
            ("dropped by the kernel: nobody at the port", there.udp[0]),
            ("dropped by the kernel: no room in the socket, or not for it", there.udp[1]),
        ];
        let went = went.map(|(name, count)| (name, count as i64));
        let to_send =
            (ours[Line::Sent] + ours[Line::ControlSent]) as i64 - ours[Line::Unsent] as i64;
        let rest = to_send - went.iter().map(|(_, count)| count).sum::<i64>();
        Direction {
            to_send,
            went,
            rest,
            in_hand: theirs.in_hand(),
            no_room: here.no_room as i64,
            interface_drops: here.interface[3] as i64,
        }
    }
}
