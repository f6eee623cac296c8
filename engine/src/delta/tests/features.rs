//! Tables that others made: what is read, what is refused, and how.
