//! Interfaces and processes come and go: what a device says, and what stays behind.

mod support;

use std::os::unix::process::CommandExt;
use std::time::{Duration, Instant};

use driver_af_xdp::bpf::{link_xdp, load_xdp};
use driver_af_xdp::instructions::{Assembler, Operation, Register};
use driver_af_xdp::{AfXdp, Interface, Options, Way};
use rustix::process::{Resource, Rlimit, Signal, setrlimit};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use std::os::fd::AsFd;
use support::{PATIENCE, Pair, WAYS, compose, counted, drain, ip, options, payload, receive, role};
use support::{send_all, settle};
use unet::device::{Count, Device, DeviceError, Frames, OpenError};

/// Maintains until the device says so.
fn eventually(device: &mut AfXdp, wanted: Result<(), DeviceError>) {
    let deadline = Instant::now() + PATIENCE;
    while device.maintain() != wanted {
        assert!(Instant::now() < deadline, "{:?} is not {wanted:?}", device.maintain());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn an_interface_that_goes_down_and_comes_up_goes_on() {
    for way in WAYS {
        let pair = Pair::new();
        let (mut near, mut far) = pair.open(&options(way, 64));
        let mut sent = 0;
        for end in [&pair.near, &pair.far, &pair.near] {
            ip(&format!("link set {end} down"));
            // Unnoticed until somebody looks, or the kernel refuses: what was taken is not lost sight of.
            for device in [&mut near, &mut far] {
                eventually(device, Err(DeviceError::Down));
                let mut frames = [compose(device, b"down").expect("free")].into();
                assert_eq!(device.transmit(&mut frames), Err(DeviceError::Down));
                assert_eq!(frames.len(), 1, "nothing is taken");
                assert_eq!(device.receive(&mut Vec::new()), Err(DeviceError::Down));
            }
            ip(&format!("link set {end} up"));
            eventually(&mut near, Ok(()));
            eventually(&mut far, Ok(()));
            for _ in 0..100 {
                let frame = compose(&mut near, b"up again").expect("free");
                send_all(&mut near, &mut [frame].into());
                assert_eq!(payload(&receive(&mut far, 1)[0].bytes), b"up again", "{way:?}");
                sent += 1;
            }
        }
        settle(&mut near);
        settle(&mut far);
        assert_eq!(counted(&mut near, Count::Sent), sent);
        assert_eq!(counted(&mut far, Count::Received), sent);
    }
}

#[test]
fn a_down_interface_is_noticed_by_sending_and_its_return_too() {
    let pair = Pair::new();
    let (mut near, mut far) = pair.open(&options(Way::Generic, 64));
    ip(&format!("link set {} down", pair.near));
    let mut frames = [compose(&mut near, b"taken").expect("free")].into();
    assert_eq!(near.transmit(&mut frames), Ok(()), "nobody knew yet");
    assert!(frames.is_empty());
    let mut frames = [compose(&mut near, b"refused").expect("free")].into();
    assert_eq!(near.transmit(&mut frames), Err(DeviceError::Down));
    ip(&format!("link set {} up", pair.near));
    let deadline = Instant::now() + PATIENCE;
    while near.transmit(&mut frames).is_err() {
        assert!(Instant::now() < deadline);
    }
    // The first may have met a carrier that was not back yet: then it is counted.
    let got = drain_both(&mut near, &mut far);
    let failed = near.statistics()[Count::Failed];
    assert_eq!(got + failed, 2);
    settle(&mut near);
}

fn drain_both(near: &mut AfXdp, far: &mut AfXdp) -> u64 {
    drain(near);
    // Its own view may be from when the carrier was gone.
    eventually(far, Ok(()));
    drain(far).len() as u64
}

#[test]
fn a_deleted_interface_is_gone_and_the_buffers_are_not() {
    for way in WAYS {
        let pair = Pair::new();
        let (mut near, far) = pair.open(&options(way, 64));
        ip(&format!("link del {}", pair.near));
        let mut frames = [compose(&mut near, b"gone").expect("free")].into();
        let first = near.transmit(&mut frames);
        assert!(matches!(first, Ok(()) | Err(DeviceError::Gone)), "{first:?}");
        let mut frames = [compose(&mut near, b"gone").expect("free")].into();
        assert_eq!(near.transmit(&mut frames), Err(DeviceError::Gone));
        assert_eq!(near.receive(&mut Vec::new()), Err(DeviceError::Gone));
        assert_eq!(near.maintain(), Err(DeviceError::Gone));
        assert_eq!(near.arm(), Err(DeviceError::Gone));
        assert!(!DeviceError::Gone.is_passing());
        let mut kept = near.pool().alloc(64).expect("free");
        drop((near, far));
        kept.fill(1);
        assert!(kept.iter().all(|byte| *byte == 1), "a buffer outlives its device");
        let none = AfXdp::open(&pair.near, 0, &options(way, 64)).map(|_| ());
        assert_eq!(none, Err(OpenError::NoDevice));
    }
}

#[test]
fn a_changed_mtu_is_taken_note_of() {
    let pair = Pair::new();
    let (mut near, mut far) = pair.open(&options(Way::Generic, 64));
    ip(&format!("link set {} mtu 1000", pair.near));
    near.maintain().expect("up");
    assert_eq!(near.capabilities().mtu, 1000);
    let frame = compose(&mut near, &[0; 1014 - 41]).expect("free");
    send_all(&mut near, &mut [frame].into());
    assert_eq!(counted(&mut near, Count::TooLong), 1);
    let frame = compose(&mut near, &[0; 1014 - 42]).expect("free");
    send_all(&mut near, &mut [frame].into());
    assert_eq!(receive(&mut far, 1)[0].bytes.len(), 1014);
    // No more than fits into a buffer, whatever the interface carries.
    ip(&format!("link set {} mtu 3000", pair.near));
    near.maintain().expect("up");
    assert_eq!(near.capabilities().mtu, 2048 - 256 - 14);
}

#[test]
fn a_foreign_program_is_left_alone_and_named() {
    for (way, flag) in WAYS.into_iter().zip([1 << 1, 1 << 2]) {
        let pair = Pair::new();
        let interface = Interface::find(&pair.near).expect("made");
        let mut pass = Assembler::default();
        pass.compute(Operation::Move, Register::R0, 2);
        pass.exit();
        let program = load_xdp(&pass.finish().expect("no jumps"), "somebody", true).expect("right");
        let link = link_xdp(program.as_fd(), interface.index, flag).expect("free");
        for asked in WAYS {
            match AfXdp::open(&pair.near, 0, &options(asked, 64)) {
                Err(OpenError::Busy(why)) => assert!(why.contains("xdp off"), "{why}"),
                other => panic!("{way:?} there, {asked:?} asked: {other:?}"),
            }
        }
        drop(link);
        AfXdp::open(&pair.near, 0, &options(way, 64)).expect("it is free now");
    }
}

#[test]
fn the_verifiers_words_come_with_its_refusal() {
    let mut wrong = Assembler::default();
    wrong.compute_with(Operation::Move, Register::R0, Register::R5);
    wrong.exit();
    let refused = load_xdp(&wrong.finish().expect("no jumps"), "wrong", false).expect_err("wrong");
    assert!(refused.log.contains("R5"), "{refused:?}");
}

#[test]
fn a_second_user_of_an_interface_is_refused_until_the_first_is_gone() {
    let pair = Pair::new();
    let first = AfXdp::open(&pair.near, 0, &options(Way::Generic, 64)).expect("free");
    match AfXdp::open(&pair.near, 0, &options(Way::Generic, 64)) {
        Err(OpenError::Busy(why)) => assert!(why.contains("agent"), "{why}"),
        other => panic!("{other:?}"),
    }
    drop(first);
    for _ in 0..5 {
        // At once, again and again: the kernel releases a queue late.
        AfXdp::open(&pair.near, 0, &options(Way::Generic, 64)).expect("free again");
    }
}

/// Holds a queue until it is killed. Its argument: the interface.
#[test]
#[ignore = "a part that other tests run in a process of its own"]
fn role_holder() {
    let Some(arguments) = role::arguments() else { return };
    let mut device = AfXdp::open(&arguments[0], 0, &options(Way::Generic, 64)).expect("free");
    role::say("open");
    loop {
        let frame = compose(&mut device, b"until I die");
        device.transmit(&mut frame.into_iter().collect()).expect("up");
        drop(drain(&mut device));
    }
}

#[test]
fn a_killed_holder_leaves_nothing_attached() {
    let pair = Pair::new();
    for _ in 0..3 {
        let mut holder = role::spawn("role_holder", &[&pair.near]);
        holder.expect("open");
        std::thread::sleep(Duration::from_millis(100));
        let refused = AfXdp::open(&pair.near, 0, &options(Way::Generic, 64)).map(|_| ());
        assert!(matches!(refused, Err(OpenError::Busy(_))), "{refused:?}");
        holder.signal(Signal::KILL);
        holder.wait_killed();
        let (near, mut far) = pair.open(&options(Way::Generic, 64));
        assert_eq!(Interface::find(&pair.near).expect("there").programs.len(), 1);
        drain(&mut far);
        drop((near, far));
        // Other tests start processes, which hold descriptors for a moment.
        let deadline = Instant::now() + PATIENCE;
        while !Interface::find(&pair.near).expect("there").programs.is_empty() {
            assert!(Instant::now() < deadline, "it is still attached");
        }
    }
}

/// Opens with little memory that may be locked.
#[test]
#[ignore = "a part that other tests run in a process of its own"]
fn role_locked_out() {
    let Some(arguments) = role::arguments() else { return };
    let mut sets = capabilities(None).expect("they can be read");
    sets.effective.remove(CapabilitySet::IPC_LOCK);
    sets.permitted.remove(CapabilitySet::IPC_LOCK);
    let limit = Rlimit { current: Some(1 << 16), maximum: Some(1 << 16) };
    setrlimit(Resource::Memlock, limit).expect("lower is allowed");
    set_capabilities(None, sets).expect("fewer are allowed");
    let refused = AfXdp::open(&arguments[0], 0, &options(Way::Generic, 64)).map(|_| ());
    assert_eq!(refused, Err(OpenError::MemoryLock));
    assert_eq!(Interface::find(&arguments[0]).expect("there").programs, [], "nothing is left");
    AfXdp::open(&arguments[0], 0, &options(Way::Generic, 16)).expect("fewer fit");
}

#[test]
fn exhausted_locked_memory_is_said_so() {
    let pair = Pair::new();
    role::spawn("role_locked_out", &[&pair.near]).wait_success();
}

/// Opens without any capability.
#[test]
#[ignore = "a part that other tests run in a process of its own"]
fn role_nobody() {
    let Some(arguments) = role::arguments() else { return };
    assert!(capabilities(None).expect("they can be read").effective.is_empty());
    let options = Options { way: Way::Generic, ..options(Way::Generic, 64) };
    match AfXdp::open(&arguments[0], 0, &options) {
        Err(OpenError::NotPermitted(what)) => {
            assert!(what.contains("CAP_NET_RAW") && what.contains("CAP_BPF"), "{what}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_a_capability_it_is_said_which_are_missing() {
    let pair = Pair::new();
    let mut command = role::command("role_nobody", &[&pair.near]);
    role::start(command.uid(65534).gid(65534)).wait_success();
}
