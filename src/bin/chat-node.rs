//! A replica.

fn main() {}
