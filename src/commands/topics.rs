//! `forebay topics`: prints the partitions of the topic and the dead-letter topic.

use forebay_schemas::api::Topics;
use forebay_schemas::offset::Offset;
use forebay_schemas::snapshot::PartitionView;

use crate::api_client::Target;
use crate::error::CliError;
use crate::global::Global;
use crate::output::Output;
use crate::runtime::block_on;

/// Flags of `topics`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  forebay topics                                   one line per partition
  forebay topics --json | jq '.topics[0].partitions[].end'")]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
}

/// Runs the command.
pub(crate) fn topics(global: &Global, output: &Output, args: &Args) -> Result<(), CliError> {
    let client = args.target.client(global)?;
    let topics: Topics = block_on(client.get(&["v1", "topics"], &[]))?;
    if output.json() {
        output.print_json(&topics);
        return Ok(());
    }
    for topic in &topics.topics {
        for partition in &topic.partitions {
            let &PartitionView { partition: number, begin, end, written, .. } = partition;
            let progress = if topic.kind == "records" {
                let written = if written == Offset::UNKNOWN { "?".to_owned() } else { written.to_string() };
                format!("  written {written}  lag {}", partition.lag())
            } else {
                String::new()
            };
            output.print(&format!("{} p{number}  [{begin}..{end})  {} records{progress}", topic.name, end - begin));
        }
    }
    Ok(())
}
