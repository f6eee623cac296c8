//! Makes raw deliveries in exactly the shape of the books-and-movies pipeline's sources: JSON dumps of a vendor (authors,
//! books, reviews) and CSV full loads of an application database (streams, users, movies).
//!
//! Every byte follows from the [`Plan`](plan::Plan) and the seed: no clock, no floating point, no random library. Each row
//! is computed from its own key, so memory stays the same whatever the size, and a later day can change a row of an
//! earlier one without looking it up. Text, titles and names are of our own making.

pub mod bytes;
pub mod catalogue;
pub mod delivery;
pub mod json;
pub mod keys;
pub mod month;
pub mod output;
pub mod permutation;
pub mod plan;
pub mod random;
pub mod reviews;
pub mod sessions;
pub mod streams;
pub mod vendor;
#[rustfmt::skip] // word lists, several to a line
pub mod vocabulary;
