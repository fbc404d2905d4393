//! The command line.

use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use kv::load::{MIN_VALUE, Mix};
use unet::{Address, Wait};

/// A key-value server over shared memory and networks, its client, and a load generator.
#[derive(Debug, Parser)]
#[command(name = "kv", version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  kv serve shm:kv                        a server, until Ctrl-C; then, in another terminal:
  kv put --at shm:kv colour green
  kv get --at shm:kv colour
  kv scan --at shm:kv --limit 10
  kv load --at shm:kv --mix B            what it bears; load --help has more
  kv serve shm:kv udp:0.0.0.0:9000       the same store, from other hosts too
  kv get --at udp:10.0.0.2:9000 colour

Addresses are shm:NAME, udp:HOST:PORT, xdp:IFACE[/QUEUE]@[HOST]:PORT and sim:NETWORK@HOST:PORT.";

const SERVE_EXAMPLES: &str = "\
Examples:
  kv serve shm:kv
  kv serve shm:kv --memory 64M --max-value 4M --wait spin
  kv serve udp:0.0.0.0:9000              whoever reaches the port is served: in trusted networks only

Everything is in memory, and is gone when the server ends.";

const PUT_EXAMPLES: &str = "\
Examples:
  kv put --at shm:kv colour green
  kv put --at shm:kv picture - < picture.png     the value from standard input";

const SCAN_EXAMPLES: &str = "\
Examples:
  kv scan --at shm:kv                    the first keys, with their values if they are short
  kv scan --at shm:kv user5 --limit 100  from user5 on";

const LOAD_EXAMPLES: &str = "\
Examples:
  kv load --at shm:kv --mix C --window 1              one read after another
  kv load --at shm:kv --mix A --value 4K --window 8   updates too, of long values
  kv load --at udp:10.0.0.2:9000 --window 64          over a network, many at once
  kv load --at shm:kv --mix B --rate 200000           200,000 a second, whatever becomes of them

The store is filled with all keys first. Keys are drawn by Zipf's law with an exponent of 0.99, as YCSB
draws them. With --rate operations are due at moments that were drawn beforehand, and a latency counts
from that moment; without, the next is begun when one has ended.";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serves an empty store.
    #[command(after_help = SERVE_EXAMPLES)]
    Serve {
        /// Where, as in shm:NAME or udp:HOST:PORT.
        #[arg(value_name = "URI", required = true)]
        addresses: Vec<Address>,
        /// Bytes of memory for keys and values.
        #[arg(long, value_name = "BYTES", default_value = "1G", value_parser = size)]
        memory: usize,
        /// The largest value in bytes.
        #[arg(long, value_name = "BYTES", default_value = "1M", value_parser = size)]
        max_value: usize,
        /// How to wait for calls.
        #[arg(long, default_value = "adaptive")]
        wait: Waiting,
        /// Serve shm: too by the protocol of channels, in place of LRPC.
        #[arg(long)]
        channels: bool,
    },
    #[command(flatten)]
    Client(Client),
}

/// What a client does.
#[derive(Debug, Subcommand)]
pub enum Client {
    /// Writes a value to standard output.
    Get {
        #[command(flatten)]
        at: At,
        /// The key.
        key: String,
    },
    /// Puts a value.
    #[command(after_help = PUT_EXAMPLES)]
    Put {
        #[command(flatten)]
        at: At,
        /// The key.
        key: String,
        /// The value; - reads it from standard input.
        #[arg(allow_hyphen_values = true)]
        value: String,
    },
    /// Takes a key away.
    Delete {
        #[command(flatten)]
        at: At,
        /// The key.
        key: String,
    },
    /// Lists keys in their order.
    #[command(after_help = SCAN_EXAMPLES)]
    Scan {
        #[command(flatten)]
        at: At,
        /// The key to begin at.
        #[arg(default_value = "")]
        from: String,
        /// How many at most.
        #[arg(long, value_name = "N", default_value = "20")]
        #[arg(value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Says what is in the store.
    Usage {
        #[command(flatten)]
        at: At,
    },
    /// Offers a load, and measures.
    #[command(after_help = LOAD_EXAMPLES)]
    Load(Load),
}

impl Client {
    /// Which server is meant.
    pub fn at(&self) -> &At {
        match self {
            Self::Get { at, .. }
            | Self::Put { at, .. }
            | Self::Delete { at, .. }
            | Self::Scan { at, .. }
            | Self::Usage { at }
            | Self::Load(Load { at, .. }) => at,
        }
    }

    /// How many calls it has under way.
    pub fn window(&self) -> u16 {
        match self {
            Self::Load(load) => load.window,
            _ => 1,
        }
    }
}

/// Which server.
#[derive(Debug, Args)]
pub struct At {
    /// The server's address, as in shm:NAME or udp:HOST:PORT.
    #[arg(long = "at", value_name = "URI")]
    pub address: Address,
}

/// The load.
#[derive(Debug, Args)]
pub struct Load {
    #[command(flatten)]
    pub at: At,
    /// A: half of the operations are updates; B: 5 %; C: none.
    #[arg(long, default_value = "B", ignore_case = true)]
    pub mix: Mix,
    /// How many keys.
    #[arg(long, value_name = "N", default_value = "100000")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub keys: u32,
    /// Bytes of each value.
    #[arg(long, value_name = "BYTES", default_value = "100", value_parser = value_size)]
    pub value: usize,
    /// How many operations may be under way at once; over LRPC eight of each kind are.
    #[arg(long, value_name = "N", default_value = "8")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=64))]
    pub window: u16,
    /// Operations a second, as an open loop [default: a closed loop].
    #[arg(long, value_name = "N", value_parser = rate)]
    pub rate: Option<f64>,
    /// How long.
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    pub duration: Duration,
    /// What the operations are drawn from.
    #[arg(long, value_name = "N", default_value = "1")]
    pub seed: u64,
}

/// How a server waits.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Waiting {
    /// Polls: takes a core.
    Spin,
    /// Polls for a while, then sleeps.
    Adaptive,
    /// Sleeps at once.
    Park,
}

impl From<Waiting> for Wait {
    fn from(waiting: Waiting) -> Self {
        match waiting {
            Waiting::Spin => Self::Spin,
            Waiting::Adaptive => Self::Adaptive,
            Waiting::Park => Self::Park,
        }
    }
}

fn size(text: &str) -> Result<usize, String> {
    let (digits, factor) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 1 << 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 1 << 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    let bytes = digits.parse::<usize>().ok().and_then(|number| number.checked_mul(factor));
    bytes.ok_or_else(|| "give bytes, as 100, 4K, 1M or 1G".into())
}

fn value_size(text: &str) -> Result<usize, String> {
    match size(text)? {
        bytes if (MIN_VALUE..=4 << 20).contains(&bytes) => Ok(bytes),
        _ => Err(format!("give a size from {MIN_VALUE} to 4M")),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (1.0..=1e9).contains(&rate) => Ok(rate),
        _ => Err("give operations a second, from 1 to 1000000000".into()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.01..=3600.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("give seconds, from 0.01 to 3600".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn numbers_have_units_and_bounds() {
        assert_eq!((size("100"), size("4k"), size("1G")), (Ok(100), Ok(4096), Ok(1 << 30)));
        for text in ["", "K", "-1", "1.5M", "99999999999G"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert!(value_size("7").is_err() && value_size("5M").is_err() && value_size("8").is_ok());
        assert!(rate("0").is_err() && rate("NaN").is_err() && rate("1000") == Ok(1000.0));
        assert!(seconds("0").is_err() && seconds("0.5") == Ok(Duration::from_millis(500)));
    }
}
