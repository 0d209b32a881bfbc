//! Tables for people: rows under headings, in columns as wide as needed.

use super::{Style, text};

/// A table. Every row has one cell for each heading. Cells are escaped when they are added, so `render` is safe to print.
#[derive(Debug, Clone, Default)]
pub struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

#[derive(Debug, Clone)]
struct Cell {
    text: String,
    style: Option<Style>,
}

impl Table {
    /// An empty table.
    pub fn new(headings: impl IntoIterator<Item = &'static str>) -> Self {
        Self { headings: headings.into_iter().collect(), rows: Vec::new() }
    }

    /// Adds a row with one cell for each heading.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl AsRef<str>>) {
        self.styled_row(cells.into_iter().map(|cell| (cell, None)));
    }

    /// Adds a row of cells with optional styles.
    pub fn styled_row(&mut self, cells: impl IntoIterator<Item = (impl AsRef<str>, Option<Style>)>) {
        let cell = |(text, style): (_, _)| Cell { text: text::line(AsRef::<str>::as_ref(&text)).into_owned(), style };
        self.rows.push(cells.into_iter().map(cell).collect());
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The lines of the table, headings first, with two spaces between columns and none at the end of a line.
    pub fn render(&self, colour: bool) -> Vec<String> {
        let widths: Vec<usize> = (0..self.headings.len()).map(|column| self.column_width(column)).collect();
        let headings = self.headings.iter().map(|text| Cell { text: (*text).into(), style: Some(Style::Dim) });
        let headings: Vec<Cell> = headings.collect();
        std::iter::once(&headings).chain(&self.rows).map(|row| render_row(row, &widths, colour)).collect()
    }

    fn column_width(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.text.as_str());
        cells.chain([self.headings[column]]).map(text::width).max().unwrap_or(0)
    }
}

/// One line. Gaps are written before a cell, not after it, so that empty cells at the end leave no spaces.
fn render_row(row: &[Cell], widths: &[usize], colour: bool) -> String {
    let mut line = String::new();
    let mut gap = 0;
    for (cell, width) in row.iter().zip(widths) {
        if !cell.text.is_empty() {
            line.extend(std::iter::repeat_n(' ', gap));
            gap = 0;
            match cell.style {
                Some(style) => line.push_str(&style.paint(colour, &cell.text)),
                None => line.push_str(&cell.text),
            }
        }
        gap += width.saturating_sub(text::width(&cell.text)) + 2;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_by_what_the_terminal_shows() {
        let mut table = Table::new(["NAME", "ZONE", "LAG"]);
        table.row(["n1", "", "3"]);
        table.row(["日本", "east", "0"]);
        assert_eq!(table.render(false), ["NAME  ZONE  LAG", "n1          3", "日本  east  0"]);
    }

    #[test]
    fn colour_does_not_move_columns_and_cells_are_cleaned() {
        let mut table = Table::new(["A", "B"]);
        table.styled_row([("x\u{1b}", Some(Style::Bad)), ("y", None)]);
        assert_eq!(table.render(true)[1], "\u{1b}[1;31mx\\x1b\u{1b}[0m  y");
    }
}
