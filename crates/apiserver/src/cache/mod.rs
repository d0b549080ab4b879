//! The watch cache: for each resource the current objects, recent changes and everybody who watches.
//!
//! One watch of the store feeds all resources, so that the revision up to which everything has been
//! seen is one number. A resource's objects are loaded when they are first asked for.

mod feed;
mod filter;
mod history;
mod placed;
mod resource_cache;
mod watcher;

pub use feed::Feed;
pub use filter::Filter;
pub use resource_cache::{Change, NOT_LOADED, ResourceCache, Snapshot, TooOld};
pub use watcher::{Delivery, EventType, Watcher, whole_frame};
