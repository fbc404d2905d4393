//! AF_XDP sockets as a device: a queue of an interface mapped into this process.

mod kernel_routes;

pub use kernel_routes::KernelRoutes;
