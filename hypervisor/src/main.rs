//! The bare-metal image.
fn main() {}
