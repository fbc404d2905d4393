//! What a store did under a load.

use std::time::Duration;

use kv::load::{Measured, WorkloadOptions};
use serde::Serialize;

use crate::task::Wait;

/// One measurement. Times are nanoseconds of one operation, from when it was begun (or was due) to its
/// end.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// `kv`.
    pub bench: &'static str,
    /// Which store, and how it is asked.
    pub system: &'static str,
    /// The way to it.
    pub transport: &'static str,
    /// How both sides waited.
    pub wait: Wait,
    /// YCSB's mix.
    pub mix: String,
    /// How many keys there were.
    pub keys: u32,
    /// How many operations were under way at most.
    pub window: u16,
    /// Bytes of each value.
    pub payload_bytes: usize,
    /// Operations that were done.
    pub iterations: u64,
    /// The shortest.
    pub min_ns: u64,
    /// Half took no longer.
    pub p50_ns: u64,
    /// Nine in ten.
    pub p90_ns: u64,
    /// All but one in a hundred.
    pub p99_ns: u64,
    /// All but one in a thousand.
    pub p999_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// The whole run's time by its operations.
    pub mean_ns: f64,
    /// Operations a second.
    pub ops_per_sec: f64,
    /// Bytes of values a second.
    pub bytes_per_sec: f64,
    /// Seconds of processor time that the server's process used.
    pub server_cpu_s: f64,
    /// Operations a second of the server's processor time: of one core.
    pub ops_per_core_sec: f64,
    /// How many times that is what Redis does over its Unix socket, under the same load in this run;
    /// absent where there was no Redis.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times_redis_unix: Option<f64>,
    /// Operations that the server refused.
    pub refused: u64,
    /// Operations that were due and not begun, where they were offered at a rate.
    pub late: u64,
}

impl Record {
    /// What was measured.
    pub fn of(
        system: &'static str,
        wait: Wait,
        options: &WorkloadOptions,
        window: u16,
        measured: &Measured,
        cpu: Duration,
    ) -> Self {
        let at = |quantile| measured.latency.value_at_quantile(quantile);
        let (rate, done) = (measured.rate(), measured.done);
        Self {
            bench: "kv",
            system,
            transport: match system {
                "redis/unix" => "unix",
                "redis/tcp" => "tcp",
                _ => "shm",
            },
            wait,
            mix: options.mix.to_string(),
            keys: options.keys,
            window,
            payload_bytes: options.value,
            iterations: done,
            min_ns: measured.latency.min(),
            p50_ns: at(0.5),
            p90_ns: at(0.9),
            p99_ns: at(0.99),
            p999_ns: at(0.999),
            max_ns: measured.latency.max(),
            mean_ns: 1e9 / rate,
            ops_per_sec: rate,
            bytes_per_sec: rate * options.value as f64,
            server_cpu_s: cpu.as_secs_f64(),
            ops_per_core_sec: done as f64 / cpu.as_secs_f64(),
            times_redis_unix: None,
            refused: measured.refused,
            late: measured.late,
        }
    }

    fn load(&self) -> (&str, u16, usize) {
        (&self.mix, self.window, self.payload_bytes)
    }
}

/// Compares each record with that of Redis over its Unix socket.
pub fn compare(records: &mut [Record]) {
    let redis: Vec<Record> =
        records.iter().filter(|record| record.system == "redis/unix").cloned().collect();
    for record in records {
        let same = redis.iter().find(|other| other.load() == record.load());
        record.times_redis_unix =
            same.map(|other| record.ops_per_core_sec / other.ops_per_core_sec);
    }
}
