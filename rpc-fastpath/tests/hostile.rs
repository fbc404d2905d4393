//! What a peer can send that is no value: it is refused or told, and nobody is harmed.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use lrpc::{Binding, Outcome, Reason, UnknownReason};
use rpc_fastpath::service::{Message, Server, service};
use serde::{Deserialize, Serialize};
use support::{address, bind_options, server_options};

#[derive(Debug, Serialize, Deserialize)]
enum Tree {
    Leaf,
    Branch(Box<Tree>),
}

#[service(name = "target", version = 1)]
trait Target {
    fn text(&self, text: &str) -> String;
    fn tree(&self, tree: Tree) -> bool;
    fn nothings(&self, nothings: Vec<()>) -> u64;
    fn switch(&self, on: bool) -> bool;
    fn bulk(&self, key: &str, bulk: Message) -> u64;
}

#[derive(Default)]
struct Counting(Arc<AtomicU32>);

impl Counting {
    fn called<T>(&self, result: T) -> T {
        self.0.fetch_add(1, Ordering::Relaxed);
        result
    }
}

impl Target for Counting {
    fn text(&self, text: &str) -> String {
        self.called(text.to_owned())
    }

    fn tree(&self, tree: Tree) -> bool {
        self.called(matches!(tree, Tree::Leaf))
    }

    fn nothings(&self, nothings: Vec<()>) -> u64 {
        self.called(nothings.len() as u64)
    }

    fn switch(&self, on: bool) -> bool {
        self.called(!on)
    }

    fn bulk(&self, key: &str, bulk: Message) -> u64 {
        self.called((key.len() + bulk.len()) as u64)
    }
}

/// A cell with that count and content.
fn cell<const CELL: usize>(count: u16, content: &[u8]) -> [u8; CELL] {
    let mut cell = [0; CELL];
    cell[..2].copy_from_slice(&count.to_le_bytes());
    cell[2..2 + content.len()].copy_from_slice(content);
    cell
}

#[test]
fn arguments_that_are_no_value_never_reach_a_handler() {
    let address = address("no-value");
    let calls = Arc::new(AtomicU32::new(0));
    let handler = Counting(Arc::clone(&calls));
    let server = Server::<TargetService>::export(&address, handler, server_options());
    let _running = server.expect("the name is free").spawn();
    // Below the stub: cells and buffers as a liar would send them.
    let liar = Binding::<TargetService>::bind(&address, bind_options()).expect("bound");
    let refused = Some(Reason::BadArguments);
    let text = |cell: [u8; 48], buffer: Option<&[u8]>| {
        let buffer = buffer.map(|bytes| {
            let mut buffer = liar.alloc(bytes.len()).expect("a buffer is free");
            buffer.copy_from_slice(bytes);
            buffer.freeze()
        });
        match liar.call_bulk::<TargetText>(&cell, buffer) {
            Outcome::Refused(reason) => Some(reason),
            Outcome::Executed(_) => None,
            Outcome::Unknown(reason) => panic!("{reason}"),
        }
    };
    assert_eq!(text(cell(3, b"\x02ab"), None), None);
    assert_eq!(text(cell(u16::MAX, b""), Some(b"\x02ab")), None);
    for (count, content) in [
        (0, &b""[..]),         // nothing
        (2, b"\x02ab"),        // cut off
        (4, b"\x02abc"),       // and more
        (3, b"\x02\xff\xfe"),  // no text
        (47, b"\x2d"),         // longer than the cell
        (3, b"\xff\xff\x7f"),  // a length beyond its end
        (u16::MAX, b"\x02ab"), // in a buffer that did not come
    ] {
        assert_eq!(text(cell(count, content), None), refused, "{count} {content:?}");
    }
    for buffer in [&b"\x03ab"[..], b"\x01ab", &[0xff; 4096]] {
        assert_eq!(text(cell(u16::MAX, b""), Some(buffer)), refused, "{buffer:?}");
    }
    let mut deep = liar.alloc(60_000).expect("a buffer is free");
    deep.fill(1);
    let outcome = liar.call_bulk::<TargetTree>(&cell(u16::MAX, b""), Some(deep.freeze()));
    assert!(matches!(outcome, Outcome::Refused(Reason::BadArguments)));
    let without_end = cell(10, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01");
    let outcome = liar.call::<TargetNothings>(&without_end);
    assert_eq!(outcome, Outcome::Refused(Reason::BadArguments));
    let outcome = liar.call::<TargetBulk>(&cell(u16::MAX, b""));
    assert!(matches!(outcome, Outcome::Refused(Reason::BadArguments)));
    assert_eq!(calls.load(Ordering::Relaxed), 2, "what was a value, and no more");
    let honest = TargetClient::bind(&address, bind_options()).expect("bound");
    assert_eq!(honest.switch(true), Outcome::Executed(false));
}

#[test]
fn results_that_are_no_value_are_told_as_such() {
    let address = address("no-result");
    let (done, over) = std::sync::mpsc::channel::<()>();
    let exported = address.clone();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let liar = std::thread::spawn(move || {
        let server = lrpc::Server::<TargetService>::export(&exported, server_options().export)
            .expect("the name is free")
            .on::<TargetText>(|_, _| Ok(cell(3, b"\x02\xff\xfe")));
        ready.send(()).expect("the test listens");
        server.serve_until(|| over.try_recv().is_ok());
    });
    is_ready.recv().expect("it is exported");
    let client = TargetClient::bind(&address, bind_options()).expect("bound");
    let told = UnknownReason::BadResults;
    assert_eq!(client.text("a"), Outcome::Unknown(told));
    assert_eq!(client.text("a"), Outcome::Unknown(told));
    assert_eq!(client.switch(true), Outcome::Refused(Reason::NotServed));
    done.send(()).expect("the server listens");
    liar.join().expect("no panic");
    assert!(matches!(
        client.switch(true),
        Outcome::Unknown(UnknownReason::Closed(_)) | Outcome::Refused(Reason::Closed(_))
    ));
}
