//! The cost of the monitor: folding a million events and a day of snapshots, and drawing 64
//! partitions.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark prints")]

fn main() {
    let folds = forebay_tui::bench::run(1_000_000, 64);
    for line in folds {
        println!("{line}");
    }
}
