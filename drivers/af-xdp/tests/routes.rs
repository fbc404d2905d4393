//! Ways by the kernel's word, in network namespaces of the tests' own: needs root.
//!
//! Each test's thread moves into a namespace that a child process holds, joined by a veth to another one.

mod namespaces;

use std::net::IpAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use driver_af_xdp::KernelRoutes;
use namespaces::joined;
use unet::device::{DeviceError, OpenError, Route, Routes};

fn ip(text: &str) -> IpAddr {
    text.parse().expect("it is an address")
}

const THEIRS: [u8; 6] = [2, 0, 0, 0, 0, 0xb];

/// Keeps `routes` up to date until it is as wanted.
fn until<T>(
    routes: &mut KernelRoutes,
    what: &str,
    mut wanted: impl FnMut(&mut KernelRoutes, Result<bool, DeviceError>) -> Option<T>,
) -> T {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let maintained = routes.maintain();
        if let Some(found) = wanted(routes, maintained) {
            return found;
        }
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Asks until the way is known.
fn resolved(routes: &mut KernelRoutes, to: &str) -> Route {
    until(routes, "the neighbour answers", |routes, _| match routes.resolve(ip(to)) {
        Ok(route) => Some(route),
        Err(DeviceError::Unresolved | DeviceError::Down) => None,
        Err(other) => panic!("{to}: {other}"),
    })
}

fn open() -> KernelRoutes {
    let mut routes = KernelRoutes::open("va").expect("it is there");
    until(&mut routes, "the link comes up", |_, maintained| maintained.ok());
    routes
}

#[test]
fn neighbours_are_resolved_by_the_kernel_over_both_families() {
    let _both = joined();
    let mut routes = open();
    for (to, source) in [("192.0.2.2", "192.0.2.1"), ("2001:db8::2", "2001:db8::1")] {
        assert_eq!(routes.resolve(ip(to)), Err(DeviceError::Unresolved), "nobody was asked yet");
        let route = resolved(&mut routes, to);
        assert_eq!(route, Route { source: ip(source), mac: THEIRS, mtu: 1500 });
    }
}

#[test]
fn neighbours_are_resolved_without_any_capability() {
    use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
    let _both = joined();
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    // Of this thread alone.
    set_capabilities(None, sets).expect("they can be given up");
    let mut routes = open();
    assert_eq!(resolved(&mut routes, "192.0.2.2").mac, THEIRS);
    assert_eq!(resolved(&mut routes, "2001:db8::2").mac, THEIRS);
}

#[test]
fn link_local_neighbours_are_resolved() {
    let (_ours, theirs) = joined();
    theirs.run("ip addr add fe80::b/64 dev vb nodad");
    let mut routes = open();
    let route = resolved(&mut routes, "fe80::b");
    assert_eq!(route.mac, THEIRS);
    assert!(routes.local().contains(&route.source));
}

#[test]
fn a_gateways_address_is_found_for_what_is_behind_it() {
    let (ours, _theirs) = joined();
    ours.run(
        "ip route add 198.51.100.0/24 via 192.0.2.2 mtu 1300 &&
         ip route add 203.0.113.0/24 via inet6 2001:db8::2 &&
         ip -6 route add 2001:db8:1::/48 via 2001:db8::2 src 2001:db8::1",
    );
    let mut routes = open();
    let route = resolved(&mut routes, "198.51.100.7");
    assert_eq!(route, Route { source: ip("192.0.2.1"), mac: THEIRS, mtu: 1300 });
    assert_eq!(resolved(&mut routes, "203.0.113.7").mac, THEIRS);
    assert_eq!(resolved(&mut routes, "2001:db8:1::7").source, ip("2001:db8::1"));
}

#[test]
fn there_is_no_way_where_the_kernel_has_none() {
    let (ours, _theirs) = joined();
    ours.run("ip route add unreachable 192.0.2.128/25 && ip route add blackhole 198.51.100.0/24");
    let mut routes = open();
    let none = ["10.0.0.1", "192.0.2.200", "198.51.100.1", "2001:db8:9::1"];
    // The last ones are its own, and everybody's.
    for to in none.iter().chain(&["192.0.2.1", "2001:db8::1", "255.255.255.255", "127.0.0.1"]) {
        assert_eq!(routes.resolve(ip(to)), Err(DeviceError::Unreachable), "{to}");
    }
}

#[test]
fn a_way_over_another_interface_is_none_and_a_worse_one_over_this_is_taken() {
    let (ours, theirs) = joined();
    ours.run(&format!(
        "ip link add name vc type veth peer name vd netns {} && ip addr add 203.0.113.1/24 dev vc &&
         ip link set vc up && ip route add 198.51.100.0/24 dev vc && ip route add 10.0.0.0/8 dev vc &&
         ip route add 10.0.0.0/8 via 192.0.2.2 metric 99",
        theirs.id()
    ));
    theirs.run("ip link set vd up");
    let mut routes = open();
    assert_eq!(routes.resolve(ip("198.51.100.7")), Err(DeviceError::Unreachable));
    assert_eq!(resolved(&mut routes, "10.1.2.3").mac, THEIRS);
}

#[test]
fn a_neighbour_that_nobody_answers_for_stays_unresolved_and_is_found_when_it_comes() {
    let (_ours, theirs) = joined();
    let mut routes = open();
    for _ in 0..100 {
        assert_eq!(routes.resolve(ip("192.0.2.7")), Err(DeviceError::Unresolved));
    }
    theirs.run("ip addr add 192.0.2.7/24 dev vb");
    assert_eq!(resolved(&mut routes, "192.0.2.7").mac, THEIRS);
}

#[test]
fn a_neighbour_that_is_forgotten_or_doubted_is_asked_for_again() {
    let (ours, _theirs) = joined();
    let mut routes = open();
    resolved(&mut routes, "192.0.2.2");
    std::thread::sleep(Duration::from_millis(1100));
    // As the kernel does with a neighbour that it does not hear of.
    ours.run("ip neigh replace 192.0.2.2 lladdr 02:00:00:00:00:0b nud stale dev va");
    let state = || {
        let shown = Command::new("ip").args(["neigh", "show", "192.0.2.2", "dev", "va"]).output();
        String::from_utf8(shown.expect("ip is there").stdout).expect("it is text")
    };
    until(&mut routes, "it is in use again", |_, _| (!state().contains("STALE")).then_some(()));
    std::thread::sleep(Duration::from_millis(1100));
    until(&mut routes, "nothing is left to be told", |_, told| (told == Ok(false)).then_some(()));
    ours.run("ip neigh del 192.0.2.2 dev va");
    until(&mut routes, "the change is told", |_, told| (told == Ok(true)).then_some(()));
    until(&mut routes, "it is known again", |_, _| state().contains("REACHABLE").then_some(()));
    assert_eq!(resolved(&mut routes, "192.0.2.2").mac, THEIRS);
}

#[test]
fn a_neighbour_that_moved_is_told_and_followed() {
    let (ours, _theirs) = joined();
    let mut routes = open();
    resolved(&mut routes, "192.0.2.2");
    until(&mut routes, "nothing is left to be told", |_, told| (told == Ok(false)).then_some(()));
    ours.run("ip neigh replace 192.0.2.2 lladdr 02:00:00:00:00:0c nud permanent dev va");
    until(&mut routes, "the change is told", |_, told| (told == Ok(true)).then_some(()));
    assert_eq!(resolved(&mut routes, "192.0.2.2").mac, [2, 0, 0, 0, 0, 0xc]);
}

#[test]
fn what_changes_about_the_interface_is_told() {
    let (ours, theirs) = joined();
    let mut routes = open();
    let count = routes.local().len();
    ours.run("ip addr add 192.0.2.9/24 dev va && ip addr add 2001:db8::9/64 dev va nodad");
    until(&mut routes, "the addresses are there", |routes, _| {
        let has = |address| routes.local().contains(&ip(address));
        (has("192.0.2.9") && has("2001:db8::9")).then_some(())
    });
    ours.run("ip addr del 192.0.2.9/24 dev va && ip addr del 2001:db8::9/64 dev va");
    until(&mut routes, "they are gone", |routes, _| {
        // Its link-local one may have come meanwhile.
        (routes.local().len() <= count + 1 && !routes.local().contains(&ip("192.0.2.9")))
            .then_some(())
    });
    resolved(&mut routes, "192.0.2.2");
    ours.run("ip link set va mtu 1400");
    until(&mut routes, "the MTU is told", |routes, told| {
        (told == Ok(true) && routes.mtu() == 1400).then_some(())
    });
    assert_eq!(resolved(&mut routes, "192.0.2.2").mtu, 1400);
    let down = |_: &mut KernelRoutes, told| (told == Err(DeviceError::Down)).then_some(());
    let up = |_: &mut KernelRoutes, told| (told == Ok(true)).then_some(());
    theirs.run("ip link set vb down");
    until(&mut routes, "the carrier is lost", down);
    assert_eq!(routes.resolve(ip("192.0.2.2")), Err(DeviceError::Down));
    theirs.run("ip link set vb up");
    until(&mut routes, "the carrier is back", up);
    ours.run("ip link set va down");
    until(&mut routes, "it is down", down);
    ours.run("ip link set va up");
    until(&mut routes, "it is up", up);
    assert_eq!(resolved(&mut routes, "192.0.2.2").mac, THEIRS);
    ours.run("ip link del va");
    let gone = |_: &mut KernelRoutes, told| (told == Err(DeviceError::Gone)).then_some(());
    until(&mut routes, "it is gone", gone);
    assert_eq!(routes.resolve(ip("192.0.2.2")), Err(DeviceError::Gone));
}

#[test]
fn an_interface_of_the_same_name_is_another_one() {
    let (ours, _theirs) = joined();
    let mut routes = open();
    ours.run("ip link del va && ip link add name va type veth peer name ve && ip link set va up");
    let gone = |_: &mut KernelRoutes, told| (told == Err(DeviceError::Gone)).then_some(());
    until(&mut routes, "it is gone", gone);
    until(&mut routes, "it does not come back", gone);
}

#[test]
fn a_path_that_carries_less_is_noticed_when_it_is_looked_at_again() {
    let (ours, theirs) = joined();
    // They pass packets on over a link that carries less.
    theirs.run(
        "sysctl -qw net.ipv4.ip_forward=1 && ip link add name ve type veth peer name vf &&
         ip addr add 198.51.100.1/24 dev ve && ip link set dev ve mtu 1280 up && ip link set dev vf up &&
         ip neigh add 198.51.100.7 lladdr 02:00:00:00:00:77 dev ve",
    );
    ours.run("ip route add 198.51.100.0/24 via 192.0.2.2");
    let mut routes = open();
    assert_eq!(resolved(&mut routes, "198.51.100.7").mtu, 1500);
    let socket = std::net::UdpSocket::bind("192.0.2.1:0").expect("it is ours");
    rustix::net::sockopt::set_ip_mtu_discover(
        &socket,
        rustix::net::sockopt::Ipv4PathMtuDiscovery::DO,
    )
    .expect("it is an option");
    socket.send_to(&[0; 1400], "198.51.100.7:9").expect("it fits the link");
    until(&mut routes, "the path's MTU is known", |routes, _| {
        (resolved(routes, "198.51.100.7").mtu == 1280).then_some(())
    });
}

#[test]
fn more_changes_than_the_kernel_keeps_for_us_are_caught_up_with() {
    let (ours, _theirs) = joined();
    let mut routes = open();
    ours.run(
        "for i in $(seq 0 40); do for j in $(seq 1 250); do
             echo addr add 10.0.$i.$j/32 dev va; echo addr del 10.0.$i.$j/32 dev va;
         done; done | ip -batch - && ip addr add 192.0.2.77/24 dev va && ip link set va mtu 1300",
    );
    until(&mut routes, "it has caught up", |routes, _| {
        (routes.mtu() == 1300 && routes.local().contains(&ip("192.0.2.77"))).then_some(())
    });
}

#[test]
fn what_is_no_interface_is_refused() {
    let _both = joined();
    for name in ["", "nothing", "a-name-that-is-too-long-for-one", "a\0"] {
        assert_eq!(KernelRoutes::open(name).err(), Some(OpenError::NoDevice), "{name:?}");
    }
    assert!(matches!(KernelRoutes::open("lo"), Err(OpenError::Unsupported(_))));
}
