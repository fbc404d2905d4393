//! Calls that end in time, whatever else their connection did.

use std::thread;
use std::time::Duration;

use rpc_fastpath::endpoint::*;

use crate::scene::*;

pub fn a_call_beside_one_that_was_left_alone_has_its_patience(way: Way) {
    with_server(way, of_server(), |scene| {
        let mut options = of_client(way);
        options.timers.patience = 1_000_000_000;
        let mut connection = scene.connect_with(options);
        connection.start(NULL, b"", How::default()).expect("room");
        connection.flush();
        // As one whose thread has something else to do.
        thread::sleep(Duration::from_millis(1_200));
        let outcome = connection.call(NULL, b"", How::default());
        assert_eq!(outcome, Outcome::Executed(vec![]));
    });
}
