//! Awaited calls, with the event loop of the book's chapter.

mod support;

use std::time::Duration;

use rpc_fastpath::service::{BindOptions, Call, Outcome, Reason, Server, UnknownReason, service};
use support::{address, bind_options, server_options};
use tokio::io::{Interest, unix::AsyncFd};
use unet::Wait;

#[service(name = "patience", version = 1)]
trait Patience {
    fn double(&self, number: u64) -> u64;
    /// Takes so long.
    #[slow]
    fn sleep(&self, millis: u64);
    /// Waits in a worker for the service at that address, which sleeps so long; the time that the
    /// worker's core has worked meanwhile, in milliseconds.
    #[slow]
    fn pass_on(&self, call: &Call<'_>, to: &str, millis: u64) -> u64;
}

struct Handler;

impl Patience for Handler {
    fn double(&self, number: u64) -> u64 {
        number * 2
    }

    fn sleep(&self, millis: u64) {
        std::thread::sleep(Duration::from_millis(millis));
    }

    fn pass_on(&self, call: &Call<'_>, to: &str, millis: u64) -> u64 {
        let options = BindOptions { wait: Wait::Adaptive, ..bind_options() };
        let next = PatienceClient::bind(&to.parse().expect("an address"), options).expect("bound");
        let worked = || {
            let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
            time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000
        };
        let before = worked();
        assert_eq!(next.serving(call).sleep(millis), Outcome::Executed(()));
        worked() - before
    }
}

fn export(address: &unet::Address) -> Server<PatienceService> {
    let options = rpc_fastpath::service::ServerOptions { workers: 2, ..server_options() };
    Server::export(address, Handler, options).expect("the name is free")
}

/// Runs `with` beside the task that takes the replies.
fn driven<T>(client: &PatienceClient, with: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let binding = client.caller().binding();
        let fd =
            binding.with_fd(|fd| fd.try_clone_to_owned()).expect("it has one").expect("cloned");
        // tokio would rather have its `unsafe` constructor called, since a type may lie about its
        // descriptor; `OwnedFd` does not.
        #[allow(deprecated)]
        let readiness = AsyncFd::with_interest(fd, Interest::READABLE).expect("registered");
        let driver = async {
            loop {
                while binding.progress() {}
                if binding.closed().is_some() {
                    break std::future::pending().await;
                }
                if binding.arm() {
                    readiness.readable().await.expect("the runtime runs").clear_ready();
                }
            }
        };
        let limited = tokio::time::timeout(Duration::from_secs(20), with);
        tokio::select! {
            done = limited => done.expect("it does not end"),
            never = driver => never,
        }
    })
}

#[test]
fn calls_are_awaited_while_others_are_waited_for() {
    let address = address("awaited");
    let _running = export(&address).spawn();
    let client = PatienceClient::bind(&address, bind_options()).expect("bound");
    driven(&client, async {
        for round in 0..20 {
            let (slow, quick) = (client.start_sleep(5), client.start_double(round));
            let (slow, quick) = (slow.expect("sent"), quick.expect("sent"));
            assert_eq!(quick.await, Outcome::Executed(round * 2));
            // The task that takes the replies waits for the bell meanwhile.
            assert_eq!(client.double(1), Outcome::Executed(2));
            assert_eq!(client.sleep(1), Outcome::Executed(()));
            assert_eq!(slow.await, Outcome::Executed(()));
        }
    });
}

/// What runs is finished; what has not begun is refused, if the server comes to say so.
fn assert_ended(outcome: Outcome<()>) {
    let ended = matches!(
        outcome,
        Outcome::Executed(())
            | Outcome::Refused(Reason::Stopping)
            | Outcome::Unknown(UnknownReason::Closed(_))
    );
    assert!(ended, "{outcome:?}");
}

#[test]
fn what_is_awaited_ends_with_the_server() {
    let address = address("awaited-end");
    let running = export(&address).spawn();
    let client = PatienceClient::bind(&address, bind_options()).expect("bound");
    driven(&client, async {
        let (one, two) = (client.start_sleep(300), client.start_sleep(300));
        let (one, two) = (one.expect("sent"), two.expect("sent"));
        let end = std::thread::spawn(|| drop(running));
        assert_ended(one.await);
        assert_ended(two.await);
        // The runtime goes on, and calls are refused.
        tokio::time::sleep(Duration::from_millis(50)).await;
        end.join().expect("it ended");
        while !matches!(client.start_double(1), Err(Reason::Closed(_))) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn a_worker_that_waits_for_another_service_sleeps() {
    let (near, far) = (address("worker-near"), address("worker-far"));
    let _running = [export(&near).spawn(), export(&far).spawn()];
    let client = PatienceClient::bind(&near, bind_options()).expect("bound");
    let worked = client.pass_on(&far.to_string(), 500).executed().expect("executed");
    assert!(worked < 100, "{worked} ms of 500");
}
