//! Aligned tables of text without borders.

use comfy_table::{CellAlignment, Table, presets};

use crate::output::printable;

/// Side of a column that its text is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// A table whose cells come row by row.
pub struct Grid {
    table: Table,
}

impl Grid {
    /// A table with these columns.
    pub fn new(columns: &[(&str, Align)]) -> Self {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        table.set_header(columns.iter().map(|(name, _)| printable(name)));
        for (column, (_, align)) in table.column_iter_mut().zip(columns) {
            column.set_padding((0, 2));
            column.set_cell_alignment(match align {
                Align::Left => CellAlignment::Left,
                Align::Right => CellAlignment::Right,
            });
        }
        Self { table }
    }

    /// Adds a row.
    pub fn row<S: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.table.add_row(cells.into_iter().map(|cell| printable(cell.as_ref())));
    }

    /// The text: a line for the column names and one for each row, no line's end at the end.
    pub fn text(&self) -> String {
        self.table.lines().map(|line| line.trim_end().to_string()).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut grid = Grid::new(&[("name", Align::Left), ("rows", Align::Right)]);
        grid.row(["é", "1"]);
        grid.row(["two\nlines", "1,000"]);
        assert_eq!(grid.text(), "name         rows\né               1\ntwo\\nlines  1,000");
    }
}
