//! The last batches: how many records, and where their time went.

use forebay_schemas::snapshot::{BatchView, Snapshot};

use super::grid::{Cell, Column, Grid};
use crate::text;
use crate::theme::{Role, Theme};

/// The longest bar, in columns.
const BAR: usize = 12;

/// A row a batch, newest first, the bars on one scale.
pub(crate) fn grid(look: &Snapshot, theme: &Theme) -> Grid {
    let columns = vec![
        Column::right("batch", 0),
        Column::right("ago", 6),
        Column::right("records", 0),
        Column::right("rows", 5),
        Column::right("rejected", 3),
        Column::right("took", 0),
        Column::left("wait transform write", 1),
    ];
    let longest = look.batches.iter().map(took).max().unwrap_or(0);
    let row = |batch: &BatchView| {
        vec![
            Cell::from(batch.id.to_string()),
            Cell::from(text::ago(look.at - batch.at)),
            Cell::from(text::count(batch.records)),
            Cell::from(text::count(batch.rows)),
            Cell::new(text::count(batch.rejected), if batch.rejected > 0 { Role::Warn } else { Role::Muted }),
            Cell::from(text::micros(took(batch))),
            bar(batch, longest, theme),
        ]
    };
    Grid { columns, least: 20, rows: look.batches.iter().map(row).collect() }
}

fn took(batch: &BatchView) -> u64 {
    batch.wait_micros + batch.transform_micros + batch.write_micros
}

/// A bar of the three stages, then their numbers.
fn bar(batch: &BatchView, longest: u64, theme: &Theme) -> Cell {
    let stages = [(batch.wait_micros, Role::Wait), (batch.transform_micros, Role::Transform), (batch.write_micros, Role::Write)];
    let mut cell = Cell::default();
    let (mut passed, mut drawn) = (0, 0);
    for ((micros, role), sign) in stages.into_iter().zip(theme.signs.stages) {
        passed += micros;
        // The end of each stage is rounded, not its length, so that the whole bar is right.
        let end = (passed * BAR as u64 + longest / 2).checked_div(longest).map_or(0, |end| usize::try_from(end).unwrap_or(BAR));
        cell = cell.and(sign.repeat(end.saturating_sub(drawn)), role);
        drawn = end.max(drawn);
    }
    let numbers = stages.map(|(micros, _)| text::micros(micros).trim_end_matches(" ms").to_owned());
    cell.and(format!("{} {}", if drawn == 0 { theme.signs.level } else { "" }, numbers.join(" ")), Role::Muted)
}

/// One batch in a sentence.
pub(crate) fn sentence(batch: &BatchView) -> String {
    format!(
        "batch {} at {}: {} records, {} rows, {} rejected; wait {}, transform {}, write {}",
        batch.id,
        batch.at.format("%H:%M:%S%.3f"),
        text::count(batch.records),
        text::count(batch.rows),
        text::count(batch.rejected),
        text::micros(batch.wait_micros),
        text::micros(batch.transform_micros),
        text::micros(batch.write_micros),
    )
}
