//! Makes one kind of operation many times, both sides in one thread, for a tool that counts the
//! instructions: `cargo xtask bench --instructions` runs it under callgrind, twice, and divides the
//! difference by the operations that one run has more than the other.

use std::error::Error;
use std::process::ExitCode;

use lrpc::{BindOptions, Binding, ExportOptions, Server};
use unet::{
    Address, Channel, ChannelId, ConnectOptions, Endpoint, EndpointOptions, Event, ListenOptions,
    Message, Offer, Wait,
};

type Done = Result<(), Box<dyn Error>>;

lrpc::interface! {
    /// What is called here.
    Calls = "instructions", version 1 {
        /// Does nothing.
        Null(()) -> ();
        /// Gives four words back.
        Words([u64; 4]) -> [u64; 4];
    }
}

/// So many that sending alone needs nobody who receives.
const SLOTS: u32 = 65_536;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let count = arguments.get(1).and_then(|count| count.parse().ok());
    let (Some(what), Some(count)) = (arguments.first(), count) else {
        eprintln!("say what, and how often: `instructions null-call 1000`");
        return ExitCode::FAILURE;
    };
    let done = match what.as_str() {
        "send" => send(count),
        "message" => message(count),
        "hand-off" => hand_off(count),
        "null-call" => null_call(count),
        "call-32" => call_32(count),
        _ => Err("there are send, message, hand-off, null-call and call-32".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn address() -> Result<Address, Box<dyn Error>> {
    Ok(format!("shm:instructions-{}", std::process::id()).parse()?)
}

/// A connected pair, the receiving side in an endpoint.
fn join() -> Result<(Endpoint, ChannelId, Channel), Box<dyn Error>> {
    let address = address()?;
    let options = EndpointOptions { wait: Wait::Spin, ..EndpointOptions::default() };
    let mut endpoint = Endpoint::new(options)?;
    endpoint.listen(&address, ListenOptions::default())?;
    let mut options = ConnectOptions::default();
    options.channel.wait = Wait::Spin;
    options.channel.geometry.slots = SLOTS;
    let client = std::thread::spawn(move || Channel::connect(&address, options));
    let Event::Incoming(incoming) = endpoint.recv() else { return Err("nobody came".into()) };
    let id = endpoint.accept(incoming, b"")?;
    let channel = client.join().map_err(|_| "the connecting thread panicked")??;
    Ok((endpoint, id, channel))
}

/// Eight bytes sent.
fn send(count: u32) -> Done {
    let (_endpoint, _, mut channel) = join()?;
    for number in 0..u64::from(count.min(SLOTS)) {
        if channel.try_send(&number.to_ne_bytes())? != Offer::Taken {
            return Err("the queue is full".into());
        }
    }
    Ok(())
}

/// Eight bytes sent, and received by an endpoint.
fn message(count: u32) -> Done {
    let (mut endpoint, _, mut channel) = join()?;
    let mut message = Message::default();
    for number in 0..u64::from(count) {
        if channel.try_send(&number.to_ne_bytes())? != Offer::Taken {
            return Err("the queue is full".into());
        }
        endpoint.recv_into(&mut message);
        if message.inline() != number.to_ne_bytes() {
            return Err("another message came".into());
        }
    }
    Ok(())
}

/// A buffer taken, handed over, received, given back and taken back.
fn hand_off(count: u32) -> Done {
    let (mut endpoint, _, mut channel) = join()?;
    let mut message = Message::default();
    for number in 0..u64::from(count) {
        let fbuf = channel.alloc(4096)?.freeze();
        if !matches!(channel.try_send_fbuf(0, fbuf, &number.to_ne_bytes())?, Offer::Taken) {
            return Err("the queue is full".into());
        }
        endpoint.recv_into(&mut message);
        if message.take_fbuf().is_none() {
            return Err("a message without a buffer came".into());
        }
    }
    Ok(())
}

/// A server and a binding to it.
fn export() -> Result<(Server<Calls>, Binding<Calls>), Box<dyn Error>> {
    let address = address()?;
    let options = ExportOptions { wait: Wait::Spin, ..ExportOptions::default() };
    let server = Server::<Calls>::export(&address, options)?
        .on::<Null>(|_, ()| Ok(()))
        .on::<Words>(|_, words| Ok(words));
    let options = BindOptions { wait: Wait::Spin, ..BindOptions::default() };
    let client = std::thread::spawn(move || Binding::<Calls>::bind(&address, options));
    server.serve_until(|| client.is_finished());
    Ok((server, client.join().map_err(|_| "the binding thread panicked")??))
}

/// A call of nothing, with its reply.
fn null_call(count: u32) -> Done {
    let (server, binding) = export()?;
    for _ in 0..count {
        binding.call_serving::<Null, _>(&(), &server).executed()?;
    }
    Ok(())
}

/// A call with 32 bytes in and out.
fn call_32(count: u32) -> Done {
    let (server, binding) = export()?;
    for number in 0..u64::from(count) {
        let words = [number; 4];
        if binding.call_serving::<Words, _>(&words, &server).executed()? != words {
            return Err("another result came".into());
        }
    }
    Ok(())
}
