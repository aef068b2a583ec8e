//! The `config-explorer` program.

fn main() {}
