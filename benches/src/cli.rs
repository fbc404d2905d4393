//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::cpus::Asked;
use crate::task::{MAX_PAYLOAD, Wait};

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
  unet-bench systems                            what --system can be

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

/// What to measure.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// The machine's floors: cache line, yield, eventfd, system call, memcpy.
    Limits,
    /// A call that does nothing; for the kernel's systems the nearest thing, an 8-byte echo.
    NullRpc,
    /// A message and its echo, by size.
    Rtt,
    /// Messages one way.
    Rate,
    /// Bytes one way, from private memory to private memory.
    Bandwidth,
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
    /// Lists the systems in this build.
    Systems,
    /// The server process; started by the client, over a control socket on standard input.
    #[command(hide = true)]
    Serve {
        /// The core to run on.
        cpu: usize,
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
    /// The way between the two processes, for the systems that have a choice.
    #[arg(long, global = true, value_name = "URI", default_value = "shm:", value_parser = transport)]
    pub transport: String,
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

fn transport(text: &str) -> Result<String, String> {
    let (scheme, rest) = text.split_once(':').ok_or("a transport is written as in shm:")?;
    match (scheme, rest) {
        ("shm", "") => Ok(text.to_owned()),
        ("shm", _) => Err("the benchmark picks the name in shm: itself: write shm:".into()),
        ("udp" | "xdp" | "dpdk" | "vfio" | "sim", _) => {
            Err(format!("{scheme}: comes with its driver in a later version; in this one use shm:"))
        }
        _ => Err("no such transport; in this version there is shm:".into()),
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
        Some(_) if factor > 0 => Err("a message holds at most 16M".into()),
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
        for text in ["", "x", "8G", "17M", "-1", "1.5K", "8B"] {
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
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
