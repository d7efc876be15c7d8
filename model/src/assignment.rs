//! Who gets what, so that all together have the most of it.
//!
//! In: how much each row makes of each column. Out: a column for each row, none twice. Pure; the
//! Hungarian method, in time that grows with rows² · columns.

/// A column for each row, with the greatest sum of weights. There must be as many columns as rows, or
/// more.
pub(crate) fn assign(
    rows: usize,
    columns: usize,
    weight: impl Fn(usize, usize) -> i128,
) -> Vec<usize> {
    assert!(columns >= rows, "each row gets a column");
    // Potentials of rows and columns, and the row that has a column; all but the columns' place 0,
    // which the row under way has, are counted from 1.
    let (mut of_row, mut of_column) = (vec![0i128; rows + 1], vec![0i128; columns + 1]);
    let (mut owner, mut way) = (vec![0usize; columns + 1], vec![0usize; columns + 1]);
    for row in 1..=rows {
        owner[0] = row;
        let mut at = 0;
        let mut least = vec![i128::MAX; columns + 1];
        let mut is_used = vec![false; columns + 1];
        while owner[at] != 0 {
            is_used[at] = true;
            let (from, mut step, mut next) = (owner[at], i128::MAX, 0);
            for column in (1..=columns).filter(|column| !is_used[*column]) {
                let cost = -weight(from - 1, column - 1) - of_row[from] - of_column[column];
                if cost < least[column] {
                    (least[column], way[column]) = (cost, at);
                }
                if least[column] < step {
                    (step, next) = (least[column], column);
                }
            }
            for column in 0..=columns {
                if is_used[column] {
                    of_row[owner[column]] += step;
                    of_column[column] -= step;
                } else if column > 0 {
                    least[column] -= step;
                }
            }
            at = next;
        }
        while at != 0 {
            owner[at] = owner[way[at]];
            at = way[at];
        }
    }
    let mut assigned = vec![0; rows];
    for (column, row) in owner.iter().skip(1).enumerate() {
        if let Some(row) = row.checked_sub(1) {
            assigned[row] = column;
        }
    }
    assigned
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The greatest sum there is, by trying all.
    fn best(weights: &[Vec<i128>], row: usize, taken: u32) -> i128 {
        let Some(of_row) = weights.get(row) else { return 0 };
        let free = of_row.iter().enumerate().filter(|(column, _)| taken & (1 << column) == 0);
        let sums =
            free.map(|(column, weight)| weight + best(weights, row + 1, taken | 1 << column));
        sums.max().expect("a free column")
    }

    proptest! {
        #[test]
        fn no_other_assignment_has_more(
            rows in 0usize..5, more in 0usize..3, seed in proptest::collection::vec(-9i128..99, 40)
        ) {
            let columns = rows + more;
            let weights: Vec<Vec<i128>> =
                (0..rows).map(|row| seed[row * 7..row * 7 + columns].to_vec()).collect();
            let assigned = assign(rows, columns, |row, column| weights[row][column]);
            let mut taken = assigned.clone();
            taken.sort_unstable();
            taken.dedup();
            prop_assert_eq!(taken.len(), rows);
            let sum: i128 = assigned.iter().enumerate().map(|(row, at)| weights[row][*at]).sum();
            prop_assert_eq!(sum, best(&weights, 0, 0));
        }
    }
}
