//! Over AF_XDP sockets that DPDK opens on a pair of virtual interfaces: the suite for devices of frames, and what
//! happens when such an interface is not to be had, or goes.
//!
//! Where DPDK is missing, that is all that is seen here.

#[cfg(not(dpdk))]
#[test]
fn without_dpdk_nothing_is_opened() {
    assert!(driver_dpdk::MISSING.is_some());
}

#[cfg(dpdk)]
mod testpmd;

#[cfg(dpdk)]
mod over_veth {
    use std::collections::VecDeque;
    use std::process::Command;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::{Mutex, MutexGuard, PoisonError};
    use std::time::{Duration, Instant};

    use driver_dpdk::{DpdkPort, Error, Memory, Options};
    use fbufs::Fbuf;
    use unet::conformance::{self, Bench, OverFrames, Verdict};
    use unet::device::{Count, Device, DeviceError, Frames, Piece};

    use crate::testpmd::{TestPmd, all_are_counted, all_arrive, all_come_back, await_link};

    const PATIENCE: Duration = Duration::from_secs(20);

    const OPTIONS: Options = Options {
        memory: Memory::Plain(128),
        buffers: 256,
        buffer_bytes: 2048,
        ring: 512,
        copy: false,
    };

    /// One at a time: each port has 20 MB of DPDK's memory.
    static TURN: Mutex<()> = Mutex::new(());
    static NEXT: AtomicU32 = AtomicU32::new(0);

    fn ip(words: &str) {
        let done = Command::new("ip").args(words.split(' ')).status().expect("iproute2 is there");
        assert!(done.success(), "ip {words}");
    }

    /// A veth pair of its own, deleted when dropped.
    struct Pair {
        near: String,
        far: String,
    }

    impl Pair {
        fn new() -> Self {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let pair = Self { near: format!("dn{number}"), far: format!("df{number}") };
            let (near, far) = (&pair.near, &pair.far);
            ip(&format!("link add {near} type veth peer name {far}"));
            for end in [near, far] {
                // The kernel says nothing of its own there.
                let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{end}/disable_ipv6"), "1");
                ip(&format!("link set {end} up"));
            }
            pair
        }
    }

    impl Drop for Pair {
        fn drop(&mut self) {
            // One end takes the other with it; a test may have deleted it.
            let _ = Command::new("ip").args(["link", "del", &self.near]).output();
        }
    }

    fn turn() -> MutexGuard<'static, ()> {
        TURN.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(interface: &str) -> Result<DpdkPort, Error> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        DpdkPort::open(&format!("net_af_xdp{number},iface={interface}"), &OPTIONS)
    }

    /// As [`open`], and waits until the kernel says that there is a carrier: it does so some time after.
    fn open_up(interface: &str) -> DpdkPort {
        let mut device = open(interface).expect("it is there");
        await_link(&mut device);
        device
    }

    struct OnVeth(Option<Pair>);

    impl Bench for OnVeth {
        type End = OverFrames<DpdkPort>;

        fn pair(&mut self) -> Result<(Self::End, Self::End), String> {
            self.0 = None;
            let pair = Pair::new();
            let [near, far] = [&pair.near, &pair.far]
                .map(|end| open(end).map(OverFrames::new).map_err(|error| error.to_string()));
            self.0 = Some(pair);
            Ok((near?, far?))
        }

        fn set_link(&mut self, up: bool) -> Result<bool, String> {
            let pair = self.0.as_ref().ok_or("there is no pair")?;
            ip(&format!("link set {} {}", pair.near, if up { "up" } else { "down" }));
            Ok(true)
        }

        fn packets(&self) -> u64 {
            20_000
        }
    }

    #[test]
    fn it_passes_the_suite() {
        let _turn = turn();
        let report = conformance::frames(&mut OnVeth(None));
        println!("{report}");
        assert!(report.is_ok(), "{report}");
        let left_out = report.0.iter().filter(|(_, outcome)| *outcome != Ok(Verdict::Shown));
        // The kernel sends within the call: there is room again before there is none.
        assert!(left_out.map(|(name, _)| *name).all(|name| name == "room_to_send"), "{report}");
    }

    fn frame(device: &mut DpdkPort, len: usize) -> VecDeque<Piece<Fbuf>> {
        let mut fbuf = device.pool().alloc(len).expect("a buffer is free");
        fbuf.fill(0xff);
        VecDeque::from([Piece::whole(fbuf.freeze())])
    }

    fn send(device: &mut DpdkPort, len: usize) {
        let mut frames = frame(device, len);
        device.transmit(&mut frames).expect("it is up");
        assert!(frames.is_empty());
    }

    /// How many packets the kernel dropped at an interface, which had no room for them.
    fn dropped(interface: &str) -> u64 {
        let table = std::fs::read_to_string("/proc/self/net/dev").expect("proc is mounted");
        let of = table.lines().find_map(|line| line.trim().strip_prefix(interface));
        let numbers = of.and_then(|rest| rest.strip_prefix(':')).expect("it has a line");
        let dropped = numbers.split_whitespace().nth(3);
        dropped.and_then(|number| number.parse().ok()).expect("a number")
    }

    /// DPDK's test program at the far end of a pair.
    fn judged(mode: &str) -> Option<(Pair, TestPmd, DpdkPort)> {
        let pair = Pair::new();
        let name = format!("unet-veth-{mode}-{}", std::process::id());
        let far = format!("net_af_xdp0,iface={}", pair.far);
        let mut judge = TestPmd::start(&name, mode, &far)?;
        // What it sent before was for nobody here.
        let device = judge.anew(|| open_up(&pair.near));
        Some((pair, judge, device))
    }

    #[test]
    fn testpmd_sends_every_frame_back() {
        let _turn = turn();
        let Some((_pair, judge, mut device)) = judged("macswap") else { return };
        all_come_back(&mut device, judge, 20_000);
    }

    #[test]
    fn testpmd_counts_what_is_sent() {
        let _turn = turn();
        let Some((_pair, judge, mut device)) = judged("rxonly") else { return };
        all_arrive(&mut device, judge, 50_000);
    }

    #[test]
    fn what_testpmd_sent_is_received_or_counted() {
        let _turn = turn();
        let Some((pair, judge, mut device)) = judged("txonly") else { return };
        let look = |bytes: &[u8]| assert_eq!(bytes.len(), 64);
        all_are_counted(&mut device, judge, look, || dropped(&pair.near));
    }

    #[test]
    fn an_interface_that_goes_is_gone_for_good_and_every_buffer_comes_back() {
        let _turn = turn();
        let pair = Pair::new();
        let mut device = open_up(&pair.near);
        let all = device.pool().free();
        for _ in 0..10 {
            send(&mut device, 60);
        }
        ip(&format!("link del {}", pair.near));
        assert_eq!(device.maintain(), Err(DeviceError::Gone));
        let mut frames = frame(&mut device, 60);
        assert_eq!(device.transmit(&mut frames), Err(DeviceError::Gone));
        assert_eq!(frames.len(), 1, "nothing is taken");
        assert_eq!(device.receive(&mut Vec::new()), Err(DeviceError::Gone));
        assert_eq!(device.maintain(), Err(DeviceError::Gone));
        drop(frames);
        assert_eq!(device.pool().free(), all);
        assert_eq!(device.statistics()[Count::Copied], 10);
        drop(device);
        // Another of the same process is not troubled.
        let pair = Pair::new();
        let mut device = open_up(&pair.near);
        send(&mut device, 60);
    }

    #[test]
    fn a_queue_that_cannot_be_set_up_is_an_error_and_nothing_crashes_later() {
        let _turn = turn();
        let pair = Pair::new();
        for _ in 0..3 {
            // A veth has one queue.
            let error =
                open(&format!("{},start_queue=7", pair.near)).expect_err("it has no eighth");
            let step = "set up the receive queue";
            assert!(matches!(error, Error::Step { step: at, .. } if at == step), "{error}");
        }
        let mut near = open_up(&pair.near);
        let mut far = open_up(&pair.far);
        exchange(&mut near, &mut far);
        exchange(&mut far, &mut near);
    }

    fn exchange(from: &mut DpdkPort, to: &mut DpdkPort) {
        let deadline = Instant::now() + PATIENCE;
        let mut frames = frame(from, 100);
        let mut got = Vec::new();
        while got.is_empty() {
            assert!(Instant::now() < deadline, "nothing is received");
            from.transmit(&mut frames).expect("it is up");
            to.receive(&mut got).expect("it is up");
        }
        assert_eq!(got[0].bytes[..], [0xff; 100]);
    }

    #[test]
    fn an_interface_that_is_not_there_is_no_port() {
        let error = open("not-there").expect_err("there is none of that name");
        assert!(matches!(error, Error::NoPort { .. }), "{error}");
    }

    #[test]
    fn an_interface_with_a_smaller_mtu_carries_no_more() {
        let _turn = turn();
        let pair = Pair::new();
        let mut device = open_up(&pair.near);
        assert_eq!(device.capabilities().mtu, 1500);
        ip(&format!("link set {} mtu 1000", pair.near));
        device.maintain().expect("it is up");
        assert_eq!(device.capabilities().mtu, 1000);
        send(&mut device, 1015);
        assert_eq!(device.statistics()[Count::TooLong], 1);
    }
}
