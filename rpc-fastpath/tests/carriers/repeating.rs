//! Idempotent calls, which outlive the servers that are killed while they execute them.

use rpc_fastpath::service::{Outcome, Remote, UnknownReason};

use crate::carrying::{Carrier, Channels, LOSSY, SHM, SIM, UDP, of_client};
use crate::killing::{Killed, Log, an_idempotent_call_outlives_its_server, connect};
use crate::service::{EverywhereClient, until};

#[test]
fn an_idempotent_call_outlives_its_server_over_shared_memory() {
    an_idempotent_call_outlives_its_server(Channels(SHM));
}

#[test]
fn an_idempotent_call_outlives_its_server_over_udp() {
    an_idempotent_call_outlives_its_server(Channels(UDP));
}

#[test]
fn an_idempotent_call_outlives_its_server_over_the_simulator() {
    an_idempotent_call_outlives_its_server(Channels(SIM));
}

#[test]
fn an_idempotent_call_outlives_its_server_over_the_simulator_with_faults() {
    an_idempotent_call_outlives_its_server(Channels(LOSSY));
}

#[test]
fn an_idempotent_call_is_repeated_so_often_and_then_in_doubt() {
    let address = Channels(SHM).address();
    let log = Log::new(&address);
    let mut server = Killed::start::<Channels>(&address, &log, true);
    let mut options = of_client();
    options.retries = 2;
    // Ends what waits for a server that does not come back.
    options.connection.timers.patience = 1_000_000_000;
    drop(connect(Channels(SHM), &address));
    let remote = Remote::open(std::slice::from_ref(&address), options).expect("a session");
    let client = EverywhereClient::new(remote);
    std::thread::scope(|scope| {
        let (log, address) = (&log, &address);
        scope.spawn(move || {
            for times in 1..=3 {
                until("it begins", || log.times(7) == times);
                server.kill();
                server = Killed::start::<Channels>(address, log, true);
            }
        });
        let outcome = client.look(7);
        assert_eq!(outcome, Outcome::Unknown(UnknownReason::SessionLost));
    });
    assert_eq!(log.times(7), 3, "once, and twice again");
}
