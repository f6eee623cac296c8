//! Sorting many short lists at once by comparisons that are costly one at a time.

use datafusion::common::Result;

/// A list that is being sorted: what is sorted already, and where in it the next item goes.
struct Progress {
    row: u32,
    sorted: Vec<u32>,
    next: u32,
    end: u32,
    low: usize,
    high: usize,
}

/// The order in which items stand once each list, one after the other so long, is sorted. `compare` gets pairs of items with their list's number,
/// of many lists at once, and says of each whether the first is less (-1), equal (0) or greater (1). Equal items keep their order.
pub(super) fn merge_by(
    lengths: &[usize],
    mut compare: impl FnMut(&[(u32, u32, u32)]) -> Result<Vec<i64>>,
) -> Result<Vec<u32>> {
    let mut start = 0;
    let mut lists: Vec<Progress> = lengths
        .iter()
        .enumerate()
        .map(|(row, length)| {
            let end = start + *length as u32;
            let sorted: Vec<u32> = (start..end).take(1).collect();
            let list = Progress { row: row as u32, low: 0, high: sorted.len(), sorted, next: start + 1, end };
            start = end;
            list
        })
        .collect();
    let mut open: Vec<usize> = (0..lists.len()).filter(|row| lists[*row].next < lists[*row].end).collect();
    while !open.is_empty() {
        let pairs: Vec<(u32, u32, u32)> = open
            .iter()
            .map(|row| {
                let list = &lists[*row];
                (list.next, list.sorted[(list.low + list.high) / 2], list.row)
            })
            .collect();
        let compared = compare(&pairs)?;
        for (row, order) in open.iter().zip(compared) {
            let list = &mut lists[*row];
            let middle = (list.low + list.high) / 2;
            if order < 0 {
                list.high = middle;
            } else {
                list.low = middle + 1;
            }
            if list.low == list.high {
                list.sorted.insert(list.low, list.next);
                list.next += 1;
                (list.low, list.high) = (0, list.sorted.len());
            }
        }
        open.retain(|row| lists[*row].next < lists[*row].end);
    }
    Ok(lists.into_iter().flat_map(|list| list.sorted).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lists_are_sorted_and_equal_items_keep_their_order(lists in prop::collection::vec(prop::collection::vec(0..5i64, 0..8), 0..5)) {
            let items: Vec<i64> = lists.iter().flatten().copied().collect();
            let lengths: Vec<usize> = lists.iter().map(Vec::len).collect();
            let order = merge_by(&lengths, |pairs| {
                Ok(pairs.iter().map(|(a, b, _)| (items[*a as usize] - items[*b as usize]).signum()).collect())
            }).unwrap();
            let mut expected = Vec::new();
            let mut start = 0u32;
            for length in lengths {
                let mut part: Vec<u32> = (start..start + length as u32).collect();
                part.sort_by_key(|i| items[*i as usize]);
                expected.extend(part);
                start += length as u32;
            }
            prop_assert_eq!(order, expected);
        }
    }
}
