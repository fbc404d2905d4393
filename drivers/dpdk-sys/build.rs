//! Binds to the DPDK that is installed. Where there is none, the crate says what is missing, and everything else of
//! the workspace builds all the same.

use std::env;
use std::path::{Path, PathBuf};

/// The oldest release whose interface this is.
const OLDEST: &str = "22.11";
/// A driver whose functions are called; the others are plugins, which DPDK loads itself.
const DRIVER: &str = "rte_net_ring";
/// What else is linked.
const LIBRARIES: [&str; 9] = [
    "rte_eal",
    "rte_kvargs",
    "rte_log",
    "rte_ethdev",
    "rte_mbuf",
    "rte_mempool",
    "rte_ring",
    "rte_bus_vdev",
    "rte_bus_pci",
];
const TYPES: &str = "rte_mbuf_ext_shared_info|rte_eth_conf|rte_eth_dev_info|rte_eth_stats|\
    rte_ether_addr|unet_segment";
const FUNCTIONS: &str = "unet_.*|rte_eal_init|rte_dev_probe|rte_dev_remove|rte_dev_dma_map|\
    rte_dev_dma_unmap|rte_extmem_register|rte_extmem_unregister|rte_eth_dev_get_port_by_name|\
    rte_eth_dev_info_get|rte_eth_dev_configure|rte_eth_dev_adjust_nb_rx_tx_desc|\
    rte_eth_rx_queue_setup|rte_eth_tx_queue_setup|rte_eth_dev_start|rte_eth_dev_stop|\
    rte_eth_dev_close|rte_eth_macaddr_get|rte_eth_stats_get|\
    rte_eth_dev_get_mtu|rte_eth_dev_socket_id|rte_mempool_free|\
    rte_mempool_avail_count|rte_thread_register|rte_thread_unregister|\
    rte_ring_create|rte_ring_free|rte_eth_from_rings|\
    rte_eth_dev_set_link_up|rte_eth_dev_set_link_down";
const VALUES: &str = "RTE_PKTMBUF_HEADROOM|UNET_.*";

fn main() {
    println!("cargo::rerun-if-changed=shim");
    println!("cargo::rustc-check-cfg=cfg(dpdk)");
    match bind() {
        Ok(version) => {
            println!("cargo::rustc-cfg=dpdk");
            println!("cargo::metadata=version={version}");
            println!("cargo::rustc-env=DPDK_VERSION={version}");
        }
        Err(missing) => {
            println!("cargo::rustc-env=DPDK_MISSING={missing}");
            // What never is there has changed whenever it is looked for: so what is installed later is found.
            println!("cargo::rerun-if-changed=installed");
        }
    }
}

/// The version that was found, or what to do.
fn bind() -> Result<String, String> {
    let library = pkg_config::Config::new()
        .atleast_version(OLDEST)
        .cargo_metadata(false)
        .probe("libdpdk")
        .map_err(|_| {
            format!("DPDK {OLDEST} or newer is not installed: install libdpdk-dev (Debian), dpdk-devel (Fedora)")
        })?;
    if !has_libclang() {
        return Err(
            "its headers cannot be read: install libclang-dev (Debian), clang-devel (Fedora)"
                .into(),
        );
    }
    // Whoever builds DPDK himself may leave it out.
    let folder = pkg_config::get_variable("libdpdk", "libdir").unwrap_or_default();
    if !Path::new(&folder).join(format!("lib{DRIVER}.so")).exists() {
        return Err(format!("{DRIVER} is not part of it: build DPDK with its driver net/ring"));
    }
    // Headers of DPDK assume the instructions that it was built for.
    let mut flags = vec!["-include", "rte_config.h"];
    if env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64") {
        flags.push("-march=corei7");
    }
    let includes: Vec<String> =
        library.include_paths.iter().map(|path| format!("-I{}", path.display())).collect();
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo says where"));
    write_bindings(&out, flags.iter().map(ToString::to_string).chain(includes).collect());
    let mut shim = cc::Build::new();
    shim.files(["shim/shim.c", "shim/bare.c"]).includes(&library.include_paths).warnings(false);
    for flag in &flags {
        shim.flag(flag);
    }
    shim.compile("unet_dpdk_shim");
    for path in &library.link_paths {
        println!("cargo::rustc-link-search=native={}", path.display());
    }
    // Newer releases have another set: only what is there is linked.
    for name in LIBRARIES.iter().filter(|name| library.libs.iter().any(|lib| lib == *name)) {
        println!("cargo::rustc-link-lib=dylib={name}");
    }
    println!("cargo::rustc-link-lib=dylib={DRIVER}");
    Ok(library.version)
}

fn write_bindings(out: &Path, flags: Vec<String>) {
    let bindings = bindgen::builder()
        .header("shim/shim.h")
        .clang_args(flags)
        .allowlist_type(TYPES)
        .allowlist_function(FUNCTIONS)
        .allowlist_var(VALUES)
        // Packed and aligned at once, which Rust has not.
        .opaque_type("rte_arp_.*|rte_l2tpv2_.*|rte_gtp_psc_.*|rte_ether_hdr")
        .derive_default(true)
        .layout_tests(false)
        .generate_comments(false)
        .prepend_enum_name(false)
        .generate()
        .expect("DPDK's headers are read");
    bindings.write_to_file(out.join("bindings.rs")).expect("the build's folder can be written to");
}

/// Whether bindgen finds its library: it ends the build where it does not.
fn has_libclang() -> bool {
    std::panic::catch_unwind(bindgen::clang_version).is_ok()
}
