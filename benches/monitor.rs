//! What the monitor costs: folding a million events and a day of looks, and drawing with 64 partitions.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "it is a bench")]

fn main() {
    let folds = forebay_tui::bench::run(1_000_000, 64);
    for line in folds {
        println!("{line}");
    }
}
