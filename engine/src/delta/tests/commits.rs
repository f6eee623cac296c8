//! Racing and repeated commits.
