//! The suite for devices: a plain device passes it, and one that does something wrong fails, by the name
//! of what it does.

#[path = "conformance/sockets.rs"]
mod sockets;

use std::time::Duration;

use sockets::{Fault, Sockets};
use unet::conformance::{self, Bench, OverDatagrams, Report, Verdict, Wire};

struct Loopback {
    fault: Fault,
    ports: [u16; 2],
}

impl Bench for Loopback {
    type End = OverDatagrams<Sockets>;

    fn pair(&mut self) -> Result<(Self::End, Self::End), String> {
        let (a, b) = (Sockets::new(Fault::None)?, Sockets::new(self.fault)?);
        self.ports = [a.port(), b.port()];
        let sends = [
            Fault::DropsWithoutCounting,
            Fault::CountsSentTwice,
            Fault::ForgetsBytes,
            Fault::SendsForeignBuffers,
            Fault::SwallowsOversize,
            Fault::BlocksOnOversize,
            Fault::ForgetsToClose,
            Fault::FewDestinations,
            Fault::SendsToClosed,
            Fault::TruncatesLong,
        ];
        let (a, b) = if sends.contains(&self.fault) { (b, a) } else { (a, b) };
        Ok((OverDatagrams::new(a), OverDatagrams::new(b)))
    }

    /// What the kernel dropped since no room was left at a socket.
    fn wire(&mut self) -> Wire {
        let table = std::fs::read_to_string("/proc/net/udp").unwrap_or_default();
        let ours = self.ports.map(|port| format!(":{port:04X}"));
        let mut lost = 0;
        for line in table.lines().skip(1) {
            let mut words = line.split_whitespace();
            let local = words.nth(1).unwrap_or_default();
            if ours.iter().any(|port| local.ends_with(port)) {
                lost += words.next_back().and_then(|drops| drops.parse::<u64>().ok()).unwrap_or(0);
            }
        }
        Wire { lost, ..Wire::default() }
    }

    fn packets(&self) -> u64 {
        2_000
    }

    fn patience(&self) -> Duration {
        let short = self.fault != Fault::None;
        if short { Duration::from_millis(100) } else { Duration::from_secs(2) }
    }
}

fn judge(fault: Fault) -> Report {
    conformance::datagrams(&mut Loopback { fault, ports: [0; 2] })
}

#[test]
fn a_plain_socket_conforms() {
    let report = judge(Fault::None);
    assert!(report.is_ok(), "{report}");
    let left_out = |name| {
        report
            .0
            .iter()
            .any(|(of, outcome)| *of == name && matches!(outcome, Ok(Verdict::LeftOut(_))))
    };
    assert!(left_out("pieces") && left_out("link_down_and_up"), "{report}");
    assert!(!left_out("conservation") && !left_out("oversize"), "{report}");
}

/// The behaviour that shows the fault, and what its sentence says.
fn is_named(fault: Fault, behaviour: &str, words: &str) {
    let report = judge(fault);
    let found = report.failures().find(|(name, _)| *name == behaviour);
    let (_, failure) = found.unwrap_or_else(|| panic!("{fault:?} passes {behaviour}:\n{report}"));
    assert!(failure.to_string().contains(words), "{fault:?}: {failure}");
}

macro_rules! faults {
    ($($test:ident: $fault:ident, $behaviour:literal, $words:literal;)*) => {$(
        #[test]
        fn $test() {
            is_named(Fault::$fault, $behaviour, $words);
        }
    )*};
}

faults! {
    a_silent_drop_is_named: DropsWithoutCounting, "order", "unaccounted for";
    a_second_copy_is_named: Duplicates, "order", "arrived twice";
    disorder_is_named: Reorders, "order", "out of order";
    a_leak_is_named: LeaksBuffers, "order", "are lost";
    a_wrong_byte_is_named: CorruptsAByte, "order", "was sent as";
    a_buffer_that_changes_is_named: WritesIntoHeldBuffers, "order", "arrived";
    too_many_received_are_named: CountsReceivedTwice, "order", "were handed over, and";
    too_many_sent_are_named: CountsSentTwice, "order", "were taken to be sent, and";
    forgotten_bytes_are_named: ForgetsBytes, "order", "bytes were sent, and 0 are counted";
    a_foreign_buffer_is_named: SendsForeignBuffers, "foreign_buffer", "";
    a_swallowed_packet_is_named: SwallowsOversize, "oversize", "were taken to be sent, and";
    a_packet_that_blocks_is_named: BlocksOnOversize, "oversize", "blocks what comes after";
    a_readable_descriptor_is_named: AlwaysReadable, "descriptor_at_rest", "would spin";
    a_sleeping_descriptor_is_named: NeverReadable, "descriptor_wakes", "not become readable";
    a_device_that_stops_is_named: StopsWhenStarved, "starvation", "neither received nor counted";
    destinations_that_run_out_are_named: ForgetsToClose, "closed_destinations", "opened once more";
    too_few_destinations_are_named: FewDestinations, "many_destinations", "opened once more";
    a_closed_destination_that_sends_is_named: SendsToClosed, "closed_destinations", "is closed";
    a_truncated_packet_is_named: TruncatesLong, "every_length", "1000";
}

#[test]
fn what_holds_the_suite_up_is_bounded() {
    let began = std::time::Instant::now();
    let report = judge(Fault::NeverReadable);
    assert!(!report.is_ok());
    assert!(began.elapsed() < Duration::from_secs(60), "{report}");
}
