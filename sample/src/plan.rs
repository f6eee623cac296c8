//! How many rows of each file a delivery has.

use crate::catalogue;
use crate::json::Layout;

/// What to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Everything random follows from it.
    pub seed: u64,
    /// Layout of the JSON dumps. It changes no record.
    pub layout: Layout,
    /// Rows of streams.csv, the same each day.
    pub streams: u64,
    /// Records of reviews.json, the same each day.
    pub reviews: u64,
    /// Rows of users.csv on the first day.
    pub users: usize,
    /// Rows of movies.csv on the first day.
    pub movies: usize,
    /// Records of authors.json on the first day.
    pub authors: usize,
    /// Records of books.json on the first day.
    pub books: usize,
}

/// The smallest size of a day in bytes.
pub const SMALLEST: u64 = 200_000;

impl Plan {
    /// The plan of days of `size` bytes each, with the dumps as arrays: half of it streams, 3.9 rows to a kB, and half reviews,
    /// 0.65 records to a kB, whatever the layout. The other files grow with the square root of the size.
    ///
    /// # Errors
    /// If the size is too small to hold every kind of row.
    pub fn of_size(size: u64, seed: u64, layout: Layout) -> Result<Self, String> {
        if size < SMALLEST {
            return Err(format!("a day of {size} bytes is too small: it takes at least {} kB", SMALLEST / 1_000));
        }
        let scale = usize::try_from((size / 10_000).isqrt()).unwrap_or(usize::MAX);
        let grow = |least: usize, step: usize, most: usize| least.saturating_add(scale.saturating_mul(step)).min(most);
        Ok(Self {
            seed,
            layout,
            streams: (u128::from(size) * 39 / 10_000) as u64,
            reviews: (u128::from(size) * 65 / 100_000) as u64,
            users: grow(0, 40, catalogue::MOST_USERS / 2),
            movies: grow(30, 2, catalogue::MOST_MOVIES / 2),
            authors: grow(20, 8, catalogue::MOST_AUTHORS / 2),
            books: grow(20, 5, catalogue::MOST_BOOKS / 2),
        })
    }

    /// The plan of the sample that is kept beside the pipeline's example.
    pub fn sample(seed: u64, layout: Layout) -> Self {
        Self { seed, layout, streams: 2_000, reviews: 150, users: 320, movies: 48, authors: 61, books: 60 }
    }

    /// How many of a small file's `first` rows there are on a day (from 1): 2 % more each day, up to twice as many.
    pub fn grown(first: usize, day: u64) -> usize {
        let days = usize::try_from(day.saturating_sub(1)).unwrap_or(usize::MAX);
        first + (first.div_ceil(50).saturating_mul(days)).min(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gigabyte_has_the_benchmarks_rows() {
        let plan = Plan::of_size(1_000_000_000, 7, Layout::Ndjson).unwrap();
        assert_eq!((plan.streams, plan.reviews), (3_900_000, 650_000));
    }

    #[test]
    fn the_small_files_never_outgrow_their_lists() {
        let plan = Plan::of_size(u64::MAX, 7, Layout::Array).unwrap();
        for day in [1, 2, 51, 1_000, u64::MAX] {
            assert!(Plan::grown(plan.users, day) <= catalogue::MOST_USERS);
            assert!(Plan::grown(plan.movies, day) <= catalogue::MOST_MOVIES);
            assert!(Plan::grown(plan.authors, day) <= catalogue::MOST_AUTHORS);
            assert!(Plan::grown(plan.books, day) <= catalogue::MOST_BOOKS);
        }
        assert!(Plan::of_size(199_999, 7, Layout::Array).is_err());
    }
}
