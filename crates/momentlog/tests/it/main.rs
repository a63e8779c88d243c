//! The library through its public calls.
