//! How objects lie in the store: keys, the stored form without resourceVersion, and what is read
//! out of it without decoding the whole.

pub mod documents;
pub mod extract;
pub mod item;
pub mod keys;
pub mod splice;

pub use documents::RecentDocuments;
pub use extract::Extractor;
pub use item::Item;
pub use splice::{Head, Renew, write_partial};
