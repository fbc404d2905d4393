//! Every form of device passes the suite for devices, on a good network and under every fault.

use std::time::Duration;

use driver_sim::{DeviceOptions, Faults, Network, PortId};
use unet::conformance::{
    self, Allowed, Bench, Carrier, OverDatagrams, OverFrames, Report, Verdict, Wire,
};

type Make<E> = fn(&Network, u8, DeviceOptions) -> Result<(E, PortId), String>;

/// Two devices on a network of their own.
struct OnNetwork<E> {
    make: Make<E>,
    faults: Faults,
    real: bool,
    options: DeviceOptions,
    packets: u64,
    pairs: u64,
    network: Network,
    first: Option<PortId>,
}

impl<E> OnNetwork<E> {
    fn new(make: Make<E>, faults: Faults, real: bool) -> Self {
        let (options, network) = (DeviceOptions::default(), Network::new(0, faults));
        Self { make, faults, real, options, packets: 5_000, pairs: 0, network, first: None }
    }
}

impl<E: Carrier> Bench for OnNetwork<E> {
    type End = E;

    fn pair(&mut self) -> Result<(E, E), String> {
        self.pairs += 1;
        let new = if self.real { Network::in_real_time } else { Network::new };
        self.network = new(self.pairs, self.faults);
        let (a, port) = (self.make)(&self.network, 1, self.options)?;
        let (b, _) = (self.make)(&self.network, 2, self.options)?;
        self.first = Some(port);
        Ok((a, b))
    }

    fn wire(&mut self) -> Wire {
        let account = self.network.account();
        Wire {
            lost: account.not_carried(),
            duplicated: account.copies(),
            corrupted: account.corrupted,
        }
    }

    fn allowed(&self) -> Allowed {
        let Faults { loss, burst, duplicate, corrupt, reorder, jitter, .. } = self.faults;
        Allowed {
            loss: loss > 0.0 || burst > 0.0,
            duplicates: duplicate > 0.0,
            corruption: corrupt > 0.0,
            disorder: reorder > 0.0 || !jitter.is_zero(),
        }
    }

    fn idle(&mut self) {
        if self.real {
            return std::thread::sleep(Duration::from_micros(20));
        }
        self.network.advance(Duration::from_micros(20));
    }

    fn set_link(&mut self, up: bool) -> Result<bool, String> {
        let port = self.first.ok_or("there is no device")?;
        self.network.set_link(port, up).then_some(true).ok_or("the device is gone".to_owned())
    }

    fn packets(&self) -> u64 {
        self.packets
    }

    // In virtual time nothing comes but by `idle`.
    fn quiet(&self) -> Duration {
        if self.real { Duration::from_millis(4) } else { Duration::from_micros(500) }
    }
}

fn frames(
    network: &Network,
    number: u8,
    options: DeviceOptions,
) -> Result<(OverFrames<driver_sim::Frames>, PortId), String> {
    let device = network.frames([2, 0, 0, 0, 0, number], options);
    let device = device.map_err(|error| error.to_string())?;
    let port = device.port();
    Ok((OverFrames::new(device), port))
}

fn datagrams(
    network: &Network,
    number: u8,
    options: DeviceOptions,
) -> Result<(OverDatagrams<driver_sim::Datagrams>, PortId), String> {
    let device = network.datagrams(([10, 0, 0, number], 9000).into(), options);
    let device = device.map_err(|error| error.to_string())?;
    let port = device.port();
    Ok((OverDatagrams::new(device), port))
}

/// What is left out proves nothing, so that is only what is said here.
fn judge(report: &Report, what: &str, may_be_left_out: &[&str]) {
    assert!(report.is_ok(), "{what}:\n{report}");
    let mut left_out = report.0.iter().filter(|(_, outcome)| *outcome != Ok(Verdict::Shown));
    assert!(left_out.all(|(name, _)| may_be_left_out.contains(name)), "{what}:\n{report}");
}

fn both(faults: Faults, real: bool) {
    // Its queues are longer than its pool; other tests have shorter ones, and packets of several pieces.
    let mut may = vec!["pieces", "room_to_send"];
    if faults.loss > 0.0 || faults.burst > 0.0 || faults.corrupt > 0.0 {
        may.push("descriptor_wakes");
    }
    let on_frames = &mut OnNetwork::new(frames, faults, real);
    judge(&conformance::frames(on_frames), "frames", &may);
    let on_datagrams = &mut OnNetwork::new(datagrams, faults, real);
    judge(&conformance::datagrams(on_datagrams), "datagrams", &may);
}

const NONE: Faults = Faults {
    loss: 0.0,
    burst: 0.0,
    recover: 0.25,
    burst_loss: 1.0,
    duplicate: 0.0,
    corrupt: 0.0,
    reorder: 0.0,
    late: Duration::from_micros(100),
    delay: Duration::ZERO,
    jitter: Duration::ZERO,
};
const DELAY: Duration = Duration::from_micros(50);

macro_rules! under {
    ($($name:ident: $faults:expr;)*) => {$(
        mod $name {
            use super::*;

            #[test]
            fn in_virtual_time() {
                both($faults, false);
            }

            #[test]
            fn in_real_time() {
                both($faults, true);
            }
        }
    )*};
}

under! {
    no_fault: NONE;
    delay: Faults { delay: DELAY, ..NONE };
    jitter: Faults { delay: DELAY, jitter: DELAY, ..NONE };
    loss: Faults { loss: 0.05, ..NONE };
    bursts_of_loss: Faults { burst: 0.01, ..NONE };
    duplication: Faults { duplicate: 0.05, ..NONE };
    reordering: Faults { reorder: 0.05, ..NONE };
    corruption: Faults { corrupt: 0.05, ..NONE };
    everything: Faults {
        loss: 0.02, burst: 0.01, duplicate: 0.05, corrupt: 0.05, reorder: 0.05, delay: DELAY,
        jitter: DELAY, ..NONE
    };
}

#[test]
fn packets_in_several_pieces_conform() {
    let options = DeviceOptions { mtu: 9000, pieces: 5, buffer_bytes: 2048, ..Default::default() };
    let mut on_frames = OnNetwork::new(frames, NONE, false);
    on_frames.options = options;
    judge(&conformance::frames(&mut on_frames), "frames", &["room_to_send"]);
    let mut on_datagrams = OnNetwork::new(datagrams, NONE, false);
    on_datagrams.options = options;
    judge(&conformance::datagrams(&mut on_datagrams), "datagrams", &["room_to_send"]);
}

#[test]
fn a_device_with_short_queues_conforms() {
    let small = DeviceOptions {
        buffers: 16,
        stock: 4,
        burst: 3,
        queue: 2,
        buffer_bytes: 1536,
        mtu: 1500,
        ..Default::default()
    };
    // Where packets take time, a queue of two is soon full.
    let cases: [(Faults, &[&str]); 2] =
        [(NONE, &["pieces", "room_to_send"]), (Faults { delay: DELAY, ..NONE }, &["pieces"])];
    for (faults, may_be_left_out) in cases {
        let mut on_frames = OnNetwork::new(frames, faults, false);
        on_frames.options = small;
        judge(&conformance::frames(&mut on_frames), "frames", may_be_left_out);
        let mut on_datagrams = OnNetwork::new(datagrams, faults, true);
        on_datagrams.options = small;
        judge(&conformance::datagrams(&mut on_datagrams), "datagrams", may_be_left_out);
    }
}

/// The full run: `cargo test --release -p driver-sim --test conformance -- --ignored`.
#[test]
#[ignore = "takes minutes, in a release build"]
fn no_buffer_is_lost_over_ten_million_packets() {
    for faults in [NONE, Faults { loss: 0.01, duplicate: 0.01, corrupt: 0.01, ..NONE }] {
        let mut on_frames = OnNetwork::new(frames, faults, false);
        on_frames.packets = 10_000_000;
        assert_eq!(conformance::conservation(&mut on_frames), Ok(Verdict::Shown));
        let mut on_datagrams = OnNetwork::new(datagrams, faults, false);
        on_datagrams.packets = 10_000_000;
        assert_eq!(conformance::conservation(&mut on_datagrams), Ok(Verdict::Shown));
    }
}
