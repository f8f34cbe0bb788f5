//! The commands of the project: test, tidy, bench, docgen.

fn main() {}
