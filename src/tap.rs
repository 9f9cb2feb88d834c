//! `forebay tap`: records of a running pipeline's topic, the last ones and those that come.

use std::collections::BTreeMap;
use std::time::Duration;

use forebay_schemas::api::{RecordView, Records, Topics};
use forebay_schemas::offset::{Offset, Partition};

use crate::Global;
use crate::api_client::{ApiClient, Target};
use crate::end::End;
use crate::talk::Talk;

/// From one look for new records to the next.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Records of one partition in one look.
const MOST: u16 = 1_000;

/// Flags of `tap`.
#[derive(clap::Args)]
#[command(after_help = "\
What [api] mask of the pipeline file names is shown as ***. Nothing is consumed: the group's offsets stay where they are.

Examples:
  forebay tap                                      the last ten
  forebay tap --last 100 --json | jq .value.name
  forebay tap --partition 0 --from 1200 --limit 5
  forebay tap --follow                             and then what comes")]
pub(crate) struct Args {
    /// Only this partition
    #[arg(long)]
    partition: Option<u32>,
    /// From this offset of the partition on
    #[arg(long, value_name = "OFFSET", requires = "partition", conflicts_with = "last")]
    from: Option<u64>,
    /// The last so many
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    last: u16,
    /// How many at most, with --from
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    limit: u16,
    /// Go on with what comes
    #[arg(long)]
    follow: bool,
    #[command(flatten)]
    target: Target,
}

/// Runs the command.
pub(crate) fn tap(global: &Global, talk: &Talk, args: &Args) -> Result<(), End> {
    let client = args.target.client(global)?;
    crate::block_on(async {
        // Before the first look, so that nothing that comes in between is missed.
        let mut next = if args.follow { ends(&client, args.partition).await? } else { BTreeMap::new() };
        let mut query = match args.from {
            Some(from) => vec![("from", from.to_string()), ("limit", args.limit.to_string())],
            None => vec![("last", args.last.to_string())],
        };
        query.extend(args.partition.map(|partition| ("partition", partition.to_string())));
        let first: Records = client.get(&["v1", "records"], &query).await?;
        show(talk, &first.records, &mut next);
        if !args.follow {
            return Ok(());
        }
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            for (partition, end) in ends(&client, args.partition).await? {
                let from = next.get(&partition).copied().unwrap_or_default();
                if end > from {
                    let query = [("partition", partition.to_string()), ("from", from.to_string()), ("limit", MOST.to_string())];
                    let more: Records = client.get(&["v1", "records"], &query).await?;
                    show(talk, &more.records, &mut next);
                }
            }
        }
    })
}

/// The offset that the next record of each partition gets.
async fn ends(client: &ApiClient, partition: Option<u32>) -> Result<BTreeMap<Partition, Offset>, End> {
    let topics: Topics = client.get(&["v1", "topics"], &[]).await?;
    let of_records = topics.topics.iter().filter(|topic| topic.kind == "records").flat_map(|topic| &topic.partitions);
    let wanted = of_records.filter(|view| partition.is_none_or(|wanted| i64::from(wanted) == i64::from(view.partition)));
    Ok(wanted.map(|view| (view.partition, view.end)).collect())
}

fn show(talk: &Talk, records: &[RecordView], next: &mut BTreeMap<Partition, Offset>) {
    for record in records {
        next.entry(record.partition).and_modify(|next| *next = (*next).max(record.offset + 1));
        if talk.json() {
            talk.data(&serde_json::to_string(record).expect("a record is JSON"));
        } else {
            let cut = if record.truncated { "…" } else { "" };
            let key = record.key.as_deref().unwrap_or("-");
            let left_out =
                record.headers_left_out.map_or_else(String::new, |count| format!("  ({count} headers whose names are not UTF-8)"));
            talk.data(&format!("p{}:{}  key {key}  {}{cut}{left_out}", record.partition, record.offset, record.value));
        }
    }
}
