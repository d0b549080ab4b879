//! Components that are held back until a cluster has been loaded with a state that they are to find.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

/// Names of components whose processes start, but do nothing yet. Clones share it.
#[derive(Clone, Default)]
pub struct Gate {
    held: Arc<Mutex<BTreeSet<String>>>,
    opened: Arc<Notify>,
}

impl Gate {
    /// Holds a component back.
    pub fn hold(&self, component: &str) {
        self.held.lock().expect("no panic while held").insert(component.to_owned());
    }

    /// Lets everybody go on.
    pub fn open(&self) {
        self.held.lock().expect("no panic while held").clear();
        self.opened.notify_waiters();
    }

    /// Completes when nobody holds the component back.
    pub async fn pass(&self, component: &str) {
        loop {
            let opened = self.opened.notified();
            if !self.held.lock().expect("no panic while held").contains(component) {
                return;
            }
            opened.await;
        }
    }
}
