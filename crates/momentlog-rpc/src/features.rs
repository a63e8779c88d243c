//! The features of the protocol that clients ask for.

/// That the peer answers pings: asked for before the connection is open.
pub(crate) const KEEPALIVE: i32 = 10;

/// That texts may be typed values, and that callbacks have numbers.
const TYPED_STRINGS: i32 = 9;
const NUMBERED_CALLBACKS: i32 = 14;

/// Whether a feature is there. Any number may be asked for.
pub(crate) fn has(feature: i32) -> bool {
    [KEEPALIVE, TYPED_STRINGS, NUMBERED_CALLBACKS].contains(&feature)
}
