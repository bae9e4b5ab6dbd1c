//! Columns as kubectl aligns them. Knows nothing of what is in the cells.

/// Spaces between two columns.
const GAP: usize = 3;

/// Lines of a table: each column as wide as its longest cell, the last one open. An empty `headers` prints none.
#[must_use]
pub fn lines(headers: &[&str], rows: &[Vec<String>]) -> String {
    let headers: Vec<String> = headers.iter().map(|header| (*header).to_owned()).collect();
    let all: Vec<&Vec<String>> = std::iter::once(&headers).filter(|headers| !headers.is_empty()).chain(rows).collect();
    let columns = all.iter().map(|row| row.len()).max().unwrap_or_default();
    let width = |column: usize| all.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = width + GAP));
        cells.collect::<String>().trim_end().to_owned()
    };
    all.into_iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|cell| (*cell).to_owned()).collect()
    }

    #[test]
    fn columns_are_aligned_by_their_longest_cell_in_characters() {
        let table = lines(&["NAME", "PHASE"], &[row(&["a", "Running"]), row(&["operação", ""]), row(&["b", "x"])]);
        assert_eq!(table, "NAME       PHASE\na          Running\noperação\nb          x");
    }

    #[test]
    fn without_headers_only_rows_are_printed() {
        assert_eq!(lines(&[], &[row(&["a", "b"])]), "a   b");
        assert_eq!(lines(&[], &[]), "");
    }
}
