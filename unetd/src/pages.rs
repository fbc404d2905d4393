//! What a process counts in its own pages of counters, which nobody needs to be asked for.

use std::io;
use std::os::fd::AsFd;

use serde::Serialize;
use unet::{Counter, Fault, LinkAccount, LinkCount, Snapshot};

/// A counter of a page that is not zero.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CountRow {
    /// Which page of the process, in no particular order.
    pub page: usize,
    /// Whose: `channel`, or `endpoint`, which a device of an endpoint counts as, too.
    pub kind: String,
    /// The process on the other side of a channel; 0 for an endpoint.
    pub peer: u32,
    /// What is counted.
    pub counter: String,
    /// How often.
    pub count: u64,
}

/// The counters of all pages that a process has of its own.
///
/// # Errors
/// The kernel's, if the process is gone or another user's.
pub fn counters_of(pid: u32) -> io::Result<Vec<CountRow>> {
    let mut rows = Vec::new();
    for (page, file) in Snapshot::pages_of(pid)?.iter().enumerate() {
        // Other memory of U-Net's, or its peer's, which the peer tells of.
        let Ok(snapshot) = Snapshot::read(file.as_fd()) else { continue };
        if snapshot.get(Counter::OwnPid) != u64::from(pid) {
            continue;
        }
        let kind = if snapshot.of_channel { "channel" } else { "endpoint" };
        let peer = snapshot.get(Counter::PeerPid) as u32;
        rows.extend(counted(&snapshot).into_iter().filter(|(_, count)| *count > 0).map(
            |(counter, count)| CountRow {
                page,
                kind: kind.to_owned(),
                peer,
                counter: counter.to_owned(),
                count,
            },
        ));
    }
    Ok(rows)
}

/// What a page counts, by name.
fn counted(page: &Snapshot) -> Vec<(&'static str, u64)> {
    let is_count = |counter: &Counter| {
        !matches!(counter, Counter::OwnPid | Counter::PeerPid | Counter::PeerUid)
    };
    let of_channels = Counter::ALL.into_iter().chain(Counter::OF_RPC);
    let of_channels = of_channels.filter(|(counter, _)| is_count(counter));
    let faults = Fault::ALL.into_iter().map(|fault| (fault.name(), page.faults(fault)));
    let link = LinkAccount::of(page);
    let of_link = LinkCount::ALL.into_iter().map(|(count, name)| (name, link.get(count)));
    let statistics = link.statistics();
    let of_device =
        unet::device::Count::ALL.into_iter().map(|(count, name)| (name, statistics[count]));
    of_channels
        .map(|(counter, name)| (name, page.get(counter)))
        .chain(faults)
        .chain(of_link)
        .chain(of_device)
        .collect()
}
