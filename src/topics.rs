//! `forebay topics`: the topic and the dead-letter topic of a running pipeline.

use forebay_schemas::api::Topics;
use forebay_schemas::snapshot::PartitionView;

use crate::Global;
use crate::api_client::Target;
use crate::end::End;
use crate::talk::Talk;

/// Flags of `topics`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  forebay topics                                   a line a partition
  forebay topics --json | jq '.topics[0].partitions[].end'")]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
}

/// Runs the command.
pub(crate) fn topics(global: &Global, talk: &Talk, args: &Args) -> Result<(), End> {
    let client = args.target.client(global)?;
    let topics: Topics = crate::block_on(client.get(&["v1", "topics"], &[]))?;
    if talk.json() {
        talk.data(&serde_json::to_string(&topics).expect("topics are JSON"));
        return Ok(());
    }
    for topic in &topics.topics {
        for partition in &topic.partitions {
            let PartitionView { partition: number, begin, end, written, .. } = partition;
            let reading = if topic.kind == "records" {
                let written = if *written < 0 { "?".to_owned() } else { written.to_string() };
                format!("  written {written}  lag {}", partition.lag())
            } else {
                String::new()
            };
            talk.data(&format!("{} p{number}  [{begin}..{end})  {} records{reading}", topic.name, end - begin));
        }
    }
    Ok(())
}
