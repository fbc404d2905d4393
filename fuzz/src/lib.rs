//! What the fuzz targets share. Each target is a file in `fuzz_targets/` with a `[[bin]]` entry in
//! `Cargo.toml`; inputs worth starting from are committed in `seeds/TARGET/`.
