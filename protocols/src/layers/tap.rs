//! `tap`: writes down what passes.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::time::Duration;

use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pcap_file::{DataLink, TsResolution};

use crate::description::OptionError;
use crate::{
    Context, Message, Opened, Options, Participants, Protocol, Refusal, Slot, Slots, Verdict,
};

/// The longest record, unless something is said.
const SNAP: usize = 65_535;
/// What the capture's header says of the longest message: some readers refuse a record of a message
/// that was longer, also if less of it was written.
const LONGEST: u32 = 262_144;
/// How much is written, unless something is said.
const LIMIT: u64 = 64 << 20;

/// Writes the messages that pass it, in both directions, as pcap, which Wireshark reads. It changes
/// nothing, and never stops or delays them: when the writer fails, or as much is written as may be,
/// it writes no more and counts what it misses.
///
/// Options: `file`, where to write; `link`, what the messages begin with: `ethernet`, `raw` (IP) or
/// `user` (ethernet); `snap`, how much of a message is written (65535 bytes); `limit`, how much is
/// written altogether (67108864 bytes).
///
/// # Cost
/// One copy of what is written: messages are ropes, and records are not.
pub struct Tap {
    writer: Option<PcapWriter<Box<dyn Write + Send>>>,
    scratch: Vec<u8>,
    snap: usize,
    left: u64,
    written: u64,
    missed: u64,
    sessions: Slots<()>,
}

impl Tap {
    /// Writes to `writer`. Buffer it: a record is one call or several.
    pub fn new(
        writer: impl Write + Send + 'static,
        link: DataLink,
        snap: usize,
        limit: u64,
    ) -> Self {
        let header = PcapHeader {
            snaplen: LONGEST,
            datalink: link,
            ts_resolution: TsResolution::NanoSecond,
            ..PcapHeader::default()
        };
        let snap = snap.min(LONGEST as usize);
        let writer: Box<dyn Write + Send> = Box::new(writer);
        Self {
            writer: PcapWriter::with_header(writer, header).ok(),
            scratch: vec![0; snap],
            snap,
            left: limit,
            written: 0,
            missed: 0,
            sessions: Slots::new(1 << 16),
        }
    }

    /// From a description.
    ///
    /// # Errors
    /// [`OptionError`], also if the file cannot be made.
    pub fn from_options(options: &Options) -> Result<Self, OptionError> {
        options.only(&["file", "link", "snap", "limit"])?;
        let path = options.text("file").ok_or(OptionError::Missing { name: "file" })?;
        let wrong = |name: &str, wanted| OptionError::Value {
            name: name.to_owned(),
            value: options.text(name).unwrap_or_default().to_owned(),
            wanted,
        };
        let link = match options.text("link") {
            None | Some("ethernet") => DataLink::ETHERNET,
            Some("raw") => DataLink::RAW,
            Some("user") => DataLink::USER0,
            Some(_) => return Err(wrong("link", "ethernet, raw or user")),
        };
        let snap = options.within("snap", 1..=SNAP, "a number of bytes from 1 to 65535")?;
        let limit = options.get("limit", "a number of bytes")?.unwrap_or(LIMIT);
        let file = File::create(path);
        let file = file.map_err(|_| wrong("file", "the path of a file that can be written"))?;
        Ok(Self::new(BufWriter::new(file), link, snap.unwrap_or(SNAP), limit))
    }

    fn write(&mut self, message: &Message, now: Duration) {
        let len = message.len().min(self.snap);
        let record = len as u64 + 16;
        let Some(writer) = self.writer.as_mut().filter(|_| record <= self.left) else {
            self.missed += 1;
            return;
        };
        if message.peek(0, &mut self.scratch[..len]).is_err() {
            self.missed += 1;
            return;
        }
        let packet = PcapPacket {
            timestamp: now,
            orig_len: u32::try_from(message.len()).unwrap_or(LONGEST).min(LONGEST),
            data: Cow::Borrowed(&self.scratch[..len]),
        };
        match writer.write_packet(&packet) {
            Ok(_) => {
                self.left -= record;
                self.written += 1;
            }
            Err(_) => {
                // A record may be there in part: what followed it could not be read.
                self.writer = None;
                self.missed += 1;
            }
        }
    }
}

impl Protocol for Tap {
    fn open(&mut self, _who: &mut Participants, _context: &mut Context) -> Result<Opened, Refusal> {
        let slot = self.sessions.insert(()).map_err(|()| Refusal::Limit)?;
        Ok(Opened { slot, lower: 0 })
    }

    fn push(&mut self, _slot: Slot, message: &mut Message, context: &mut Context) -> Verdict {
        self.write(message, Duration::from_nanos(context.now().0));
        Verdict::Pass
    }

    fn pop(&mut self, _slot: Slot, message: &mut Message, context: &mut Context) -> Verdict {
        self.write(message, Duration::from_nanos(context.now().0));
        Verdict::Pass
    }

    fn close(&mut self, slot: Slot, _context: &mut Context) {
        self.sessions.remove(slot);
    }

    fn statistics(&self, tell: &mut dyn FnMut(&'static str, u64)) {
        tell("written", self.written);
        tell("missed", self.missed);
    }
}

impl std::fmt::Debug for Tap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tap {{ written: {}, missed: {} }}", self.written, self.missed)
    }
}
