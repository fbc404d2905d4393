//! An endpoint in an async runtime: a task of tokio's waits for its descriptor.
//!
//! Echoes to every client, and stops when the last one has left.
//!
//! ```sh
//! cargo run --release --example tokio -- shm:echo
//! ```

use std::error::Error;
use std::os::fd::{AsFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use unet::{Address, Endpoint, EndpointOptions, Event, ListenOptions};

/// An endpoint whose descriptor the runtime watches.
struct AsyncEndpoint {
    endpoint: Endpoint,
    readable: AsyncFd<OwnedFd>,
}

impl AsyncEndpoint {
    // tokio would rather have its `unsafe` constructor called, since a type may lie about its
    // descriptor; `OwnedFd` does not.
    #[allow(deprecated)]
    fn new(endpoint: Endpoint) -> std::io::Result<Self> {
        let descriptor = endpoint.as_fd().try_clone_to_owned()?;
        let readable = AsyncFd::with_interest(descriptor, Interest::READABLE)?;
        Ok(Self { endpoint, readable })
    }

    /// The next event. Dropping the future loses nothing.
    async fn recv(&mut self) -> std::io::Result<Event> {
        loop {
            if let Some(event) = self.endpoint.try_recv() {
                return Ok(event);
            }
            // From here on, whoever sends makes the descriptor readable.
            if self.endpoint.arm() {
                self.readable.readable().await?.clear_ready();
            }
        }
    }
}

async fn serve(address: Address) -> Result<(), Box<dyn Error>> {
    let mut endpoint = Endpoint::new(EndpointOptions::default())?;
    endpoint.listen(&address, ListenOptions::default())?;
    let mut endpoint = AsyncEndpoint::new(endpoint)?;
    println!("listening at {address}");
    loop {
        match endpoint.recv().await? {
            Event::Incoming(client) => {
                if let Err(error) = endpoint.endpoint.accept(client, b"") {
                    eprintln!("a client was not accepted: {error}");
                }
            }
            Event::Message(from, message) => {
                let Some(channel) = endpoint.endpoint.channel_mut(from) else { continue };
                // Not `send`, which would wait for room and stop all tasks of this thread.
                let Ok(bytes) = message.to_vec() else {
                    eprintln!("the client took its message back");
                    continue;
                };
                match channel.try_send(&bytes) {
                    Ok(unet::Offer::Taken) => {}
                    Ok(unet::Offer::Full(())) => eprintln!("no room for an echo"),
                    Err(error) => eprintln!("no echo: {error}"),
                }
            }
            Event::Closed(..) if endpoint.endpoint.channels() == 0 => return Ok(()),
            Event::Closed(..) => {}
            _ => {}
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).ok_or("say where to listen, as in shm:echo")?.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(serve(address))
}
