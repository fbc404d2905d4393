//! The drivers that a program links: one Cargo feature each, all by default.
