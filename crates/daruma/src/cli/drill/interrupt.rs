//! Ctrl-C, for work that must end in order.
#![expect(clippy::disallowed_methods, reason = "signals arrive on a thread of their own, whatever the main one does")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

/// Whether somebody asked to stop. Clones share it.
#[derive(Clone, Default)]
pub struct Interrupt {
    asked: Arc<AtomicBool>,
    told: Arc<Notify>,
}

impl Interrupt {
    /// Listens for SIGINT and SIGTERM from now on, on a thread of its own. A second one ends the process at once.
    pub fn listen() -> Result<Self> {
        let interrupt = Self::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let told = interrupt.clone();
        let (ready, listening) = std::sync::mpsc::channel();
        thread::spawn(move || {
            runtime.block_on(async {
                let signals = signal(SignalKind::interrupt()).and_then(|int| Ok((int, signal(SignalKind::terminate())?)));
                // The receiver waits for this one answer.
                let Ok((mut int, mut term)) = signals else { return };
                let _ = ready.send(());
                for count in 0.. {
                    tokio::select! {
                        biased;
                        _ = int.recv() => {}
                        _ = term.recv() => {}
                    }
                    if count == 1 {
                        eprintln!("ended at once; `daruma drill undo` takes back what is broken");
                        std::process::exit(130);
                    }
                    eprintln!("stopping: everything is taken back (once more to stop at once)");
                    told.asked.store(true, Ordering::SeqCst);
                    told.told.notify_waiters();
                }
            });
        });
        listening.recv().context("listening for signals")?;
        Ok(interrupt)
    }

    /// Whether somebody asked.
    pub fn asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }

    /// Completes when somebody asks.
    pub async fn wait(&self) {
        loop {
            let told = self.told.notified();
            if self.asked() {
                return;
            }
            told.await;
        }
    }
}
