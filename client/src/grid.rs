//! Aligned tables of text without borders, folded where the terminal ends; or one column a line.

use std::{io, os::fd::AsRawFd, sync::OnceLock};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use crate::output::printable;

/// Columns of a terminal that does not say how many it has.
const USUAL_WIDTH: u16 = 80;
/// Columns that a folded column of an answer needs, for words to be read in it; below, records are written one column a line.
const READABLE: usize = 12;

/// Side of a column that its text is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Where a table's lines end.
#[derive(Debug, Clone, Copy, Default)]
pub struct Layout {
    /// Columns of the terminal; none: lines are as long as they are.
    pub width: Option<u16>,
    /// One column a line, always.
    pub vertical: bool,
}

static LAYOUT: OnceLock<Layout> = OnceLock::new();

impl Layout {
    /// What suits stdout: a terminal's width, or what COLUMNS says. A file or pipe has none.
    pub fn stdout(vertical: bool) -> Self {
        let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.trim().parse().ok());
        Self { width: width_of_stdout().or(columns).filter(|width| *width > 0), vertical }
    }

    /// Makes this the layout of all tables from now on; the first call counts.
    pub fn establish(self) {
        LAYOUT.set(self).ok();
    }

    fn established() -> Self {
        LAYOUT.get().copied().unwrap_or_default()
    }
}

fn width_of_stdout() -> Option<u16> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes a winsize to where its third argument points, which is one.
    let asked = unsafe { libc::ioctl(io::stdout().as_raw_fd(), libc::TIOCGWINSZ, &mut size) };
    (asked == 0).then_some(if size.ws_col == 0 { USUAL_WIDTH } else { size.ws_col })
}

/// A table whose cells come row by row.
pub struct Grid {
    names: Vec<String>,
    aligns: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Grid {
    /// A table with these columns.
    pub fn new(columns: &[(&str, Align)]) -> Self {
        let names = columns.iter().map(|(name, _)| printable(name)).collect();
        Self { names, aligns: columns.iter().map(|(_, align)| *align).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row<S: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(|cell| printable(cell.as_ref())).collect());
    }

    /// The text: a line for the column names and one for each row, no line's end at the end. What is wider than the terminal is folded.
    pub fn text(&self) -> String {
        let layout = Layout::established();
        if layout.vertical { self.vertical() } else { self.table(layout.width) }
    }

    /// The same for any number of columns: one column a line where folded ones could not be read.
    pub fn text_of_any(&self) -> String {
        let layout = Layout::established();
        if layout.vertical || self.is_too_wide(layout.width) { self.vertical() } else { self.table(layout.width) }
    }

    fn is_too_wide(&self, width: Option<u16>) -> bool {
        let Some(width) = width.map(usize::from) else { return false };
        if self.names.len() * READABLE <= width {
            return false;
        }
        let widest = |at: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(at)).chain(self.names.get(at));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0) + 2
        };
        (0..self.names.len()).map(widest).sum::<usize>() > width + 2
    }

    fn table(&self, width: Option<u16>) -> String {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        if let Some(width) = width {
            table.set_content_arrangement(ContentArrangement::Dynamic);
            // The last column's padding is cut off.
            table.set_width(width.saturating_add(2));
        }
        table.set_header(&self.names);
        for (column, align) in table.column_iter_mut().zip(&self.aligns) {
            column.set_padding((0, 2));
            column.set_cell_alignment(match align {
                Align::Left => CellAlignment::Left,
                Align::Right => CellAlignment::Right,
            });
        }
        table.add_rows(&self.rows);
        table.lines().map(|line| line.trim_end().to_string()).collect::<Vec<_>>().join("\n")
    }

    fn vertical(&self) -> String {
        let width = self.names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        let line = |(name, cell): (&String, &String)| {
            format!("{name}{}  {cell}", " ".repeat(width - name.chars().count())).trim_end().to_string()
        };
        let record = |row: &Vec<String>| self.names.iter().zip(row).map(line).collect::<Vec<_>>().join("\n");
        if self.rows.is_empty() {
            return self.names.join("\n");
        }
        self.rows.iter().map(record).collect::<Vec<_>>().join("\n\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> Grid {
        let mut grid = Grid::new(&[("name", Align::Left), ("rows", Align::Right)]);
        grid.row(["é", "1"]);
        grid.row(["two\nlines", "1,000"]);
        grid
    }

    #[test]
    fn columns_are_aligned() {
        assert_eq!(grid().text(), "name         rows\né               1\ntwo\\nlines  1,000");
    }

    #[test]
    fn a_table_ends_where_the_terminal_does() {
        let mut grid = Grid::new(&[("name", Align::Left), ("text", Align::Left), ("n", Align::Right)]);
        grid.row(["short", &"a few words that are repeated ".repeat(9), "1,234"]);
        for width in [20, 80] {
            let text = grid.table(Some(width));
            let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(widest <= usize::from(width), "{widest} columns of {width}\n{text}");
        }
        assert_eq!(grid.table(None).lines().count(), 2);
        assert_eq!(self::grid().table(Some(80)), self::grid().table(None));
    }

    #[test]
    fn records_are_one_column_a_line() {
        assert_eq!(grid().vertical(), "name  é\nrows  1\n\nname  two\\nlines\nrows  1,000");
        assert!(!grid().is_too_wide(Some(18)) && grid().is_too_wide(Some(15)) && !grid().is_too_wide(None));
    }
}
