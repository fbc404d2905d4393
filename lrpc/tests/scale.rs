//! A thousand bindings to one server: what they take while they are idle, and that each still answers.

mod support;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lrpc::{BindOptions, Binding, ExportOptions, Outcome, Server};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use rustix::process::{
    Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit,
};
use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};
use support::role::{self, Role};
use support::{PATIENCE, address};
use unet::{Address, Wait};

lrpc::interface! {
    /// What a thousand clients are bound to.
    Crowd = "crowd", version 1 {
        /// One more.
        Next(u64) -> u64;
        /// In an A-stack.
        Reverse([u8; 256]) -> [u8; 256];
    }
}

const MIB: u64 = 1 << 20;
const KIB: u64 = 1 << 10;

/// One test at a time: they count segments, descriptors and time of this process.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets this process open as many descriptors as it ever may.
fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).expect("the soft limit may be raised");
}

/// The server. Its arguments: wait, address.
#[test]
#[ignore = "a part that other tests run in a process of its own"]
fn role_server() {
    let Some(arguments) = role::arguments() else { return };
    let [wait, address] = &arguments[..] else { panic!("{arguments:?}") };
    // Must not outlive the test, whatever becomes of that.
    set_parent_process_death_signal(Some(Signal::KILL)).expect("the kernel can");
    let deadline = Instant::now() + 2 * PATIENCE;
    raise_limit();
    let wait = match wait.as_str() {
        "Spin" => Wait::Spin,
        "Park" => Wait::Park,
        _ => Wait::Adaptive,
    };
    let options = ExportOptions { wait, ..ExportOptions::default() };
    let address: Address = address.parse().expect("an address");
    let server = Server::<Crowd>::export(&address, options)
        .expect("the name is free")
        .on::<Next>(|_, number| Ok(number + 1))
        .on::<Reverse>(|_, mut bytes| {
            bytes.reverse();
            Ok(bytes)
        });
    role::say("exported");
    server.serve_until(|| Instant::now() > deadline);
}

fn start(wait: Wait, address: &Address) -> Role {
    let server = role::spawn("role_server", &[&format!("{wait:?}"), &address.to_string()]);
    server.expect("exported");
    server
}

fn bind(address: &Address, wait: Wait, count: usize) -> Vec<Binding<Crowd>> {
    let options = BindOptions { wait, ..BindOptions::default() };
    (0..count).map(|_| Binding::bind(address, options.clone()).expect("bound")).collect()
}

/// What the segments that a process made take, in bytes: the blocks of their files. The mappings of
/// both sides share them.
fn segment_bytes(pid: u32) -> (usize, u64) {
    let mut segments = 0;
    let mut bytes = 0;
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it lives").flatten() {
        if is_segment(&entry.path())
            && let Ok(file) = std::fs::metadata(entry.path())
        {
            segments += 1;
            bytes += file.blocks() * 512;
        }
    }
    (segments, bytes)
}

fn is_segment(path: &Path) -> bool {
    std::fs::read_link(path)
        .is_ok_and(|target| target.to_string_lossy().starts_with("/memfd:unet-segment"))
}

/// The private memory of a process, in bytes: what it has beside the segments.
fn private_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = status.lines().find(|line| line.starts_with("RssAnon")).expect("it is there");
    let number = line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
    number.expect("a number of KiB") * KIB
}

/// The ticks of processor time that a process has taken, of which there are 100 a second.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
    let (_, rest) = stat.rsplit_once(')').expect("the name is in brackets");
    let fields: Vec<&str> = rest.split_whitespace().collect();
    fields[11..13].iter().map(|field| field.parse::<u64>().expect("a number")).sum()
}

#[test]
fn a_thousand_idle_bindings_take_little_memory_and_no_time() {
    let _alone = alone();
    const COUNT: usize = 1000;
    raise_limit();
    for wait in [Wait::Adaptive, Wait::Park] {
        let address = address("crowd");
        let server = start(wait, &address);
        let private = private_bytes(server.pid());
        let bindings = bind(&address, wait, COUNT);
        for (number, binding) in bindings.iter().enumerate() {
            let number = number as u64;
            assert_eq!(binding.call::<Next>(&number), Outcome::Executed(number + 1));
            assert_eq!(binding.call::<Reverse>(&[7; 256]), Outcome::Executed([7; 256]));
        }

        let (ours, our_bytes) = segment_bytes(std::process::id());
        let (theirs, their_bytes) = segment_bytes(server.pid());
        assert_eq!((ours, theirs), (COUNT, COUNT), "{wait:?}: one segment a side");
        let segments = our_bytes + their_bytes;
        assert!(segments <= 64 * MIB, "{wait:?}: {segments} bytes of segments");
        let private = private_bytes(server.pid()).saturating_sub(private);
        assert!(private <= 16 * MIB, "{wait:?}: {private} bytes beside the segments");
        for binding in bindings.iter().step_by(100) {
            let blocks = binding.with_segment(|segment| {
                let file = std::fs::File::from(segment.try_clone_to_owned().expect("a descriptor"));
                file.metadata().expect("it is open").blocks()
            });
            assert!(blocks * 512 <= 64 * KIB, "{wait:?}: a side takes {} bytes", blocks * 512);
        }

        // Let it fall asleep; then a second of nothing.
        std::thread::sleep(Duration::from_millis(50));
        let before = (ticks(server.pid()), ticks(std::process::id()));
        std::thread::sleep(Duration::from_secs(1));
        let after = (ticks(server.pid()), ticks(std::process::id()));
        assert!(after.0 - before.0 <= 2, "{wait:?}: the server took {} ticks", after.0 - before.0);
        assert!(after.1 - before.1 <= 2, "{wait:?}: the clients took time");
        for (number, binding) in bindings.iter().enumerate().rev() {
            let number = number as u64;
            assert_eq!(binding.call::<Next>(&number), Outcome::Executed(number + 1), "{wait:?}");
        }
        assert!(bindings.iter().all(|binding| binding.closed().is_none()));
    }
}

/// Keeps this thread, and the servers that it starts, on the processor where it is: to wake a
/// processor that sleeps takes four times what the rest of a parked call does.
fn stay_on_one_processor() {
    let mut set = CpuSet::new();
    set.set(sched_getcpu());
    sched_setaffinity(None, &set).expect("it may run where it does");
}

/// Processor time that both sides have taken, which does not depend on who else wanted processors.
fn processor_time(server: &Role) -> Duration {
    let of = |pid: u32| {
        let clock = clock_getcpuclockid(Pid::from_raw(pid as i32)).expect("it lives");
        Duration::from(clock_gettime(clock).expect("it lives"))
    };
    of(server.pid()) + of(std::process::id())
}

/// What the cheapest of some batches of calls takes, by one binding: others use the machine as well.
fn cheapest(binding: &Binding<Crowd>, server: &Role) -> Duration {
    let batch = || {
        let before = processor_time(server);
        for number in 0..300 {
            assert_eq!(binding.call::<Next>(&number), Outcome::Executed(number + 1));
        }
        processor_time(server) - before
    };
    (0..20).map(|_| batch()).min().expect("there are some")
}

#[test]
fn what_is_idle_costs_what_is_active_little() {
    let _alone = alone();
    raise_limit();
    for wait in [Wait::Spin, Wait::Adaptive, Wait::Park] {
        // The last of them, and those that spin need two.
        if wait == Wait::Park {
            stay_on_one_processor();
        }
        let address = address("active");
        let server = start(wait, &address);
        let active = bind(&address, wait, 1).pop().expect("one");
        cheapest(&active, &server);
        let single = cheapest(&active, &server);
        let idle = bind(&address, wait, 255);
        for binding in &idle {
            assert_eq!(binding.call::<Next>(&0), Outcome::Executed(1));
        }
        // They fall quiet after some thousands of vain looks each.
        std::thread::sleep(Duration::from_millis(200));
        cheapest(&active, &server);
        let beside = cheapest(&active, &server);
        // The benchmark has the real figure; a walk over all of them takes some times as long.
        let limit = single * 3 + Duration::from_micros(500);
        assert!(beside <= limit, "{wait:?}: {single:?} alone, {beside:?} beside 255 idle ones");
        for binding in &idle {
            assert_eq!(binding.call::<Next>(&0), Outcome::Executed(1));
        }
    }
}

#[test]
fn clients_come_and_go_and_leave_nothing_with_the_server() {
    let _alone = alone();
    let address = address("come-and-go");
    let server = start(Wait::Adaptive, &address);
    drop(bind(&address, Wait::Adaptive, 8));
    let descriptors =
        || std::fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("it lives").count();
    let one = bind(&address, Wait::Adaptive, 1).pop().expect("one");
    assert_eq!(one.call::<Next>(&0), Outcome::Executed(1));
    support::eventually("the others are gone", || segment_bytes(server.pid()).0 == 1);
    let before = (descriptors(), private_bytes(server.pid()));
    for round in 0..30 {
        let some = bind(&address, Wait::Adaptive, 10);
        for binding in &some {
            assert_eq!(binding.call::<Next>(&round), Outcome::Executed(round + 1));
        }
    }
    support::eventually("all are gone", || segment_bytes(server.pid()).0 == 1);
    assert_eq!(descriptors(), before.0);
    let more = private_bytes(server.pid()).saturating_sub(before.1);
    assert!(more <= 4 * MIB, "{more} bytes of private memory are left of 300 clients");
    assert_eq!(one.call::<Next>(&0), Outcome::Executed(1));
}

#[test]
fn a_server_takes_as_many_bindings_as_it_was_told_and_again_when_one_goes() {
    let _alone = alone();
    let address = address("at-most");
    let options = ExportOptions { max_bindings: 3, ..ExportOptions::default() };
    let server = Server::<Crowd>::export(&address, options)
        .expect("the name is free")
        .on::<Next>(|_, number| Ok(number + 1));
    let mut bound: Vec<Binding<Crowd>> =
        (0..3).map(|_| support::bind_beside(&server, &address, Wait::Adaptive)).collect();
    for _ in 0..3 {
        let refused = support::beside(&server, || {
            Binding::<Crowd>::bind(&address, BindOptions::default()).expect_err("it is full")
        });
        let busy = unet::ConnectError::Refused(unet::Refusal::Busy);
        assert_eq!(refused, lrpc::BindError::Connect(busy));
        drop(bound.pop());
        support::serve_all(&server);
        bound.push(support::bind_beside(&server, &address, Wait::Adaptive));
    }
    for binding in &bound {
        assert_eq!(binding.call_serving::<Next, _>(&1, &server), Outcome::Executed(2));
    }
}
