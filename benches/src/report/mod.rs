//! The results, for terminals, for machines and for browsers.

use std::io::{IsTerminal, Write};
use std::path::Path;

use serde::Serialize;

use crate::cli::Format;
use crate::fault::Failure;
use crate::host::Host;
use crate::record::{Record, Reference};
use crate::task::Bench;

pub use stores::Stores;

mod curves;
mod html;
mod load;
mod plot;
mod sketch;
mod stores;
mod table;
pub mod units;

/// All that a run found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The machine.
    pub host: Host,
    /// The measurements.
    pub records: Vec<Record>,
}

impl Report {
    /// Compares each scale record with the one of the same system without idle bindings.
    pub fn compare_scale(&mut self) {
        let alone: Vec<_> = self
            .records
            .iter()
            .filter(|record| record.bench == Bench::Scale && record.idle_bindings == 0)
            .map(|record| (record.system, record.wait, record.payload_bytes, record.mean_ns))
            .collect();
        for record in &mut self.records {
            if record.bench != Bench::Scale || record.idle_bindings == 0 {
                continue;
            }
            let same = |other: &&(_, _, usize, _)| {
                (other.0, other.1, other.2) == (record.system, record.wait, record.payload_bytes)
            };
            if let Some((.., mean_ns)) = alone.iter().find(same) {
                record.reference =
                    Some(Reference { name: "mean without idle bindings", nanoseconds: *mean_ns });
                record.write_note();
            }
        }
    }

    /// Compares each record of a network with the fastest bare loop over the same kind of network.
    pub fn compare_networks(&mut self) {
        let bare: Vec<_> = self
            .records
            .iter()
            .filter(|record| record.load.is_none())
            .filter_map(|r| Some((r.bare?, r.bench, r.payload_bytes, r.mean_ns)))
            .collect();
        for record in self.records.iter_mut().filter(|record| record.floor_ns.is_none()) {
            let scheme = record.transport.split(':').next().unwrap_or_default();
            let same = |other: &&(&str, Bench, usize, f64)| {
                (other.0, other.1, other.2) == (scheme, record.bench, record.payload_bytes)
            };
            let floor = bare.iter().filter(same).map(|other| other.3).min_by(f64::total_cmp);
            if let (Some(floor), None) = (floor, &record.load) {
                record.compare_with_floor(floor);
            }
        }
    }

    /// Shows the report, or writes it to a file.
    pub fn show(&self, format: Format, out: Option<&Path>) -> Result<(), Failure> {
        let colour = out.is_none() && may_colour();
        let text = match format {
            Format::Table => table::write(self, colour),
            Format::Html => html::write(self),
            Format::Json => json(self)?,
        };
        deliver(&text, out)
    }
}

fn json(found: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string_pretty(found)
        .map(|json| json + "\n")
        .map_err(|error| Failure::Run(format!("The result cannot be coded: {error}.")))
}

/// Writes to standard output, or to a file.
fn deliver(text: &str, out: Option<&Path>) -> Result<(), Failure> {
    match out {
        None => match std::io::stdout().write_all(text.as_bytes()) {
            // A reader that has seen enough, such as head, is no failure.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            result => result
                .map_err(|error| Failure::Run(format!("The result cannot be shown: {error}."))),
        },
        Some(file) => std::fs::write(file, text).map_err(|error| {
            let file = file.display();
            Failure::Run(format!("The result cannot be written to {file}: {error}."))
        }),
    }
}

/// Colour goes to a terminal whose user did not refuse it (see no-color.org).
fn may_colour() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
    !refused && !dumb && std::io::stdout().is_terminal()
}
