//! Sealed shared memory, rings, wait and wake.
