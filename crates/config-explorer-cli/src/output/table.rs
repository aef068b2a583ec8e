//! Rows under headings.

use comfy_table::{CellAlignment, ContentArrangement, presets};

/// Rows under headings; the headings are the field names of the JSON form.
pub(crate) struct Table {
    headings: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// No rows yet.
    pub(crate) fn new<const COLUMNS: usize>(headings: [&str; COLUMNS]) -> Self {
        Self { headings: headings.map(str::to_owned).into(), rows: Vec::new() }
    }

    /// Adds a row, one cell for each heading.
    pub(crate) fn push<const COLUMNS: usize>(&mut self, row: [String; COLUMNS]) {
        debug_assert_eq!(COLUMNS, self.headings.len());
        self.rows.push(row.into());
    }

    /// For people: fitted to the terminal, numbers to the right.
    pub(crate) fn draw(&self) -> String {
        if self.rows.is_empty() {
            return "nothing found\n".to_owned();
        }
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(self.headings.iter().map(|heading| heading.replace('_', " ").to_uppercase()));
        table.add_rows(&self.rows);
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, 2));
            let is_number = |cell: &String| cell.is_empty() || cell.parse::<f64>().is_ok();
            if self.rows.iter().all(|row| is_number(&row[index])) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table.trim_fmt() + "\n"
    }

    /// For a document.
    pub(crate) fn markdown(&self) -> String {
        let line = |cells: &[String]| {
            let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', r"\|").replace('\n', " ")).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let rule = vec!["---".to_owned(); self.headings.len()];
        let rows = self.rows.iter().map(Vec::as_slice);
        [self.headings.as_slice(), &rule].into_iter().chain(rows).map(line).collect()
    }

    /// For a spreadsheet.
    pub(crate) fn csv(&self) -> anyhow::Result<String> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(&self.headings)?;
        for row in &self.rows {
            writer.write_record(row)?;
        }
        Ok(String::from_utf8(writer.into_inner()?)?)
    }
}
