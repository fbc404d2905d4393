//! The kernel's UDP as a device: needs nothing but a socket.
