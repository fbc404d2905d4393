//! A simulated network: devices in a process or across processes, with seeded faults and delay.
