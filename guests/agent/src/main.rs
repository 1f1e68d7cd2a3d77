//! What runs in the guests.
fn main() {}
