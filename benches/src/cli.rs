//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use unet::{Address, NetworkAddress};

use crate::cpus::Asked;
use crate::kv;
use crate::network::address::{self, Transport};
use crate::network::netns;
use crate::task::{Carries, MAX_PAYLOAD, MAX_WINDOW, Wait};

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

const EXAMPLES: &str = "\
Examples:
  unet-bench                                    the machine's limits, null RPCs and round trips
  unet-bench rtt --system unet,uds --size 8,64K two systems, two sizes
  unet-bench null-rpc --wait park --cpus 0,0    both sides sleep, on one core
  unet-bench rate --format json > rate.json     for machines
  unet-bench bandwidth --format html --out bandwidth.html
  unet-bench fbuf --size 4K,1M                  buffers handed over; fbuf --help has more
  unet-bench rate --system rpc --window 1,64    calls, several under way; rate --help has more
  unet-bench kv                                 a key-value server beside Redis
  unet-bench systems                            what --system can be
  unet-bench serve udp:10.0.0.2:9000            on one host, and on the other:
  unet-bench rtt --to udp:10.0.0.2:9000         round trips across a network; rtt --help has more

Times are of the whole round trip. Every figure stands beside the floor, which is measured around
the same run: the fastest mean round trip of a bare cache line between the two cores.";

const FBUF_EXAMPLES: &str = "\
Examples:
  unet-bench fbuf                                      everything: a minute or two
  unet-bench fbuf --system unet,fbuf/volatile --domains 2
                                                       the hand-off by size, beside half a round trip
  unet-bench fbuf --system fbuf/read --domains 3 --size 1M
                                                       a pipeline whose last domain reads, against
                                                       one core that reads memory of its own
  unet-bench fbuf --system fbuf/secured --size 4K,1M   copied out of the originator's reach
  unet-bench fbuf --system copy --size 64K,1M          pipes, vmsplice and a ring of copies
  unet-bench fbuf --system layers                      what a layer of the protocol graph costs

All times are of one hop: from one domain to the next. Two domains spin on a core each. Of three or
four the first half shares one core and the rest the other, so they cannot spin: they yield, and a
hop holds a switch of processes where it stays on a core.";

const NETWORK_EXAMPLES: &str = "\
Examples across a network:
  unet-bench serve udp:10.0.0.2:9000             on the server's host, until Ctrl-C; then, on another:
  unet-bench rtt --to udp:10.0.0.2:9000          all systems, against that one server
  unet-bench rate --to xdp:eth0@10.0.0.2:9000 --system unet,udp
  unet-bench bandwidth --to udp:10.0.0.2:9000 --system tcp/spin --size 64K

Both ends on one host, in two network namespaces; the server is started and ended:
  unet-bench rtt --transport udp:10.9.0.2:9000 --netns lab-a,lab-b
  unet-bench rtt --transport udp:127.0.0.1:9000  over the loopback device
  unet-bench rtt --transport 'xdp:lab-b0@10.77.0.2:9000?mode=generic' --client-device lab-a0 \
      --netns lab-a,lab-b                        the address has the server's interface

With --to the address has this host's interface; the server's is with `unet-bench serve`.
With --to and --transport, --system chooses from the second list of `unet-bench systems`. The floor
is then the fastest bare loop over the same kind of network in the same run.";

const RATE_EXAMPLES: &str = "\
Examples of calls:
  unet-bench rate --system rpc                   1, 8 and 64 calls under way, begun singly and by 8
  unet-bench rate --system rpc --window 64 --batch 1,8,32 --size 8,64

A call counts when its reply is there and is the right one. Calls that are begun together may share a
message.

";

const BANDWIDTH_EXAMPLES: &str = "\
Examples of calls:
  unet-bench bandwidth --system rpc --size 1K,64K,1M,8M,64M
  unet-bench bandwidth --system rpc --size 8M --carries response --window 1,2,4

";

const SERVE_EXAMPLES: &str = "\
Examples:
  unet-bench serve udp:10.0.0.2:9000             U-Net over UDP, and the kernel's systems
  unet-bench serve xdp:eth0@10.0.0.2:9000        the same over this interface's AF_XDP: U-Net, xdp/raw
  unet-bench serve udp:0.0.0.0:9000 --for 60s    ends by itself
  unet-bench serve udp:10.9.0.2:9000 --netns lab-b

Clients connect to the kernel's TCP at the port of the address, and measure one at a time. Anybody
who reaches the port can make this host answer messages: serve only in networks that you trust.";

const SWEEP_EXAMPLES: &str = "\
Examples:
  unet-bench sweep --transport udp:127.0.0.1:9000 --system udp/spin
  unet-bench sweep --transport udp:10.9.0.2:9000 --netns lab-a,lab-b --format html --out load.html
  unet-bench sweep --to udp:10.0.0.2:9000 --system udp,tcp/spin --from 20% --up-to 120%
  unet-bench sweep --system rpc --up-to 200%     calls on this host; with --transport across a network

The capacity is what a flood of messages leaves: as many as arrive a second. Then messages are offered
at a share of it, each at a moment that was drawn beforehand, whatever became of the ones before. A
latency counts from that moment. With --transport it is the way to the server, since both ends read
one clock; with --to, and of calls, it is the way there and back.";

const KV_EXAMPLES: &str = "\
Examples:
  unet-bench kv                                  all mixes, one operation at a time and eight
  unet-bench kv --mix B --window 8 --size 100,4K  short values, and such as have buffers
  unet-bench kv --mix A --rate 50000             an open loop: latency from when operations were due
  unet-bench kv --system kv/lrpc                 without Redis

Redis is `redis-server` of the distribution, started for the run on the server's core, without
persistence, and asked by pipelines as wide as the window. Where it is not installed it is left out.";

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
    /// address the server is started.
    #[arg(long, global = true, value_name = "URI", default_value = "shm:")]
    #[arg(value_parser = address::transport)]
    pub transport: Transport,
    /// The client's own device for --transport, which names the server's: as lab-a0 or lab-a0/1
    /// [default: the one of the same name].
    #[arg(long, global = true, value_name = "DEVICE", conflicts_with = "to")]
    pub client_device: Option<String>,
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
