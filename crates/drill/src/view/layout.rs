//! Columns as kubectl's table writer lays them out (Go text/tabwriter with width 6 and padding 3).

/// Pads all but the last cell of each line.
pub(crate) fn lay_out(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let longest = lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max();
        (longest.unwrap_or_default() + 3).max(6)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |cells: &Vec<String>| {
        let mut text = String::new();
        for (index, cell) in cells.iter().enumerate() {
            text.push_str(cell);
            if index + 1 < cells.len() {
                let padding = widths[index] - cell.chars().count();
                text.extend(std::iter::repeat_n(' ', padding));
            }
        }
        text
    };
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}
