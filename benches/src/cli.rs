//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use unet::{Address, NetworkAddress};

use crate::cpus::Asked;
use crate::kv;
use crate::network::address::{self, Device, Transport};
use crate::network::netns;
use crate::task::{Carries, MAX_FLOWS, MAX_PAYLOAD, MAX_WINDOW, Wait};

mod examples;

use examples::{
    BANDWIDTH_EXAMPLES, BESIDE_EXAMPLES, EXAMPLES, FBUF_EXAMPLES, KV_EXAMPLES, NETWORK_EXAMPLES,
    RATE_EXAMPLES, SERVE_EXAMPLES, SWEEP_EXAMPLES,
};

/// Measures what a null RPC, a round trip and a stream of messages cost between two processes on
/// this machine, beside the machine's own floor and the kernel's mechanisms.
///
/// Without a command it measures the limits, null-rpc and rtt, in half a minute.
#[derive(Debug, Parser)]
#[command(name = "unet-bench", version, after_help = EXAMPLES, args_conflicts_with_subcommands = false)]
pub struct Cli {
    /// What to measure; without one: limits, null-rpc and rtt.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Everything else.
    #[command(flatten)]
    pub options: Options,
}

/// What to measure.
#[derive(Clone, Debug, PartialEq, Subcommand)]
pub enum Command {
    /// The machine's floors: cache line, yield, eventfd, system call, memcpy.
    Limits,
    /// A call that does nothing; for the kernel's systems the nearest thing, an 8-byte echo.
    NullRpc,
    /// A message and its echo, by size.
    #[command(after_help = NETWORK_EXAMPLES)]
    Rtt,
    /// Messages one way.
    #[command(after_help = [RATE_EXAMPLES, NETWORK_EXAMPLES].concat())]
    Rate {
        /// Calls under way at once, one run each, where messages are calls [default: 1,8,64].
        #[arg(long, value_name = "N", value_delimiter = ',', value_parser = calls())]
        window: Vec<u64>,
        /// How many of them are begun together, one run each; no more than are under way
        /// [default: 1,8].
        #[arg(long, value_name = "N", value_delimiter = ',', value_parser = calls())]
        batch: Vec<u64>,
    },
    /// Bytes one way, from private memory to private memory.
    #[command(after_help = [BANDWIDTH_EXAMPLES, NETWORK_EXAMPLES].concat())]
    Bandwidth {
        /// Calls under way at once, one run each, where bytes travel in calls [default: 1].
        #[arg(long, value_name = "N", value_delimiter = ',', value_parser = calls())]
        window: Vec<u64>,
        /// Which part of a call has the bytes, one run each [default: request,response].
        #[arg(long, value_name = "PART", value_delimiter = ',')]
        carries: Vec<Carries>,
        /// Leave what comes in replies where it came: only both ends of it are read.
        #[arg(long)]
        in_place: bool,
    },
    /// Latency, loss and goodput across a network or of calls, by the load that is offered.
    #[command(after_help = SWEEP_EXAMPLES)]
    Sweep {
        /// The least load, in percent of the capacity.
        #[arg(long, value_name = "SHARE", default_value = "5%", value_parser = percent)]
        from: f64,
        /// The greatest.
        #[arg(long, value_name = "SHARE", default_value = "150%", value_parser = percent)]
        up_to: f64,
        /// Calls in the network at once; others wait at the client, as many as its backlog holds.
        #[arg(long, value_name = "N", default_value = "8", value_parser = calls())]
        window: u64,
    },
    /// A null call beside bulk flows of other clients over the same link, here or across a network.
    #[command(after_help = BESIDE_EXAMPLES)]
    Beside {
        /// How many bulk flows, one run each.
        #[arg(long, value_name = "N", value_delimiter = ',', default_value = "0,2")]
        #[arg(value_parser = clap::value_parser!(u64).range(0..=MAX_FLOWS as u64))]
        flows: Vec<u64>,
        /// Calls that each flow has under way.
        #[arg(long, value_name = "N", default_value = "1", value_parser = calls())]
        window: u64,
        /// Which part of a flow's calls has the bytes, one run each.
        #[arg(
            long,
            value_name = "PART",
            value_delimiter = ',',
            default_value = "request,response"
        )]
        carries: Vec<Carries>,
    },
    /// Answers measurements from another host, until Ctrl-C.
    #[command(after_help = SERVE_EXAMPLES)]
    Serve {
        /// Where to listen, as in udp:HOST:PORT: U-Net at the address, the control connection at the
        /// same port of TCP.
        #[arg(value_name = "URI", value_parser = address::network)]
        uri: NetworkAddress,
        /// How long to serve.
        #[arg(long = "for", value_name = "TIME", value_parser = duration)]
        time: Option<Duration>,
        /// Ends when standard input closes, over which the port is told.
        #[arg(long, hide = true)]
        leashed: bool,
    },
    /// A null call beside idle bindings to the same server thread.
    Scale {
        /// How many further idle bindings, one run each.
        #[arg(long, value_name = "N", value_delimiter = ',', default_value = "0,1,15,63,255")]
        #[arg(value_parser = clap::value_parser!(u64).range(0..=4096))]
        bindings: Vec<u64>,
    },
    /// Buffers between protection domains, and layers: what one hop costs, by size.
    #[command(after_help = FBUF_EXAMPLES)]
    Fbuf {
        /// How many domains a message visits, one run each, where a system has the choice.
        #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,2,3,4")]
        #[arg(value_parser = clap::value_parser!(u64).range(1..=4))]
        domains: Vec<u64>,
    },
    /// Key-value stores under YCSB's mixes: the example's over shared memory, beside Redis.
    #[command(after_help = KV_EXAMPLES)]
    Kv(kv::Asked),
    /// A key-value server; started by the client, and ended when standard input closes.
    #[command(hide = true)]
    KvServer {
        /// Where it serves.
        address: Address,
        /// Serves by channels, in place of LRPC.
        #[arg(long)]
        channels: bool,
    },
    /// Lists the systems in this build.
    Systems,
    /// The server process; started by the client, over a control socket on standard input.
    #[command(hide = true)]
    ServerProcess {
        /// The core to run on.
        cpu: usize,
        /// Where a client from a network meets it.
        #[arg(long, value_parser = address::network)]
        at: Option<NetworkAddress>,
    },
    /// An agent between the ends; started by the client, over a control socket on standard input.
    #[command(hide = true)]
    AgentProcess {
        /// The core to run on.
        cpu: usize,
        /// The name at which it is asked.
        name: String,
        /// The device that it lends, as a policy names it.
        device: String,
    },
}

/// How the result is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people, in a terminal.
    Table,
    /// For machines: one object with the host and the records.
    Json,
    /// A page with plots.
    Html,
}

/// The options, which every command takes.
#[derive(Debug, Args)]
pub struct Options {
    /// Systems to measure; `unet-bench systems` lists them [default: all].
    #[arg(long, global = true, value_name = "S", value_delimiter = ',')]
    pub system: Vec<String>,
    /// The way between the two processes: shm:, or a network, as in udp:127.0.0.1:9000, at whose
    /// address the server is started, or dpdk:net_memif, whose ends the benchmark makes.
    #[arg(long, global = true, value_name = "URI", default_value = "shm:")]
    #[arg(value_parser = address::transport)]
    pub transport: Transport,
    /// The client's own device for --transport, which names the server's: as lab-a0 or lab-a0/1, with
    /// options of its own behind ? [default: the one of the same name].
    #[arg(long, global = true, value_name = "DEVICE", conflicts_with = "to")]
    #[arg(value_parser = address::device)]
    pub client_device: Option<Device>,
    /// The address of a server that `unet-bench serve` runs.
    #[arg(long, global = true, value_name = "URI", conflicts_with = "transport")]
    #[arg(value_parser = address::network)]
    pub to: Option<NetworkAddress>,
    /// The client's and the server's network namespace; with --to the client's, with serve the
    /// server's alone; - is this one.
    #[arg(long, global = true, value_name = "C,S", value_delimiter = ',', value_parser = netns::name)]
    #[arg(allow_hyphen_values = true)]
    pub netns: Vec<String>,
    /// Message sizes in bytes, as 8, 4K or 1M [default: by command].
    #[arg(long, global = true, value_name = "N", value_delimiter = ',', value_parser = size)]
    pub size: Vec<usize>,
    /// How both sides wait [default: spin; adaptive when they share a core].
    #[arg(long, global = true, value_delimiter = ',')]
    pub wait: Vec<Wait>,
    /// The client's and the server's core [default: the first two usable].
    #[arg(long, global = true, value_name = "C,S")]
    pub cpus: Option<Asked>,
    /// Time for each measurement, as 500ms or 2s [default: 2s; less without a command].
    #[arg(long, global = true, value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,
    /// How the result is shown.
    #[arg(long, global = true, default_value = "table")]
    pub format: Format,
    /// The file to write the result to [default: standard output].
    #[arg(long, global = true, value_name = "F")]
    pub out: Option<PathBuf>,
}

fn calls() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..=MAX_WINDOW as u64)
}

fn percent(text: &str) -> Result<f64, String> {
    match text.strip_suffix('%').unwrap_or(text).parse::<f64>() {
        Ok(share) if (1.0..=1000.0).contains(&share) => Ok(share),
        _ => Err("give a share of the capacity between 1% and 1000%, as 20%".into()),
    }
}

fn size(text: &str) -> Result<usize, String> {
    let upper = text.trim().to_ascii_uppercase();
    let digits = upper.trim_end_matches("IB").trim_end_matches(['K', 'M']);
    let factor = match &upper[digits.len()..] {
        "" => 1,
        "K" | "KIB" => 1 << 10,
        "M" | "MIB" => 1 << 20,
        _ => 0,
    };
    match digits.parse::<usize>().ok().and_then(|number| number.checked_mul(factor)) {
        Some(bytes) if factor > 0 && bytes <= MAX_PAYLOAD => Ok(bytes),
        Some(_) if factor > 0 => Err("a message holds at most 64M".into()),
        _ => Err("give bytes, as 8, 4K or 1M".into()),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "ms" => 1e-3,
        "s" | "" => 1.0,
        "m" | "min" => 60.0,
        _ => f64::NAN,
    };
    let seconds = digits.parse::<f64>().unwrap_or(f64::NAN) * factor;
    match seconds {
        s if (0.01..=600.0).contains(&s) => Ok(Duration::from_secs_f64(s)),
        s if s.is_nan() => Err("give a time, as 500ms or 2s".into()),
        _ => Err("give a time between 10ms and 10m".into()),
    }
}

/// Puts an error of the command line into one sentence.
pub fn sentence(error: &clap::Error) -> String {
    let text = error.to_string();
    let lines: Vec<_> = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
        .filter(|line| !line.is_empty())
        .collect();
    let joined = lines.join("; ");
    let words = joined.strip_prefix("error: ").unwrap_or(&joined);
    format!("{words} (`unet-bench --help` explains)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_bytes_or_binary_multiples() {
        assert_eq!(size("8"), Ok(8));
        assert_eq!(size("4k"), Ok(4096));
        assert_eq!(size("1MiB"), Ok(1 << 20));
        for text in ["", "x", "8G", "65M", "-1", "1.5K", "8B"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_have_a_unit_and_bounds() {
        assert_eq!(duration("50ms"), Ok(Duration::from_millis(50)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        for text in ["", "ms", "2h", "0s", "11m", "-1s", "1e9s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn shares_are_percent() {
        assert_eq!(percent("20%"), Ok(20.0));
        assert_eq!(percent("150"), Ok(150.0));
        for text in ["", "%", "0%", "-5%", "2000%", "NaN"] {
            assert!(percent(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
