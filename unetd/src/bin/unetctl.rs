//! Looks at an agent, and at the machine under it.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use unetd::ctl::{AskError, ask};
use unetd::doctor;
use unetd::pages::counters_of;
use unetd::report::{ChannelRow, DROPS, Drops, LIST, List, STATUS, Status};

/// Looks at an agent, and at the machine under it.
#[derive(Parser)]
#[command(
    version,
    after_help = "\
Examples:
  unetctl status                       the agent as a whole
  unetctl list                         channels and ports, and their rates over a second
  unetctl list --format json | jq .    the same for programs
  unetctl drops                        what was refused and dropped, by user and reason
  unetctl counters 4711                what that process counts in its own pages, without an agent
  unetctl doctor                       what this machine can do, what that costs, and how to mend it

Ordinary users see what is theirs, root everything.
Exit codes: 0 done; 1 a check failed (doctor); 2 bad arguments; 3 the agent cannot be asked, or the \
process not looked at."
)]
struct Arguments {
    #[command(subcommand)]
    what: What,
    /// The agent's name.
    #[arg(long, global = true, default_value = "unetd")]
    name: String,
    /// How to show it.
    #[arg(long, global = true, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// How long the agent may take for an answer, in milliseconds.
    #[arg(long, global = true, default_value_t = 2000)]
    timeout: u64,
}

#[derive(Subcommand)]
enum What {
    /// The agent as a whole, and its devices.
    Status,
    /// Channels and ports: whose, from where to where, how much.
    List {
        /// Milliseconds between the two samples that make the rates; 0 for none.
        #[arg(long, default_value_t = 1000)]
        interval: u64,
    },
    /// What was refused and dropped, by user and reason, and poisoned queues.
    Drops,
    /// What a process counts in its own pages of counters: refusals and drops of its channels, devices and calls.
    Counters {
        /// The process: one of this user's.
        pid: u32,
    },
    /// Checks kernel, permissions, memory and interfaces.
    Doctor,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.what {
        What::Status => status(&arguments),
        What::List { interval } => list(&arguments, Duration::from_millis(*interval)),
        What::Drops => drops(&arguments),
        What::Counters { pid } => return counters(&arguments, *pid),
        What::Doctor => return examine(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("unetctl: {}: {error}", arguments.name);
            ExitCode::from(3)
        }
    }
}

fn question<T: serde::de::DeserializeOwned>(
    arguments: &Arguments,
    question: &str,
) -> Result<T, AskError> {
    let bytes = ask(&arguments.name, question, Duration::from_millis(arguments.timeout))?;
    serde_json::from_slice(&bytes).map_err(|_| AskError::Answer)
}

fn print_json(value: &impl serde::Serialize) {
    println!("{}", serde_json::to_string_pretty(value).unwrap_or_default());
}

fn status(arguments: &Arguments) -> Result<(), AskError> {
    let status: Status = question(arguments, STATUS)?;
    if arguments.format == Format::Json {
        print_json(&status);
        return Ok(());
    }
    println!("unetd {}, process {}, up {} s", status.version, status.pid, status.uptime_s);
    println!("names      {}", status.names.join(", "));
    println!("processes  {}", status.processes);
    println!("channels   {} open, {} pending", status.channels, status.pending);
    println!("ports      {}", status.ports);
    for device in &status.devices {
        println!(
            "device     {} ({}{}): {} channels, {} of {} buffers free",
            device.local,
            device.mode,
            if device.listens { ", listens" } else { "" },
            device.channels,
            device.free_buffers,
            device.buffers
        );
        for (name, count) in device.counts.iter().filter(|(name, _)| !name.starts_with("own-")) {
            println!("           {name} {count}");
        }
    }
    for row in &status.lent.queues {
        println!(
            "queue      {}/{} with port {}: lent to process {} (uid {})",
            row.interface, row.queue, row.port, row.pid, row.uid
        );
    }
    for (name, count) in &status.lent.counts {
        println!("lending    {name} {count}");
    }
    Ok(())
}

/// All rows, page by page.
fn rows(arguments: &Arguments) -> Result<List, AskError> {
    let mut all: List = question(arguments, LIST)?;
    while let Some(next) = all.next.take() {
        let more: List = question(arguments, &format!("{LIST} {next}"))?;
        all.rows.extend(more.rows);
        // Only forward: an agent that answers otherwise is none.
        all.next = more.next.filter(|further| *further > next);
    }
    Ok(all)
}

/// A row, with its rates.
#[derive(serde::Serialize)]
struct Rated {
    #[serde(flatten)]
    row: ChannelRow,
    sent_per_second: Option<u64>,
    received_per_second: Option<u64>,
}

fn list(arguments: &Arguments, interval: Duration) -> Result<(), AskError> {
    let before = if interval.is_zero() { None } else { Some(rows(arguments)?) };
    std::thread::sleep(interval);
    let now = rows(arguments)?;
    let rated: Vec<Rated> = now.rows.iter().map(|row| rate(row, &now, before.as_ref())).collect();
    if arguments.format == Format::Json {
        print_json(&rated);
        return Ok(());
    }
    let mut table = vec![
        [
            "KIND",
            "PID",
            "UID",
            "LOCAL",
            "REMOTE",
            "SENT",
            "SENT/S",
            "RECEIVED",
            "RECEIVED/S",
            "DROPPED",
            "WAITS",
        ]
        .map(str::to_owned),
    ];
    let number = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |v| v.to_string());
    for Rated { row, sent_per_second, received_per_second } in rated {
        table.push([
            row.kind,
            row.pid.to_string(),
            row.uid.to_string(),
            row.local,
            row.remote,
            row.sent.to_string(),
            number(sent_per_second),
            row.received.to_string(),
            number(received_per_second),
            row.dropped.to_string(),
            if row.waits { "yes" } else { "no" }.to_owned(),
        ]);
    }
    print_table(&table);
    Ok(())
}

fn rate(row: &ChannelRow, now: &List, before: Option<&List>) -> Rated {
    let same = |other: &&ChannelRow| {
        (other.number, other.pid, &other.local, &other.remote)
            == (row.number, row.pid, &row.local, &row.remote)
    };
    let earlier = before.and_then(|before| {
        let ms = now.at_ms.saturating_sub(before.at_ms).max(1);
        before.rows.iter().find(same).map(|row| (row, ms))
    });
    let per_second =
        |value: u64, earlier: u64, ms: u64| value.saturating_sub(earlier).saturating_mul(1000) / ms;
    Rated {
        row: row.clone(),
        sent_per_second: earlier.map(|(old, ms)| per_second(row.sent, old.sent, ms)),
        received_per_second: earlier.map(|(old, ms)| per_second(row.received, old.received, ms)),
    }
}

fn print_table<const N: usize>(rows: &[[String; N]]) {
    let widths: [usize; N] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0));
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        println!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

fn drops(arguments: &Arguments) -> Result<(), AskError> {
    let drops: Drops = question(arguments, DROPS)?;
    if arguments.format == Format::Json {
        print_json(&drops);
        return Ok(());
    }
    let mut table = vec![["UID", "REASON", "COUNT"].map(str::to_owned)];
    for row in drops.rows {
        let uid = row.uid.map_or_else(|| "others".to_owned(), |uid| uid.to_string());
        table.push([uid, row.reason, row.count.to_string()]);
    }
    print_table(&table);
    for row in drops.poisoned {
        println!("poisoned: a queue of process {} (uid {}): {}", row.pid, row.uid, row.fault);
    }
    Ok(())
}

fn counters(arguments: &Arguments, pid: u32) -> ExitCode {
    let rows = match counters_of(pid) {
        Ok(rows) => rows,
        Err(error) => {
            eprintln!("unetctl: process {pid}: {error}");
            return ExitCode::from(3);
        }
    };
    if arguments.format == Format::Json {
        print_json(&rows);
        return ExitCode::SUCCESS;
    }
    let mut table = vec![["PAGE", "KIND", "PEER", "COUNTER", "COUNT"].map(str::to_owned)];
    for row in rows {
        let peer = if row.peer == 0 { "-".to_owned() } else { row.peer.to_string() };
        table.push([row.page.to_string(), row.kind, peer, row.counter, row.count.to_string()]);
    }
    print_table(&table);
    ExitCode::SUCCESS
}

fn examine(arguments: &Arguments) -> ExitCode {
    let checks = doctor::examine(&arguments.name);
    if arguments.format == Format::Json {
        print_json(&checks);
    } else {
        // https://no-color.org
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        for check in &checks {
            let (word, code) = match (check.good, check.needed) {
                (true, _) => ("good", 32),
                (false, true) => ("bad ", 31),
                (false, false) => ("note", 33),
            };
            let word = if colour { format!("\x1b[{code}m{word}\x1b[0m") } else { word.to_owned() };
            println!("{word}  {}: {}", check.what, check.found);
            if !check.good {
                println!("      costs: {}", check.costs);
                println!("      mend:  {}", check.mend);
            }
        }
    }
    let failed = checks.iter().any(|check| check.needed && !check.good);
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
