//! Packet rules by nf_tables netlink; connections by conntrack netlink.
//!
//! Every change is one transaction: the kernel takes all of it or nothing.

mod batch;
mod connections;
pub(crate) mod expressions;

use std::io;
use std::path::PathBuf;

use daruma_world::packet_rules::{Change, Connection, PacketRules, Protocol, Table};
use futures::future::BoxFuture;

use crate::netlink::namespace::run_inside;
use crate::netlink::{Socket, nf_tables};

/// Rules of one network namespace.
#[derive(Debug, Clone, Default)]
pub struct NfTables {
    namespace: Option<PathBuf>,
}

type Answer<T> = BoxFuture<'static, io::Result<T>>;

impl NfTables {
    /// Rules of the namespace that this process lives in. Needs CAP_NET_ADMIN.
    pub fn new() -> Self {
        Self::default()
    }

    /// Rules of the namespace at `path`. Needs CAP_SYS_ADMIN too.
    pub fn inside(path: PathBuf) -> Self {
        Self { namespace: Some(path) }
    }

    fn answer<T: Send + 'static>(&self, work: impl FnOnce(&mut Socket) -> io::Result<T> + Send + 'static) -> Answer<T> {
        Box::pin(run_inside(self.namespace.clone(), move || work(&mut Socket::netfilter()?)))
    }
}

impl PacketRules for NfTables {
    fn replace_table(&self, name: &str, table: Table) -> Answer<()> {
        let name = name.to_owned();
        self.answer(move |socket| {
            let mut batch = batch::Batch::new(&name);
            batch.remake_table();
            for change in &table.creation() {
                batch.add(change);
            }
            batch.commit(socket).map_err(|error| while_doing(&error, &format!("replace packet rules {name}")))
        })
    }

    fn change_table(&self, name: &str, changes: Vec<Change>) -> Answer<()> {
        let name = name.to_owned();
        self.answer(move |socket| {
            if changes.is_empty() {
                return Ok(());
            }
            let mut batch = batch::Batch::new(&name);
            for change in &changes {
                batch.add(change);
            }
            batch.commit(socket).map_err(|error| while_doing(&error, &format!("change packet rules {name}")))
        })
    }

    fn delete_table(&self, name: &str) -> Answer<()> {
        let name = name.to_owned();
        self.answer(move |socket| {
            let mut batch = batch::Batch::new(&name);
            batch.delete_table();
            batch.commit(socket).map_err(|error| while_doing(&error, &format!("delete packet rules {name}")))
        })
    }

    fn table_identity(&self, name: &str) -> Answer<Option<u64>> {
        let name = name.to_owned();
        self.answer(move |socket| nf_tables::table_handle(socket, &name))
    }

    fn connections(&self, protocol: Protocol) -> Answer<Vec<Connection>> {
        self.answer(move |socket| connections::list(socket, protocol))
    }

    fn forget_connections(&self, connections: Vec<Connection>) -> Answer<()> {
        self.answer(move |socket| connections.iter().try_for_each(|connection| connections::forget(socket, connection)))
    }
}

fn while_doing(error: &io::Error, what: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}
