//! tarpc over TCP, with bincode, as its own example has it.

use std::sync::mpsc::Sender;

use futures::StreamExt;
use tarpc::serde_transport::Transport;
use tarpc::server::{BaseChannel, Channel};
use tarpc::tokio_serde::formats::Bincode;
use tarpc::{client, context};
use tokio::net::{TcpListener, TcpStream};

use super::caller::{Call, Caller};
use super::{Listener, Serving, Way, answer, failed, runtime};
use crate::fault::{During, Fault};
use crate::measure::halves::RoundTrips;

#[tarpc::service]
trait Null {
    async fn call(word: u64) -> u64;
}

#[derive(Clone)]
struct Answers(Sender<()>);

impl Null for Answers {
    async fn call(self, _: context::Context, word: u64) -> u64 {
        answer(&self.0, word)
    }
}

/// Connects.
pub fn client(way: Way) -> Result<Box<dyn RoundTrips>, Fault> {
    let runtime = runtime()?;
    let stream = way.tcp()?;
    let client = {
        let _inside = runtime.enter();
        let stream = TcpStream::from_std(stream).during("connecting by tarpc")?;
        NullClient::new(client::Config::default(), Transport::from((stream, Bincode::default())))
            .spawn()
    };
    Ok(Box::new(Caller::new(runtime, client)))
}

impl Call for NullClient {
    async fn call(&mut self, word: u64) -> Result<u64, Fault> {
        let reply = NullClient::call(self, context::current(), word).await;
        reply.map_err(|error| failed("a call by tarpc", error))
    }
}

/// Serves in a runtime.
pub fn server(listener: Listener, finished: Sender<()>) -> Result<Serving, Fault> {
    const LISTENING: &str = "listening by tarpc";
    let runtime = runtime()?;
    let listener = listener.prepare().during(LISTENING)?.tcp()?;
    let listener = {
        let _inside = runtime.enter();
        TcpListener::from_std(listener).during(LISTENING)?
    };
    runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if stream.set_nodelay(true).is_err() {
                continue;
            }
            let transport = Transport::from((stream, Bincode::default()));
            let calls =
                BaseChannel::with_defaults(transport).execute(Answers(finished.clone()).serve());
            tokio::spawn(calls.for_each(|call| async move {
                tokio::spawn(call);
            }));
        }
    });
    Ok(Serving::Runtime(runtime))
}
