//! The user's client.

fn main() {}
