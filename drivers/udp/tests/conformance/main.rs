//! The suite that every device passes, by both paths.

mod boxed;
#[path = "../devices/mod.rs"]
mod devices;

use boxed::Boxed;
use devices::*;
use driver_udp::Path;
use unet::conformance::{self, Bench, OverDatagrams};

by_both_paths!(every_behaviour_is_shown);

struct Loopback {
    path: Path,
    at: &'static str,
    packets: u64,
    attended: bool,
}

impl Bench for Loopback {
    type End = OverDatagrams<Boxed>;

    fn pair(&mut self) -> Result<(Self::End, Self::End), String> {
        let one = || {
            let at = self.at.parse().map_err(|_| "an address".to_owned())?;
            let opened = driver_udp::open(at, options(self.path));
            let attended = self.attended;
            opened.map(|device| Boxed { device, attended }).map_err(|error| error.to_string())
        };
        Ok((OverDatagrams::new(one()?), OverDatagrams::new(one()?)))
    }

    fn packets(&self) -> u64 {
        self.packets
    }
}

fn conforms(path: Path, at: &'static str, packets: u64) {
    for attended in [false, true] {
        let report = conformance::datagrams(&mut Loopback { path, at, packets, attended });
        println!("{report}");
        assert!(report.is_ok());
    }
}

fn every_behaviour_is_shown(path: Path) {
    for at in [V4, V6] {
        conforms(path, at, 20_000);
    }
}

/// The full run: `cargo test --release -p driver-udp --test conformance -- --ignored`.
#[test]
#[ignore = "takes minutes, in a release build"]
fn over_ten_million_packets() {
    for path in [Path::Sockets, Path::IoUring] {
        conforms(path, V4, 10_000_000);
    }
}
