//! Aligned rows for panels and for the plain status, as wide as their content or as the terminal
//! allows.

use forebay_schemas::printable;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::text;
use crate::theme::{Role, Theme};

/// A column: title, alignment, and drop order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    title: &'static str,
    right: bool,
    /// The column with the highest number is dropped first; 0 is never dropped.
    drop: u8,
}

impl Column {
    /// A column of text, aligned left.
    pub(crate) const fn left(title: &'static str, drop: u8) -> Self {
        Self { title, right: false, drop }
    }

    /// A column of numbers, aligned right.
    pub(crate) const fn right(title: &'static str, drop: u8) -> Self {
        Self { title, right: true, drop }
    }
}

/// A cell: pieces of text with their styles.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cell(Vec<(String, CellStyle)>);

/// A role, or a plain style.
#[derive(Debug, Clone, Copy)]
enum CellStyle {
    Role(Role),
    Style(Style),
}

impl Cell {
    pub(crate) fn new(text: impl Into<String>, role: Role) -> Self {
        Self::default().and(text, role)
    }

    pub(crate) fn and(mut self, text: impl Into<String>, role: Role) -> Self {
        self.0.push((printable(&text.into()).into_owned(), CellStyle::Role(role)));
        self
    }

    /// Appends a piece with its own style.
    pub(crate) fn and_styled(mut self, (text, style): (&str, Style)) -> Self {
        match self.0.last_mut() {
            Some((last, CellStyle::Style(before))) if *before == style => last.push_str(text),
            _ => self.0.push((text.to_owned(), CellStyle::Style(style))),
        }
        self
    }

    fn width(&self) -> usize {
        self.0.iter().map(|(text, _)| text::width(text)).sum()
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::new(text, Role::Text)
    }
}

/// Rows and columns. The last column takes the remaining width and is cut at its end.
#[derive(Debug, Default)]
pub(crate) struct Grid {
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<Vec<Cell>>,
    /// The minimum width of the last column; below that another column is dropped.
    pub(crate) min_last: usize,
}

/// The columns between two columns.
const COLUMN_GAP: usize = 2;

impl Grid {
    /// The width without cuts.
    pub(crate) fn width(&self) -> usize {
        let widths = self.widths(None);
        widths.iter().flatten().sum::<usize>() + COLUMN_GAP * widths.len().saturating_sub(1)
    }

    /// The titles and the rows, in `width` columns, or as wide as the content.
    pub(crate) fn lines(&self, width: Option<usize>, theme: &Theme) -> Vec<Line<'static>> {
        let widths = self.widths(width);
        let titles: Vec<_> = self.columns.iter().map(|column| Cell::new(column.title, Role::Muted)).collect();
        std::iter::once(&titles).chain(&self.rows).map(|row| self.line(row, &widths, theme)).collect()
    }

    /// The width of each column; `None` for a dropped one.
    fn widths(&self, width: Option<usize>) -> Vec<Option<usize>> {
        let natural = |at: usize, column: &Column| {
            let cells = self.rows.iter().filter_map(|row| row.get(at)).map(Cell::width);
            cells.max().unwrap_or(0).max(text::width(column.title))
        };
        let mut widths: Vec<_> =
            self.columns.iter().enumerate().map(|(at, column)| Some(natural(at, column)).filter(|&wide| wide > 0)).collect();
        let Some(width) = width else { return widths };
        let last = widths.len().saturating_sub(1);
        loop {
            let shown = widths.iter().flatten().count();
            let before: usize = widths[..last].iter().flatten().sum();
            let taken = before + COLUMN_GAP * shown.saturating_sub(1);
            let wanted = widths.get(last).copied().flatten().unwrap_or(0);
            let droppable = (0..widths.len()).filter(|&at| widths[at].is_some() && self.columns[at].drop > 0);
            let next = droppable.max_by_key(|&at| self.columns[at].drop);
            match next {
                Some(at) if taken + wanted.min(self.min_last) > width => widths[at] = None,
                _ => {
                    if let Some(Some(last)) = widths.get_mut(last) {
                        *last = wanted.min(width.saturating_sub(taken));
                    }
                    return widths;
                }
            }
        }
    }

    fn line(&self, row: &[Cell], widths: &[Option<usize>], theme: &Theme) -> Line<'static> {
        let mut spans = Vec::new();
        let shown = || self.columns.iter().zip(widths).enumerate().filter_map(|(at, (column, width))| Some((at, column, (*width)?)));
        let end = widths.iter().rposition(Option::is_some);
        for (at, column, width) in shown() {
            let cell = row.get(at).cloned().unwrap_or_default();
            let pad = width.saturating_sub(cell.width());
            if column.right {
                spans.push(Span::raw(" ".repeat(pad)));
            }
            let mut room = width;
            for (piece, snapshot) in cell.0 {
                let piece = text::cut(&piece, room, theme.symbols.cut);
                room -= text::width(&piece);
                let style = match snapshot {
                    CellStyle::Role(role) => theme.style(role),
                    CellStyle::Style(style) => style,
                };
                spans.push(Span::styled(piece, style));
            }
            if Some(at) != end {
                spans.push(Span::raw(" ".repeat(COLUMN_GAP + if column.right { 0 } else { pad })));
            }
        }
        spans.retain(|span| !span.content.is_empty());
        Line::from(spans)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::theme::Options;

    fn plain(grid: &Grid, width: Option<usize>) -> Vec<String> {
        grid.lines(width, &Theme::new(Options { ascii: true, ..Options::default() })).iter().map(ToString::to_string).collect()
    }

    fn grid() -> Grid {
        let row = |p: &str, lag: &str, note: &str| vec![Cell::from(p.to_owned()), Cell::from(lag.to_owned()), Cell::from(note.to_owned())];
        Grid {
            columns: vec![Column::left("p", 0), Column::right("lag", 1), Column::left("note", 0)],
            rows: vec![row("0", "1,073", "paused for want of budget"), row("10", "8", "")],
            min_last: 8,
        }
    }

    #[test]
    fn columns_are_aligned_and_as_wide_as_their_content() {
        assert_eq!(plain(&grid(), None), ["p     lag  note", "0   1,073  paused for want of budget", "10      8  "]);
    }

    #[test]
    fn the_last_column_is_cut_before_columns_are_dropped_in_order() {
        assert_eq!(plain(&grid(), Some(22))[1], "0   1,073  paused fo..");
        assert_eq!(plain(&grid(), Some(14))[1], "0   paused f..");
        let mut numbers = grid();
        numbers.columns = vec![Column::right("p", 0), Column::right("lag", 1), Column::left("note", 2)];
        assert_eq!(plain(&numbers, Some(10))[1], " 0  1,073", "the last column is dropped first if it has the highest number");
    }

    #[test]
    fn no_width_panics() {
        for width in 0..40 {
            let _ = plain(&grid(), Some(width));
        }
    }
}
