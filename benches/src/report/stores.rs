//! The table of the key-value stores.

use std::fmt::Write;
use std::path::Path;

use serde::Serialize;

use super::table::{Paint, fold};
use super::{deliver, may_colour, units};
use crate::cli::Format;
use crate::fault::Failure;
use crate::host::Host;
use crate::kv::Record;

/// All that a run found.
#[derive(Debug, Serialize)]
pub struct Stores {
    /// The machine.
    pub host: Host,
    /// The measurements.
    pub records: Vec<Record>,
}

impl Stores {
    /// Shows them, or writes them to a file.
    pub fn show(&self, format: Format, out: Option<&Path>) -> Result<(), Failure> {
        let text = match format {
            Format::Json => super::json(self)?,
            Format::Table | Format::Html => self.table(out.is_none() && may_colour()),
        };
        deliver(&text, out)
    }

    fn table(&self, colour: bool) -> String {
        let (mut text, paint) = (String::new(), Paint(colour));
        for line in self.host.lines() {
            fold(&mut text, "", &line);
        }
        let title =
            "Key-value stores: operations a second, and a second of one core of the server's";
        let _ = writeln!(text, "\n{}", paint.bold(title));
        let heading = format!(
            "  {:11} {:8} {:3} {:>7} {:>6} {:>9} {:>9} {:>7} {:>7} {:>7} {:>7}",
            "store",
            "wait",
            "mix",
            "value",
            "window",
            "ops/s",
            "/core s",
            "×redis",
            "p50",
            "p99",
            "p99.9"
        );
        let _ = writeln!(text, "{}", paint.dim(&heading));
        for record in &self.records {
            let time = |nanoseconds: u64| units::time(nanoseconds as f64);
            let per_core = units::rate(record.ops_per_core_sec);
            let times = record.times_redis_unix.map(units::ratio);
            let _ = writeln!(
                text,
                "  {:11} {:8} {:3} {:>7} {:>6} {:>9} {} {:>7} {:>7} {:>7} {:>7}",
                record.system,
                record.wait.to_string(),
                record.mix,
                units::size(record.payload_bytes),
                record.window,
                units::rate(record.ops_per_sec),
                paint.bold(&format!("{per_core:>9}")),
                times.unwrap_or_else(|| "–".to_owned()),
                time(record.p50_ns),
                time(record.p99_ns),
                time(record.p999_ns),
            );
        }
        let refused: u64 = self.records.iter().map(|record| record.refused).sum();
        let late: u64 = self.records.iter().map(|record| record.late).sum();
        if refused + late > 0 {
            let line = format!("refused: {refused}; due and not begun: {late}");
            fold(&mut text, "    ", &line);
        }
        fold(
            &mut text,
            "    ",
            "×redis: operations a second of one core, by those of Redis over its Unix socket",
        );
        text
    }
}
