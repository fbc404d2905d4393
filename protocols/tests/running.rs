//! In which order messages run, and what bounds them.

mod one_host;

use fbufs::PoolOptions;
use one_host::Host;
use protocols::layers::fragment::Header;
use protocols::{Description, Graph, Instant, Kinds, Limits, Participants, Pool, Reason};

fn limited(text: &str, top: &str, limits: Limits) -> Host {
    let description: Description = text.parse().expect("it is a description");
    let pool = Pool::new(PoolOptions::default()).expect("memory is left");
    let mut graph =
        Graph::new(&description, &Kinds::standard(), pool, limits).expect("it is a graph");
    let wire = graph.node("wire").expect("the device has that name");
    let session = graph.open(top, Participants::default()).expect("it opens");
    Host { graph, wire, session, now: Instant(0) }
}

#[test]
fn layers_of_one_kind_stand_over_each_other() {
    let text = "outer = fragment: inner\ninner = fragment: wire\nwire = device(mtu=64)";
    let mut host = limited(text, "outer", Limits::default());
    let bytes: Vec<u8> = (0..200).collect();
    host.push(&bytes);
    let frames = host.frames();
    // The inner layer offers more than the device carries, so it alone cuts: 12 bytes more than
    // the message, for the outer one's header.
    let places: Vec<u32> = frames
        .iter()
        .map(|frame| {
            let head = frame[..Header::LEN].try_into().expect("it has a header");
            Header::decode(head, frame.len() - Header::LEN).expect("it is one").offset
        })
        .collect();
    assert_eq!(places, [0, 52, 104, 156, 208]);
    for frame in frames {
        host.receive(&frame);
    }
    assert_eq!(host.deliveries(), [bytes]);
}

#[test]
fn what_was_emitted_first_is_through_before_what_was_emitted_next() {
    // Every piece is doubled below: its copy comes before the next piece.
    let text = "fragment: doubled\ndoubled = fault(duplicate=1): wire\nwire = device(mtu=64)";
    let mut host = Host::new(text, "fragment");
    host.push(&[3; 150]);
    let places: Vec<u8> = host.frames().iter().map(|frame| frame[7]).collect();
    assert_eq!(places, [0, 0, 52, 52, 104, 104]);
    // And so for what is released above a gap.
    let text = "doubled = fault(duplicate=1): sequencing\nsequencing: wire\nwire = device";
    let mut host = Host::new(text, "doubled");
    for number in [1u32, 2, 0] {
        host.receive(&[&number.to_be_bytes()[..], &[number as u8]].concat());
    }
    assert_eq!(host.deliveries().concat(), [0, 0, 1, 1, 2, 2]);
}

#[test]
fn more_than_may_wait_is_dropped_and_counted() {
    let text = "fragment: wire\nwire = device(mtu=64)";
    let pieces = |limits| {
        let mut host = limited(text, "fragment", limits);
        host.push(&[0; 520]);
        (host.frames().len(), host.graph.all_drops(), host)
    };
    let (out, dropped, host) = pieces(Limits { work: 4, ..Limits::default() });
    assert_eq!((out, dropped, host.drops("fragment", Reason::QueueFull)), (4, 6, 6));
    let (out, dropped, host) = pieces(Limits { steps: 3, ..Limits::default() });
    assert_eq!((out, dropped, host.drops("fragment", Reason::Budget)), (3, 7, 7));
    let (out, dropped, host) = pieces(Limits { output: 2, ..Limits::default() });
    assert_eq!((out, dropped, host.drops("wire", Reason::QueueFull)), (2, 8, 8));
    let mut host =
        limited("tag: wire\nwire = device", "tag", Limits { inbox: 1, ..Limits::default() });
    for _ in 0..3 {
        host.receive(&[0; 9]);
    }
    assert_eq!((host.deliveries().len(), host.drops("tag", Reason::InboxFull)), (1, 2));
    assert_eq!(host.buffers_in_use(), 0);
}

#[test]
fn sessions_are_bounded_and_a_layer_that_cannot_share_says_so() {
    let mut host = Host::new("tag: wire\nwire = device", "tag");
    let again = host.graph.open("tag", Participants::default()).expect_err("the device has one");
    assert!(again.to_string().starts_with("node `wire`: it is in use"));
    assert!(host.graph.open("nobody", Participants::default()).is_err());
    assert!(host.graph.close(host.now, host.session));
    let limits = Limits { sessions: 1, ..Limits::default() };
    let description: Description = "tag: wire\nwire = device".parse().expect("it is one");
    let pool = Pool::new(PoolOptions::default()).expect("memory is left");
    let mut graph = Graph::new(&description, &Kinds::standard(), pool, limits).expect("a graph");
    let refused = graph.open("tag", Participants::default()).expect_err("two are needed");
    assert!(refused.to_string().contains("as many sessions as there may be"));
    graph.open("wire", Participants::default()).expect("nothing was left behind");
}

#[test]
fn opening_and_closing_ten_thousand_times_leaves_nothing() {
    let mut host = Host::new("sequencing: fragment\nfragment: wire\nwire = device", "sequencing");
    for _ in 0..10_000 {
        host.push(b"some bytes");
        assert_eq!(host.frames().len(), 1);
        let old = host.session;
        assert!(host.graph.close(host.now, old));
        host.session = host.graph.open("sequencing", Participants::default()).expect("it opens");
        assert_ne!(host.session, old);
        assert!(host.graph.below(old).is_none());
    }
    assert_eq!(host.buffers_in_use(), 0);
    assert_eq!(host.graph.all_drops(), 0);
}
