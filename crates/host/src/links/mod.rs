//! Links, addresses and routes by route netlink.

mod changes;

use std::io;
use std::path::{Path, PathBuf};

use daruma_world::links::{Change, Link, LinkAddress, Links, ListedRoute};
use futures::future::BoxFuture;

use crate::netlink::namespace::run_inside;
use crate::netlink::{Socket, address, link, route};

/// Links of the network namespace that this process lives in, and of any other by its path.
#[derive(Debug, Clone, Default)]
pub struct LinuxLinks {
    own: Option<PathBuf>,
}

impl LinuxLinks {
    /// Needs CAP_NET_ADMIN for changes, CAP_SYS_ADMIN for other namespaces.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the namespace at `path` for the machine's own.
    pub fn inside(path: PathBuf) -> Self {
        Self { own: Some(path) }
    }

    fn answer<T: Send + 'static>(
        &self,
        namespace: Option<&Path>,
        work: impl FnOnce(&mut Socket) -> io::Result<T> + Send + 'static,
    ) -> Answer<T> {
        let namespace = namespace.map(Path::to_path_buf).or_else(|| self.own.clone());
        Box::pin(run_inside(namespace, move || work(&mut Socket::route()?)))
    }
}

type Answer<T> = BoxFuture<'static, io::Result<T>>;

impl Links for LinuxLinks {
    fn apply(&self, namespace: Option<&Path>, changes: Vec<Change>) -> Answer<()> {
        self.answer(namespace, move |socket| {
            changes.iter().try_for_each(|change| {
                changes::carry_out(socket, change)
                    .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", changes::describe(change))))
            })
        })
    }

    fn list_links(&self, namespace: Option<&Path>) -> Answer<Vec<Link>> {
        self.answer(namespace, link::list)
    }

    fn list_addresses(&self, namespace: Option<&Path>) -> Answer<Vec<LinkAddress>> {
        self.answer(namespace, address::list)
    }

    fn list_routes(&self, namespace: Option<&Path>) -> Answer<Vec<ListedRoute>> {
        self.answer(namespace, route::list)
    }
}
