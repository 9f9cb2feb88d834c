//! `forebay tap`: prints records of a running pipeline's topic, and follows them.

use std::collections::BTreeMap;
use std::time::Duration;

use forebay_schemas::api::{RecordView, Records, Topics};
use forebay_schemas::offset::{Offset, Partition};

use crate::api_client::{ApiClient, Target};
use crate::error::CliError;
use crate::global::Global;
use crate::output::Output;
use crate::runtime::block_on;

/// How often a follower asks for new records.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum number of records of one partition in one answer.
const MAX_RECORDS: u16 = 1_000;

/// Flags of `tap`.
#[derive(clap::Args)]
#[command(after_help = "\
Values that [api] mask names are printed as ***. Nothing is consumed: the group's offsets do \
not change.

Examples:
  forebay tap                                      the last ten records
  forebay tap --last 100 --json | jq .value.name
  forebay tap --partition 0 --from 1200 --limit 5
  forebay tap --follow                             keep printing new records")]
pub(crate) struct Args {
    /// Only this partition
    #[arg(long)]
    partition: Option<u32>,
    /// First offset of the partition to print
    #[arg(long, value_name = "OFFSET", requires = "partition", conflicts_with = "last")]
    from: Option<u64>,
    /// Number of records from the end, up to 1000
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    last: u16,
    /// Maximum number of records with --from, up to 1000
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    limit: u16,
    /// Keep printing new records
    #[arg(long, short = 'f')]
    follow: bool,
    #[command(flatten)]
    target: Target,
}

/// Runs the command.
pub(crate) fn tap(global: &Global, output: &Output, args: &Args) -> Result<(), CliError> {
    let client = args.target.client(global)?;
    block_on(async {
        // Taken before the first read, so that no record in between is missed.
        let mut next = if args.follow { end_offsets(&client, args.partition).await? } else { BTreeMap::new() };
        let mut query = match args.from {
            Some(from) => vec![("from", from.to_string()), ("limit", args.limit.to_string())],
            None => vec![("last", args.last.to_string())],
        };
        query.extend(args.partition.map(|partition| ("partition", partition.to_string())));
        let first: Records = client.get(&["v1", "records"], &query).await?;
        show(output, &first.records, &mut next);
        if !args.follow {
            return Ok(());
        }
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            for (partition, end) in end_offsets(&client, args.partition).await? {
                let from = next.get(&partition).copied().unwrap_or_default();
                if end > from {
                    let query = [("partition", partition.to_string()), ("from", from.to_string()), ("limit", MAX_RECORDS.to_string())];
                    let more: Records = client.get(&["v1", "records"], &query).await?;
                    show(output, &more.records, &mut next);
                }
            }
        }
    })
}

/// The end offset of each partition.
async fn end_offsets(client: &ApiClient, partition: Option<u32>) -> Result<BTreeMap<Partition, Offset>, CliError> {
    let topics: Topics = client.get(&["v1", "topics"], &[]).await?;
    let of_records = topics.topics.iter().filter(|topic| topic.kind == "records").flat_map(|topic| &topic.partitions);
    let wanted = of_records.filter(|view| partition.is_none_or(|wanted| i64::from(wanted) == i64::from(view.partition)));
    Ok(wanted.map(|view| (view.partition, view.end)).collect())
}

fn show(output: &Output, records: &[RecordView], next: &mut BTreeMap<Partition, Offset>) {
    for record in records {
        next.entry(record.partition).and_modify(|next| *next = (*next).max(record.offset + 1));
        if output.json() {
            output.print_json(record);
        } else {
            let cut = if record.truncated { "…" } else { "" };
            let key = record.key.as_deref().unwrap_or("-");
            let left_out =
                record.headers_left_out.map_or_else(String::new, |count| format!("  ({count} headers whose names are not UTF-8)"));
            output.print(&format!("p{}:{}  key {key}  {}{cut}{left_out}", record.partition, record.offset, record.value));
        }
    }
}
