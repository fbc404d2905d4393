//! Passes on whether DPDK was found.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(dpdk)");
    if std::env::var_os("DEP_DPDK_VERSION").is_some() {
        println!("cargo::rustc-cfg=dpdk");
    }
}
