//! AF_XDP sockets as a device: a queue of an interface mapped into this process.
