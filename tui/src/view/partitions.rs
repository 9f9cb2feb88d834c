//! The partitions of the topic: what they hold, how far they are, what is missing.

use forebay_schemas::snapshot::PartitionView;

use super::grid::{Cell, Column, Grid};
use crate::state::Folded;
use crate::text;
use crate::theme::{Role, Theme};

/// A row a partition.
pub(crate) fn grid(folded: &Folded, _theme: &Theme) -> Grid {
    let columns = vec![
        Column::right("p", 0),
        Column::right("begin", 4),
        Column::right("end", 2),
        Column::right("written", 0),
        Column::right("committed", 3),
        Column::right("lag", 0),
        Column::right("r/s", 1),
        Column::left("state", 5),
    ];
    let row = |view: &PartitionView| {
        let lag = view.lag();
        vec![
            Cell::from(view.partition.to_string()),
            Cell::from(text::offset(view.begin)),
            Cell::from(text::offset(view.end)),
            Cell::from(text::offset(view.written)),
            Cell::from(text::offset(view.committed)),
            Cell::new(text::count(lag), if lag > 0 { Role::Title } else { Role::Muted }),
            Cell::from(folded.partition_rate(view.partition).map_or_else(|| "-".to_owned(), text::short)),
            state(view),
        ]
    };
    Grid { columns, least: 8, rows: folded.newest().map_or_else(Vec::new, |look| look.partitions.iter().map(row).collect()) }
}

/// Whether this process reads it.
pub(crate) fn state(view: &PartitionView) -> Cell {
    match (view.assigned, view.paused) {
        (_, true) => Cell::new("paused", Role::Warn),
        (true, false) => Cell::new("reading", Role::Good),
        (false, false) => Cell::new("other", Role::Muted),
    }
}
