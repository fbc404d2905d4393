//! What cannot be had is a named error, and nothing crashes later. DPDK is begun once in a process, so whatever needs
//! another beginning runs in a process of its own: this program again.
#![cfg(dpdk)]

use std::collections::VecDeque;
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use driver_dpdk::{DpdkPort, Error, Memory, Options};
use unet::device::{Count, Device, DeviceError, Frames, Piece};

const CASE: &str = "DPDK_CASE";

fn open(arguments: &str) -> Result<DpdkPort, Error> {
    DpdkPort::open(arguments, &Options { buffers: 256, ring: 64, ..Options::default() })
}

/// Runs one of [`CASES`] in a process of its own.
fn alone(case: &str) {
    let program = std::env::current_exe().expect("this program");
    let mut child = Command::new(program);
    child.args(["--exact", "a_case", "--ignored", "--nocapture"]).env(CASE, case);
    let output = child.output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{case}: {:?} {said}", output.status);
}

type Case = (&'static str, fn());

const CASES: [Case; 5] = [
    ("huge", without_huge_pages),
    ("begun", somebody_else_has_begun),
    ("little", with_too_little_memory),
    ("cards", a_card_that_is_not_there),
    ("exit", a_process_ends_with_its_ports_open),
];

#[test]
#[ignore = "a part of other tests, which start it"]
fn a_case() {
    let name = std::env::var(CASE).expect("who started it says which");
    let case = CASES.iter().find(|(case, _)| *case == name).expect("there is such a case");
    case.1();
}

fn without_huge_pages() {
    // More than anybody sets aside.
    let options = Options { memory: Memory::Huge(60_000), ..Options::default() };
    let error = DpdkPort::open("net_null0", &options).expect_err("there are not so many");
    assert_eq!(error, Error::HugePages);
    // It cannot be begun again: the reason stays.
    assert_eq!(open("net_null0").expect_err("as before"), Error::HugePages);
}

fn somebody_else_has_begun() {
    let arguments = ["other", "--no-huge", "--no-pci", "--no-shconf", "-m16", "--no-telemetry"];
    let arguments = arguments.map(|text| std::ffi::CString::new(text).expect("no zero").into_raw());
    // SAFETY: it is called once, and the arguments are leaked.
    let begun = unsafe { dpdk_sys::rte_eal_init(6, arguments.to_vec().leak().as_mut_ptr()) };
    assert!(begun >= 0);
    assert_eq!(open("net_null0").expect_err("DPDK is another's"), Error::Begun);
}

fn with_too_little_memory() {
    let options = Options { memory: Memory::Plain(2), ..Options::default() };
    let large = Options { buffers: 100_000, ..options };
    let error = DpdkPort::open("net_null0", &large).expect_err("its mbufs need more");
    assert!(matches!(error, Error::Memory(_)), "{error}");
    // Nothing of it is left: the same port, with less.
    let small = Options { buffers: 256, ring: 64, ..options };
    DpdkPort::open("net_null0", &small).expect("there is room for this one");
}

fn a_process_ends_with_its_ports_open() {
    static DEVICE: Mutex<Option<DpdkPort>> = Mutex::new(None);
    *DEVICE.lock().expect("no panic") = Some(open("net_null0").expect("it is there"));
}

fn a_card_that_is_not_there() {
    for address in ["ffff:fe:1f.6", "ffff:fe:1f.6,some=argument", "fe:1f.6"] {
        let error = open(address).expect_err("no machine has so many cards");
        assert!(matches!(error, Error::NoPort { .. }), "{address}: {error}");
    }
    // Virtual ones are there all the same.
    open("net_null0").expect("it is there");
}

#[test]
fn a_card_that_is_not_there_is_no_port() {
    alone("cards");
}

#[test]
fn a_card_is_not_found_after_a_virtual_port_and_that_is_said() {
    let _first = open("net_null10").expect("it is there");
    assert_eq!(open("0000:ff:1f.6").expect_err("it is too late"), Error::WithoutCards);
}

#[test]
fn without_huge_pages_the_error_says_so() {
    alone("huge");
}

#[test]
fn a_second_beginning_in_a_process_is_refused() {
    alone("begun");
}

#[test]
fn too_little_memory_is_an_error_and_leaves_nothing_behind() {
    alone("little");
}

#[test]
fn a_process_may_end_with_its_ports_open() {
    alone("exit");
}

#[test]
fn what_is_no_port_is_refused_by_name() {
    for wrong in
        ["", ",", "no_such_driver0", "net_memif7,role=prince", "0000:ff:1f", "net null", "a\0b"]
    {
        let error = open(wrong).expect_err("it is no port");
        assert!(matches!(error, Error::NoPort { .. }), "{wrong:?}: {error}");
    }
    let error = open("net_memif8,role=prince").expect_err("there is no such role");
    assert!(error.to_string().contains("net_memif8"), "{error}");
}

#[test]
fn a_port_is_open_once_and_can_be_opened_again() {
    let first = open("net_null1").expect("it is there");
    assert_eq!(open("net_null1").expect_err("it is open"), Error::Busy("net_null1".into()));
    drop(first);
    for _ in 0..20 {
        drop(open("net_null1").expect("it is free again"));
    }
}

#[test]
fn other_memory_than_the_first_ports_is_refused() {
    let _first = open("net_null2").expect("it is there");
    let options = Options { memory: Memory::Plain(65), ..Options::default() };
    assert_eq!(DpdkPort::open("net_null3", &options).expect_err("it is begun"), Error::OtherMemory);
}

#[test]
fn sizes_that_make_no_sense_are_errors() {
    for (buffers, buffer_bytes) in [(0, 2048), (16, 0), (16, 1000), (16, 1 << 17), (u32::MAX, 4096)]
    {
        let options = Options { buffers, buffer_bytes, ..Options::default() };
        let error = DpdkPort::open("net_null4", &options).expect_err("it makes no sense");
        assert!(
            matches!(error, Error::Memory(_) | Error::Unsupported(_)),
            "{buffers} {buffer_bytes}: {error}"
        );
    }
    for (buffers, ring) in [(1, 512), (2, 0), (16, u16::MAX)] {
        let options = Options { buffers, ring, ..Options::default() };
        if let Ok(mut device) = DpdkPort::open("net_null4", &options) {
            assert_eq!(device.pool().total(), buffers as usize);
        }
    }
}

#[test]
fn memory_that_makes_no_sense_is_an_error() {
    for memory in [Memory::Plain(0), Memory::Huge(0), Memory::Plain(u32::MAX)] {
        let options = Options { memory, ..Options::default() };
        let error = DpdkPort::open("net_null6", &options).expect_err("it makes no sense");
        assert!(matches!(error, Error::Unsupported(_)), "{memory:?}: {error}");
    }
}

#[test]
fn what_a_port_has_in_memory_of_its_own_is_copied_once_and_counted() {
    // What this one sends it receives: the buffers themselves.
    let mut device = open("net_ring9").expect("it is there");
    let all = device.pool().free();
    let (mut sent, mut came) = (0, Vec::new());
    for round in 0..200u8 {
        let mut frames = VecDeque::new();
        for len in [14, 60, 1500] {
            let mut fbuf = device.pool().alloc(len).expect("all but a few are free");
            fbuf.fill(round);
            frames.push_back(Piece::whole(fbuf.freeze()));
        }
        sent += frames.len();
        device.transmit(&mut frames).expect("there is a link");
        assert!(frames.is_empty());
        device.receive(&mut came).expect("there is a link");
        let found: Vec<_> =
            came.drain(..).map(|piece| (piece.bytes.len(), piece.bytes[0])).collect();
        assert_eq!(found, [(14, round), (60, round), (1500, round)]);
    }
    let counts = device.statistics();
    assert_eq!(
        [Count::Sent, Count::Received, Count::Copied].map(|it| counts[it]),
        [sent as u64; 3]
    );
    device.transmit(&mut VecDeque::new()).expect("there is a link");
    assert_eq!(device.pool().free(), all, "every buffer is back");
}

/// A pair that shares memory.
fn pair(name: u32) -> (DpdkPort, DpdkPort) {
    let socket = format!("socket=failures-{}-{name}", std::process::id());
    let server = open(&format!("net_memif{name},role=server,{socket}")).expect("a server");
    let client = open(&format!("net_memif{},role=client,{socket}", name + 1)).expect("a client");
    (server, client)
}

fn await_link(device: &mut DpdkPort, wanted: Result<(), DeviceError>) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while device.maintain() != wanted {
        assert!(Instant::now() < deadline, "the link does not become {wanted:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_peer_that_goes_takes_the_link_along_and_one_that_comes_brings_it_back() {
    let (mut server, client) = pair(100);
    await_link(&mut server, Ok(()));
    drop(client);
    await_link(&mut server, Err(DeviceError::Down));
    let mut frames =
        VecDeque::from([Piece::whole(server.pool().alloc(60).expect("free").freeze())]);
    assert_eq!(server.transmit(&mut frames), Err(DeviceError::Down));
    assert_eq!(frames.len(), 1, "nothing is taken");
    let socket = format!("socket=failures-{}-100", std::process::id());
    let _again = open(&format!("net_memif101,role=client,{socket}")).expect("a client");
    await_link(&mut server, Ok(()));
    server.transmit(&mut frames).expect("there is a link");
    assert_eq!((frames.len(), server.statistics()[Count::Sent]), (0, 1));
}

#[test]
fn who_has_no_buffer_left_drops_and_goes_on() {
    let (mut server, mut client) = pair(110);
    await_link(&mut server, Ok(()));
    await_link(&mut client, Ok(()));
    let mut kept = Vec::new();
    let mut sent = 0;
    let deadline = Instant::now() + Duration::from_secs(10);
    // All of its buffers are the caller's in the end.
    while client.pool().free() > 0 && Instant::now() < deadline {
        let mut frames = VecDeque::new();
        while frames.len() < 16
            && let Ok(fbuf) = server.pool().alloc(60)
        {
            frames.push_back(Piece::whole(fbuf.freeze()));
        }
        server.transmit(&mut frames).expect("there is a link");
        sent += 16 - frames.len();
        client.receive(&mut kept).expect("there is a link");
    }
    assert!(kept.len() >= 64 && sent >= kept.len(), "{} of {sent}", kept.len());
    kept.clear();
    let mut frames =
        VecDeque::from([Piece::whole(server.pool().alloc(60).expect("free").freeze())]);
    while kept.is_empty() {
        assert!(Instant::now() < deadline, "nothing is received any more");
        server.transmit(&mut frames).expect("there is a link");
        client.receive(&mut kept).expect("there is a link");
    }
}

#[test]
fn who_has_no_packet_left_takes_no_more_until_one_comes_back() {
    // Packets of its own, of which each one sent is in the other's hands until it was received.
    let options = Options { buffers: 256, ring: 64, copy: true, ..Options::default() };
    let (mut first, mut second) = DpdkPort::pair("scarce", &options).expect("two ports");
    let (mut frames, mut came) = (VecDeque::new(), Vec::new());
    let (mut taken, mut received) = (0, 0);
    for round in 0..20 {
        // Nobody receives: the ring fills, then what waits, then there is an end to it.
        for _ in 0..10 {
            while let Ok(fbuf) = first.pool().alloc(60) {
                frames.push_back(Piece::whole(fbuf.freeze()));
            }
            let before = frames.len();
            first.transmit(&mut frames).expect("there is a link");
            taken += before - frames.len();
        }
        assert!(!frames.is_empty(), "round {round}: there is no end to what it takes");
        assert_eq!(first.pool().free() + frames.len(), 256, "what was taken was copied");
        second.receive(&mut came).expect("there is a link");
        received += came.drain(..).len();
    }
    while received < taken {
        first.transmit(&mut VecDeque::new()).expect("there is a link");
        second.receive(&mut came).expect("there is a link");
        assert!(!came.is_empty(), "{received} of {taken} came");
        received += came.drain(..).len();
    }
    let [of_first, of_second] = [first.statistics(), second.statistics()];
    assert_eq!(of_first[Count::Sent], taken as u64);
    assert_eq!([of_first[Count::Copied], of_second[Count::Copied]], [taken as u64; 2]);
}

#[test]
fn ports_that_go_one_after_the_other_leave_nothing_under_way() {
    let options = Options { buffers: 64, ring: 1024, ..Options::default() };
    // Far more often than there would be memory for, if something stayed.
    for _ in 0..400 {
        let (mut first, second) = DpdkPort::pair("again", &options).expect("two ports");
        let mut frames = VecDeque::new();
        for _ in 0..32 {
            let fbuf = first.pool().alloc(1000).expect("free");
            frames.push_back(Piece::whole(fbuf.freeze()));
        }
        first.transmit(&mut frames).expect("there is a link");
        drop(first);
        drop(second);
    }
}

#[test]
fn a_port_that_shows_all_memory_is_refused_beside_buffers_of_others() {
    let path = std::env::temp_dir().join(format!("unet-failures-{}", std::process::id()));
    let path = path.display();
    let _host = open(&format!("net_vhost9,iface={path}")).expect("a host's end");
    let error = open(&format!("net_virtio_user9,path={path}")).expect_err("it shows all memory");
    assert!(matches!(error, Error::Unsupported(_)), "{error}");
}
