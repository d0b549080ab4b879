//! Schemas of the served kinds: which members there are and what they hold, for strict decoding,
//! pruning, strategic merge patches and apply; documents for clients are made in [`crate::openapi`].
//!
//! Nothing is built before it is asked for; then the schemas stay, a few hundred bytes a type.

mod arena;
mod check;
mod document;
mod facts;
mod types;
mod view;

use std::sync::OnceLock;

pub use arena::{ApplyFacts, Arena, Field, Node, Struct};
pub use check::check_fields;
pub(crate) use check::check_metadata;
pub use document::{duplicate_fields, parse, read};
pub(crate) use facts::{FieldFacts, SchemaFacts, of as facts_of};
pub use types::GROUP_VERSIONS;
pub(crate) use view::metadata as metadata_view;
pub use view::{View, view};

/// The schemas by which a group version's objects are read; `None` where it is not served.
pub fn arena(group: &str, version: &str) -> Option<&'static Arena> {
    static ARENA: OnceLock<Arena> = OnceLock::new();
    let is_served = GROUP_VERSIONS.contains(&(group, version));
    is_served.then(|| ARENA.get_or_init(|| Arena::build(&types::all_definitions())))
}

/// Generated schemas by name, before the facts are merged in.
pub(crate) fn definitions(group: &str, version: &str) -> Option<serde_json::Map<String, serde_json::Value>> {
    types::definitions(group, version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_schema() {
        for kind in crate::ALL {
            let names = kind.names();
            let arena = arena(names.group, names.version).expect("served");
            let root = arena.root(names.kind).unwrap_or_else(|| panic!("{} has a schema", names.kind));
            assert!(arena.get(root).field("metadata").is_some(), "{}", names.kind);
        }
        for names in crate::VIRTUAL {
            let arena = arena(names.group, names.version).expect("served");
            assert!(arena.root(names.kind).is_some(), "{}", names.kind);
        }
        for (group, version) in GROUP_VERSIONS {
            assert!(arena(group, version).is_some());
            assert!(definitions(group, version).is_some());
        }
        assert!(arena("", "v2").is_none());
    }

    #[test]
    fn patch_facts_reach_the_fields() {
        let arena = arena("", "v1").expect("served");
        let Node::Struct(spec) = arena.get(arena.root("Pod").expect("a kind")).field("spec").expect("a member").node else {
            panic!("a struct");
        };
        let containers = arena.get(spec).field("containers").expect("a member");
        assert!(containers.merges);
        assert_eq!(&*containers.merge_key, "name");
        assert!(!arena.get(spec).field("tolerations").expect("a member").merges);
    }
}
