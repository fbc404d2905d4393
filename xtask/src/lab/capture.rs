//! What `tshark` says of every frame that was captured.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::tools::passed;
use super::world::tool;
use crate::process::capture;

/// Expert information from this severity on is refused (`PI_WARN`; errors are higher).
const WARNING: u64 = 0x0060_0000;
/// Our side's address, as the capture has it.
const OURS: [u8; 6] = [2, 0, 0, 0, 0, 2];
const LIMIT: Duration = Duration::from_secs(40);

/// Columns of [`FIELDS`].
const SOURCE: usize = 1;
const SUMS: std::ops::Range<usize> = 2..6;
const SEVERITY: usize = 6;

const FIELDS: [&str; 8] = [
    "frame.number",
    "eth.src",
    "ip.checksum.status",
    "udp.checksum.status",
    "icmp.checksum.status",
    "icmpv6.checksum.status",
    "_ws.expert.severity",
    "_ws.expert.message",
];

/// What came of the frames.
#[derive(Debug, Default, PartialEq, Eq)]
struct Verdict {
    frames: u64,
    ours: u64,
    /// Of our frames, sums that were looked at and found right, by kind as in [`FIELDS`].
    good: [u64; 4],
    /// Frames with wrong sums or warnings.
    bad: Vec<String>,
}

/// Refuses a capture with a wrong sum or a warning, and sees to it that both would be found.
pub fn judge(pcap: &Path, spoilt: &Path) -> Result<()> {
    // A judge who never refuses anything says nothing: he gets one with a wrong byte first.
    fs::write(spoilt, spoil(&fs::read(pcap)?).context("the capture has no frame of ours")?)?;
    if tshark(spoilt)?.bad.is_empty() {
        bail!("tshark was content with a frame that we had spoilt: its word is worth nothing");
    }
    passed("tshark finds the byte that was changed on purpose");
    let verdict = tshark(pcap)?;
    if !verdict.bad.is_empty() {
        let shown = verdict.bad.len().min(20);
        bail!(
            "tshark objects to {} of {} frames:\n{}",
            verdict.bad.len(),
            verdict.frames,
            verdict.bad[..shown].join("\n")
        );
    }
    let [ip, udp, icmp, icmpv6] = verdict.good;
    if [ip, udp, icmp, icmpv6].contains(&0) {
        bail!("tshark has found no right sum of some kind: {verdict:?}");
    }
    passed(&format!(
        "tshark objects to none of {} frames; of our {} it found right: IP {ip}, UDP {udp}, ICMP \
         {icmp}, ICMPv6 {icmpv6}",
        verdict.frames, verdict.ours
    ));
    Ok(())
}

fn tshark(pcap: &Path) -> Result<Verdict> {
    let mut tshark = tool("tshark");
    // Twice through: that a request got no answer is known in the end only.
    tshark.args(["-n", "-2", "-r"]).arg(pcap);
    for preference in ["ip.check_checksum:TRUE", "udp.check_checksum:TRUE"] {
        tshark.args(["-o", preference]);
    }
    tshark.args(["-T", "fields", "-E", "separator=|"]);
    for field in FIELDS {
        tshark.args(["-e", field]);
    }
    let said = capture(&mut tshark, LIMIT)?.stdout;
    let mut verdict = Verdict::default();
    said.lines().for_each(|line| verdict.add(line));
    Ok(verdict)
}

impl Verdict {
    /// Adds a line: a frame. Columns hold several values where a frame quotes another.
    fn add(&mut self, line: &str) {
        let columns: Vec<&str> = line.splitn(FIELDS.len(), '|').collect();
        let severity = |value: &str| value.parse().is_ok_and(|value: u64| value >= WARNING);
        let values = |column: usize| columns.get(column).into_iter().flat_map(|c| c.split(','));
        self.frames += 1;
        // 0 is wrong, 1 is right, others were not looked at.
        let wrong = SUMS.flat_map(values).any(|value| value == "0");
        if wrong || values(SEVERITY).any(severity) || columns.len() < FIELDS.len() {
            self.bad.push(line.to_owned());
        }
        if values(SOURCE).any(|source| source == "02:00:00:00:00:02") {
            self.ours += 1;
            for (good, column) in self.good.iter_mut().zip(SUMS) {
                *good += u64::from(values(column).next() == Some("1"));
            }
        }
    }
}

/// The first frames of a capture, the last byte of the first ping of ours being another.
fn spoil(pcap: &[u8]) -> Option<Vec<u8>> {
    let (mut at, mut frames) = (24, 0);
    while frames < 1000 {
        let len = pcap.get(at + 8..at + 12)?;
        let len = u32::from_le_bytes(len.try_into().ok()?) as usize;
        let frame = pcap.get(at + 16..at + 16 + len)?;
        at += 16 + len;
        frames += 1;
        let ours = frame.get(6..12)? == OURS;
        if ours && frame.get(12..14)? == [8, 0] && frame.get(23)? == &1 {
            let mut spoilt = pcap[..at].to_vec();
            *spoilt.last_mut()? ^= 1;
            return Some(spoilt);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_sums_and_warnings_are_found_wherever_they_stand() {
        let mut verdict = Verdict::default();
        verdict.add("1|02:00:00:00:00:02|1||1|||");
        verdict.add("2|02:00:00:00:00:01|1||||4194304|Note");
        assert_eq!((verdict.ours, verdict.good, verdict.bad.len()), (1, [1, 0, 1, 0], 0));
        verdict.add("3|02:00:00:00:00:02|1,0||1|||");
        verdict.add("4|02:00:00:00:00:01|1||1||4194304,6291456|Note,Warning");
        verdict.add("half a line");
        assert_eq!((verdict.frames, verdict.bad.len()), (5, 3));
    }

    #[test]
    fn a_capture_without_a_ping_of_ours_cannot_be_spoilt() {
        assert_eq!(spoil(&[]), None);
        assert_eq!(spoil(&[0; 100]), None);
        let mut pcap = vec![0; 24];
        pcap.extend([0; 8]);
        pcap.extend(24_u32.to_le_bytes());
        pcap.extend([0; 4]);
        let mut frame = [0; 24];
        frame[6..12].copy_from_slice(&OURS);
        frame[12] = 8;
        frame[23] = 1;
        pcap.extend(frame);
        let spoilt = spoil(&pcap).expect("there is one");
        assert_ne!(spoilt.last(), pcap.last());
    }
}
