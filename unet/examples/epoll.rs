//! An endpoint in an event loop of one's own: epoll waits for messages and for standard input.
//!
//! Echoes to every client, reports each line that it is typed, and stops at the end of the input.
//!
//! ```sh
//! cargo run --release --example epoll -- shm:echo
//! ```

use std::error::Error;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use unet::{Endpoint, EndpointOptions, Event, ListenOptions, Offer};

const ENDPOINT: u64 = 0;
const INPUT: u64 = 1;

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).ok_or("say where to listen, as in shm:echo")?.parse()?;
    let mut endpoint = Endpoint::new(EndpointOptions::default())?;
    endpoint.listen(&address, ListenOptions::default())?;
    println!("listening at {address}");

    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, endpoint.as_fd(), EventData::new_u64(ENDPOINT), EventFlags::IN)?;
    epoll::add(&epoll, std::io::stdin(), EventData::new_u64(INPUT), EventFlags::IN)?;
    loop {
        // First take what is there; then say that this thread will wait; then wait.
        while let Some(event) = endpoint.try_recv() {
            echo(&mut endpoint, event);
        }
        if !endpoint.arm() {
            continue;
        }
        let mut space = [MaybeUninit::uninit(); 8];
        let (ready, _) = match epoll::wait(&epoll, &mut space, None) {
            Err(rustix::io::Errno::INTR) => continue,
            waited => waited?,
        };
        // What the endpoint has is taken at the top of the loop.
        if ready.iter().any(|event| event.data.u64() == INPUT) {
            let mut line = String::new();
            if std::io::stdin().read_line(&mut line)? == 0 {
                return Ok(());
            }
            println!("{} channels, and you typed {}", endpoint.channels(), line.trim_end());
        }
    }
}

fn echo(endpoint: &mut Endpoint, event: Event) {
    let done = match event {
        Event::Incoming(client) => {
            endpoint.accept(client, b"").map(drop).map_err(|e| e.to_string())
        }
        Event::Message(from, message) => match endpoint.channel_mut(from) {
            // Not `send`, which would wait for a client that does not read.
            Some(channel) => match message.to_vec().map(|bytes| channel.try_send(&bytes)) {
                Ok(Ok(Offer::Taken)) => Ok(()),
                Ok(Ok(Offer::Full(()))) => Err("no room for an echo".to_owned()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(error) => Err(error.to_string()),
            },
            None => Ok(()),
        },
        Event::Closed(..) => Ok(()),
        _ => Ok(()),
    };
    if let Err(error) = done {
        eprintln!("{error}");
    }
}
