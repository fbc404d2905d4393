//! Two graphs of the smallest layers, joined by hand.

use fbufs::PoolOptions;
use protocols::{Description, Graph, Instant, Kinds, Limits, Message, Participants, Pool, Reason};

fn message(pool: &mut Pool, headroom: usize, bytes: &[u8]) -> Message {
    pool.message(headroom, bytes.len(), |room| room.copy_from_slice(bytes)).expect("there is room")
}

fn pool() -> Pool {
    Pool::new(PoolOptions::default()).expect("memory is left")
}

fn graph(text: &str) -> Graph {
    let description: Description = text.parse().expect("it is a description");
    Graph::new(&description, &Kinds::standard(), pool(), Limits::default())
        .expect("it makes a graph")
}

const STACK: &str = "outer = tag(number=7): inner\ninner = tag(number=8): wire\nwire = device";

#[test]
fn what_is_pushed_into_one_graph_comes_out_of_the_other_and_an_answer_comes_back() {
    let mut pool = pool();
    let (mut a, mut b) = (graph(STACK), graph(STACK));
    let (wire_a, wire_b) = (a.node("wire").expect("it is there"), b.node("wire").expect("too"));
    let session = a.open("outer", Participants::default()).expect("it opens");
    b.listen("outer", Participants::default()).expect("it listens");
    for round in 0..3u8 {
        let now = Instant(u64::from(round));
        a.push(now, session, message(&mut pool, 16, &[round; 5])).expect("it is open");
        let frame = a.transmitted(wire_a).expect("it went down");
        assert_eq!(frame.len(), 5 + 16);
        b.receive(now, wire_b, frame);
        let delivery = b.received().expect("it came up");
        assert_eq!(delivery.message.len(), 5);
        b.push(now, delivery.session, message(&mut pool, 0, b"answer")).expect("it is open");
        a.receive(now, wire_a, b.transmitted(wire_b).expect("it went down"));
        let answer = a.received().expect("it came back");
        assert_eq!(answer.session, session);
        assert_eq!(answer.message.len(), 6);
    }
    assert_eq!(b.route(session), ["outer", "inner", "wire"]);
    assert_eq!(a.all_drops() + b.all_drops(), 0);
}

#[test]
fn what_belongs_to_no_session_is_counted_where_it_is_dropped() {
    let mut pool = pool();
    let mut graph = graph(STACK);
    let wire = graph.node("wire").expect("it is there");
    graph.receive(Instant(0), wire, message(&mut pool, 0, &[0; 20]));
    assert_eq!(graph.drops(wire, Reason::NoSession), 1);
    graph.listen("outer", Participants::default()).expect("it listens");
    graph.receive(Instant(0), wire, message(&mut pool, 0, &[0; 7]));
    graph.receive(Instant(0), wire, message(&mut pool, 0, &[9; 20]));
    let inner = graph.node("inner").expect("it is there");
    assert_eq!(graph.drops(inner, Reason::Malformed), 1);
    assert_eq!(graph.drops(inner, Reason::NotForUs), 1);
    assert!(graph.received().is_none());
}

#[test]
fn a_graph_shows_the_text_it_was_made_of() {
    let graph = graph(STACK);
    assert_eq!(graph.to_string().trim(), STACK);
}
