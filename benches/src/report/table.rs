//! The table for terminals, readable in 100 columns.

use std::fmt::Write;

use crate::host::Host;
use crate::limits::Floors;
use crate::record::Record;
use crate::report::sketch::{Steps, blocks};
use crate::report::{Report, load, units};
use crate::task::Bench;

/// The columns that everything fits into.
const WIDTH: usize = 100;
/// The columns of a row beside the system's name and the sketch, with room for two marks.
const FIGURES: usize = 82;

/// Writes the whole report.
pub fn write(report: &Report, colour: bool) -> String {
    let paint = Paint(colour);
    let mut text = String::new();
    for line in report.host.lines() {
        fold(&mut text, "", &line);
    }
    text.push('\n');
    limits(&mut text, &report.host, &paint);
    let mut benches: Vec<_> = report.records.iter().map(|record| record.bench).collect();
    benches.dedup();
    for bench in benches {
        let records: Vec<_> = report.records.iter().filter(|r| r.bench == bench).collect();
        text.push('\n');
        let _ = writeln!(text, "{}", paint.bold(bench.title()));
        match bench {
            Bench::Sweep => load::rows(&mut text, &records, &paint),
            _ => rows(&mut text, &records, bench, &paint),
        }
    }
    text
}

fn limits(text: &mut String, host: &Host, paint: &Paint) {
    let Floors { cache_line, .. } = &host.floors;
    let _ = writeln!(text, "{}", paint.bold("Limits of this machine, round trips"));
    if let Some(lines) = cache_line {
        let _ = writeln!(
            text,
            "  cache line: one {}, with pause {}; one in each direction {}, with pause {}",
            units::time(lines.one_line_ns),
            units::time(lines.one_line_pause_ns),
            units::time(lines.two_lines_ns),
            units::time(lines.two_lines_pause_ns),
        );
    }
    let eventfd = match host.floors.eventfd_two_cores_ns {
        Some(two) => format!(", two cores {}", units::time(two)),
        None => String::new(),
    };
    let _ = writeln!(
        text,
        "  yield, one core {} · eventfd, one core {}{eventfd} · system call {}",
        units::time(host.floors.yield_one_core_ns),
        units::time(host.floors.eventfd_one_core_ns),
        units::time(host.floors.system_call_ns),
    );
    let copies: Vec<_> = host
        .floors
        .memcpy
        .iter()
        .map(|copy| {
            let speed = units::byte_rate(copy.gigabytes_per_second * 1e9);
            format!("{} {speed}", units::size(copy.bytes))
        })
        .collect();
    let _ = writeln!(text, "  memcpy, one core: {}", copies.join(" · "));
}

fn rows(text: &mut String, records: &[&Record], bench: Bench, paint: &Paint) {
    let one_way = bench.one_way();
    let size = if bench == Bench::Scale { "idle" } else { "size" };
    let floor = if one_way { "floors" } else { "×floor" };
    let last = if one_way { "bytes/s" } else { "ops/s" };
    let (mean, first) = if one_way { ("each", "ops/s") } else { ("mean", "p50") };
    let widest = records.iter().map(|r| r.system.len()).max().unwrap_or(0).max(6);
    let cells = WIDTH.saturating_sub(FIGURES + widest).clamp(8, 16);
    let heading = format!(
        "  {:widest$} {:8} {:>7} {:>7} {:>6} {:>7} {:>7} {:>7} {:>7} {:>9}  shape",
        "system", "wait", size, mean, floor, first, "p99", "p99.9", "max", last
    );
    let _ = writeln!(text, "{}", paint.dim(&heading));
    let mut notes = Vec::new();
    for record in records {
        let marks = mark(record, &mut notes);
        let steps = Steps::between(&record.spread, record.min_ns, record.p999_ns, cells);
        let middle =
            if one_way { units::rate(record.ops_per_sec) } else { units::time(record.p50_ns) };
        let end = if one_way {
            units::byte_rate(record.bytes_per_sec)
        } else {
            units::rate(record.ops_per_sec)
        };
        let _ = writeln!(
            text,
            "  {:widest$} {:8} {:>7} {} {:>6} {middle:>7} {:>7} {:>7} {:>7} {end:>9}  {}{marks}",
            record.system,
            record.wait.to_string(),
            place(record),
            paint.bold(&format!("{:>7}", units::time(record.mean_ns))),
            record.ratio_to_floor.map_or("–".to_owned(), units::ratio),
            units::time(record.p99_ns),
            units::time(record.p999_ns),
            units::time(record.max_ns),
            paint.accent(&blocks(&steps)),
        );
    }
    for (number, note) in notes.iter().enumerate() {
        fold(text, "    ", &format!("{} {note}", superscript(number + 1)));
    }
    references(text, records);
    interruptions(text, records);
}

/// One line about who else was on the cores: it explains tails, and means beyond them.
pub fn interruptions(text: &mut String, records: &[&Record]) {
    let times: Vec<_> = records.iter().map(|r| r.interruptions.to_string()).collect();
    if records.iter().any(|record| record.interruptions > 0) {
        let line = format!("other work took one of the cores, row by row: {}", times.join(", "));
        fold(text, "    ", &format!("{line} times"));
    }
}

/// What tells a row from its neighbours: its size, or how many idle bindings stood beside it.
fn place(record: &Record) -> String {
    match record.bench {
        Bench::Scale => format!("+{}", record.idle_bindings),
        _ => units::size(record.payload_bytes),
    }
}

/// Gives each different note one number.
fn mark(record: &Record, notes: &mut Vec<String>) -> String {
    let mut numbers: Vec<usize> = record
        .remarks
        .iter()
        .map(|remark| {
            notes.iter().position(|known| known == remark).unwrap_or_else(|| {
                notes.push(remark.clone());
                notes.len() - 1
            })
        })
        .collect();
    numbers.sort_unstable();
    numbers.into_iter().map(|number| format!(" {}", superscript(number + 1))).collect()
}

/// One line for each yardstick beside the floor, with all the rows that it fits.
fn references(text: &mut String, records: &[&Record]) {
    let mut names: Vec<_> = records.iter().flat_map(|r| &r.reference).map(|r| r.name).collect();
    names.dedup();
    for name in names {
        let shares: Vec<_> = records
            .iter()
            .filter_map(|record| {
                let reference = record.reference.as_ref().filter(|r| r.name == name)?;
                let ratio = units::ratio(record.mean_ns / reference.nanoseconds);
                let place = place(record);
                Some(format!("{} {} {place}: {ratio}", record.system, record.wait))
            })
            .collect();
        fold(text, "    ", &format!("× {name}: {}", shares.join(", ")));
    }
}

fn superscript(number: usize) -> String {
    const DIGITS: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    number.to_string().bytes().map(|digit| DIGITS[usize::from(digit - b'0')]).collect()
}

/// Adds a line, broken between words where it is too long.
pub fn fold(text: &mut String, indent: &str, line: &str) {
    let mut column = 0;
    for word in line.split(' ') {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > WIDTH {
            text.push('\n');
            column = 0;
        }
        text.push_str(if column == 0 { indent } else { " " });
        column += length + if column == 0 { indent.len() } else { 1 };
        text.push_str(word);
    }
    text.push('\n');
}

/// Emphasis, where the terminal and its user take it.
pub struct Paint(pub bool);

impl Paint {
    /// For what matters.
    pub fn bold(&self, text: &str) -> String {
        self.with("1", text)
    }

    /// For what does not.
    pub fn dim(&self, text: &str) -> String {
        self.with("2", text)
    }

    fn accent(&self, text: &str) -> String {
        self.with("36", text)
    }

    fn with(&self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_folded_between_words() {
        let mut text = String::new();
        fold(&mut text, "  ", &"word ".repeat(50));
        assert!(text.lines().count() > 1);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH && line.starts_with("  ")));
    }

    #[test]
    fn numbers_are_written_small() {
        assert_eq!(superscript(10), "¹⁰");
    }
}
