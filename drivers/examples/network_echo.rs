//! A message and its echo over whatever the address says: this host, or a network.
//!
//! ```sh
//! cargo run --release --example network_echo -p drivers -- serve udp:127.0.0.1:9000
//! cargo run --release --example network_echo -p drivers -- call udp:127.0.0.1:9000
//! ```
//!
//! With `shm:echo` in place of the address the same program speaks through shared memory.

use std::error::Error;
use std::time::{Duration, Instant};

use unet::{
    Address, Arrival, Channel, ConnectOptions, Delivery, Endpoint, EndpointOptions, Event,
    ListenOptions, NetworkOptions, Wait,
};

const ROUNDS: u32 = 100_000;
/// A message may be lost: then it is sent again.
const PATIENCE: Duration = Duration::from_millis(100);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let network = NetworkOptions { drivers: drivers::linked(), ..NetworkOptions::default() };
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", address] => serve(&address.parse()?, network),
        ["call", address] => call(&address.parse()?, network),
        _ => Err("say `serve ADDRESS` or `call ADDRESS`, as udp:127.0.0.1:9000".into()),
    }
}

fn serve(address: &Address, network: NetworkOptions) -> Result<(), Box<dyn Error>> {
    let mut endpoint = Endpoint::new(EndpointOptions::default())?;
    endpoint.listen(address, ListenOptions { network, ..ListenOptions::default() })?;
    let mut message = Delivery::default();
    let mut bytes = Vec::new();
    loop {
        match endpoint.recv_into(&mut message) {
            Arrival::Message(from) => {
                bytes.clear();
                bytes.extend_from_slice(message.inline());
                bytes.resize(message.len(), 0);
                message.message().peek(0, &mut bytes[message.inline().len()..])?;
                let Some(channel) = endpoint.channel_mut(from) else { continue };
                // Whoever does not read is no reason to wait.
                _ = channel.try_send(&bytes);
            }
            Arrival::Other => match endpoint.take_event() {
                Some(Event::Incoming(incoming)) => {
                    println!("{:?} connects", incoming.address());
                    _ = endpoint.accept(incoming, b"");
                }
                Some(Event::Closed(_, reason)) => println!("a channel ended: {reason}"),
                _ => {}
            },
        }
    }
}

fn call(address: &Address, network: NetworkOptions) -> Result<(), Box<dyn Error>> {
    let mut options = ConnectOptions { network, ..ConnectOptions::default() };
    options.channel.wait = Wait::Spin;
    let mut channel = Channel::connect(address, options)?;
    let begin = Instant::now();
    for round in 0..ROUNDS {
        let mut bytes = [0; 64];
        bytes[..4].copy_from_slice(&round.to_le_bytes());
        loop {
            channel.send(&bytes)?;
            match channel.recv_timeout(PATIENCE)? {
                Some(echo) if echo.to_vec()? == bytes => break,
                // An earlier one that came late, or nothing.
                _ => {}
            }
        }
    }
    println!("{:?} a round trip of 64 bytes", begin.elapsed() / ROUNDS);
    Ok(())
}
