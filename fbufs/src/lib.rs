//! Message buffers.
