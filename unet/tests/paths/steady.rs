//! Set-up maps everything; after that nothing is mapped, opened or allocated.

use allocation_counter::measure;
use unet::{Message, Path, Wait};

use crate::domains::{Line, MEASURE, inodes, shared_maps};
use crate::support::role::Role;

const WARM_UP: u64 = 500;
const MESSAGES: u64 = 10_000;

/// The shared mappings of a process, and how many descriptors it has open.
fn state(pid: u32) -> (Vec<String>, usize) {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("procfs is mounted");
    let shared = maps.lines().filter(|line| line.contains("/memfd:")).map(str::to_owned).collect();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("procfs is mounted");
    (shared, open.count())
}

/// How many regions a process has mapped: to be written, and to be read.
fn regions(pid: u32) -> (usize, usize) {
    let (maps, _) = state(pid);
    let with = |access: &str| {
        maps.iter().filter(|line| line.contains("fbufs-region") && line.contains(access)).count()
    };
    (with(" rw-s "), with(" r--s "))
}

fn pids(line: &Line) -> Vec<u32> {
    line.others.iter().map(Role::pid).collect()
}

#[test]
fn every_region_is_mapped_everywhere_before_the_first_message_and_writable_in_one_domain() {
    for middles in [0, 1, 2] {
        let line = Line::new(middles, "check", Wait::Adaptive);
        // Both ways: a domain reads what the others write, and writes its own alone.
        for pid in pids(&line) {
            assert_eq!(regions(pid), (1, middles + 1), "with {middles} in the middle");
        }
        assert_eq!(line.channel.path().regions(), middles + 1, "those of the way back");
    }
}

#[test]
fn ten_thousand_messages_map_open_and_allocate_nothing_in_any_domain() {
    let mut line = Line::new(2, "check", Wait::Adaptive);
    (0..WARM_UP).for_each(|number| line.send(number, 1500));
    line.report();
    let before: Vec<_> = pids(&line).into_iter().map(state).collect();
    // Other tests of this program map regions at the same time, but never these again.
    let own =
        [inodes(&Path::of(&line.pool).expect("a region")), inodes(line.channel.path())].concat();
    let own_before = shared_maps(std::process::id(), &own);
    assert_eq!(own_before.len(), 4, "its own to be written, and three to be read: {own_before:?}");
    let inline = MESSAGES.to_le_bytes();
    line.channel.send_message(MEASURE, Message::new(), &inline).expect("there is room");
    let mut number = WARM_UP;
    let counted = measure(|| {
        for _ in 0..MESSAGES {
            let fbuf =
                line.channel.alloc_from_timeout(&mut line.pool, 1500, crate::support::PATIENCE);
            let mut fbuf = fbuf.expect("they come back").expect("in time");
            fbuf[..8].copy_from_slice(&number.to_le_bytes());
            for (at, byte) in fbuf.iter_mut().enumerate().skip(8) {
                *byte = (number as usize).wrapping_mul(31).wrapping_add(at * 7) as u8;
            }
            line.channel.send_message(0, fbuf.freeze().into(), b"").expect("it is there");
            number += 1;
        }
    });
    assert_eq!(counted.count_total, 0, "the originator: {counted:?}");
    for other in &line.others {
        other.expect("allocated 0");
    }
    let after: Vec<_> = pids(&line).into_iter().map(state).collect();
    assert_eq!(before, after, "shared mappings and descriptors of the others");
    assert_eq!(own_before, shared_maps(std::process::id(), &own), "the originator's");
    let total = WARM_UP + MESSAGES;
    assert_eq!(line.report(), [&format!("received {total} copied 0"), "copied 0", "copied 0"]);
    line.all_free();
}
