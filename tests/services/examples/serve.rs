//! Starts Kafka and Cassandra for manual use, prints their addresses, and stops them on Enter or at
//! the end of stdin: `cargo run -p forebay-test-services --example serve [-- --bench]`.
#![allow(clippy::print_stdout, reason = "a command line program")]

use forebay_test_services::{Cassandra, CommitlogSync, Kafka, Size};

fn main() -> std::io::Result<()> {
    let size = if std::env::args().any(|argument| argument == "--bench") { Size::Bench } else { Size::Test };
    let kafka = Kafka::start_sized(size, Some(9092));
    println!("kafka      {}  log {}", kafka.bootstrap(), kafka.log().display());
    let cassandra = Cassandra::start_sized(CommitlogSync::Periodic, size, Some(9042));
    println!("cassandra  {}  log {}", cassandra.contact_point(), cassandra.log().display());
    println!("Enter stops both and removes their data.");
    std::io::stdin().read_line(&mut String::new()).map(|_| ())
}
