//! A server that sends every message back, and a client of it.
//!
//! ```sh
//! cargo run --release --example echo -- serve shm:echo
//! cargo run --release --example echo -- ask shm:echo hello there
//! ```

use std::error::Error;
use std::time::Instant;

use unet::{
    Address, Channel, ConnectOptions, Endpoint, EndpointOptions, Event, ListenOptions, Offer,
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", address] => serve(&address.parse()?),
        ["ask", address, ref words @ ..] if !words.is_empty() => ask(&address.parse()?, words),
        _ => Err("say `serve shm:NAME`, or `ask shm:NAME WORD...`".into()),
    }
}

fn serve(address: &Address) -> Result<(), Box<dyn Error>> {
    let mut endpoint = Endpoint::new(EndpointOptions::default())?;
    endpoint.listen(address, ListenOptions::default())?;
    println!("listening at {address}");
    loop {
        match endpoint.recv() {
            Event::Incoming(client) => {
                let who = client.credentials();
                match endpoint.accept(client, b"") {
                    Ok(_) => println!("process {} of user {} is here", who.pid, who.uid),
                    Err(error) => eprintln!("process {} was not accepted: {error}", who.pid),
                }
            }
            Event::Message(from, message) => {
                let Some(channel) = endpoint.channel_mut(from) else { continue };
                // Up to 56 bytes came with the message; more came in a buffer, which is copied out.
                // Not `send`, which would wait for a client that does not read, and keep the others
                // waiting.
                let sent = if message.fbuf().is_none() {
                    channel.try_send(message.inline())
                } else if let Ok(bytes) = message.to_vec() {
                    channel.try_send(&bytes)
                } else {
                    eprintln!("the client took its message back");
                    continue;
                };
                match sent {
                    Ok(Offer::Taken) => {}
                    Ok(Offer::Full(())) => eprintln!("no room for an echo"),
                    Err(error) => eprintln!("no echo: {error}"),
                }
            }
            Event::Closed(_, why) => println!("a client has left: {why}"),
            _ => {}
        }
    }
}

fn ask(address: &Address, words: &[&str]) -> Result<(), Box<dyn Error>> {
    let mut channel = Channel::connect(address, ConnectOptions::default())?;
    for word in words {
        let start = Instant::now();
        channel.send(word.as_bytes())?;
        let echo = channel.recv()?.to_vec()?;
        println!("{} ({:?})", String::from_utf8_lossy(&echo), start.elapsed());
    }
    Ok(())
}
