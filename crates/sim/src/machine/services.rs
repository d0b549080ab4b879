//! Services that a machine's init keeps running.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use daruma_world::machines::{MachineError, Signal};
use futures::FutureExt;
use futures::future::select;
use tokio::sync::Notify;

use super::ServiceMain;
use super::hardware::VirtualHardware;
use crate::clock::Sleep;
use crate::scope::Scope;

/// Pause between a service's end and its next start: `RestartSec=10` of kubeadm's kubelet unit.
const RESTART: Duration = Duration::from_secs(10);
/// What a service gets between SIGTERM and SIGKILL: systemd `DefaultTimeoutStopSec`.
const PATIENCE: Duration = Duration::from_secs(90);

#[derive(Default)]
struct State {
    running: Option<Scope>,
    is_paused: bool,
    /// Not to be started again.
    is_held: bool,
    main: Option<ServiceMain>,
}

struct Service {
    name: String,
    state: Mutex<State>,
    changed: Notify,
}

impl Service {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What init does for the service, as long as init lives.
    async fn keep(self: Arc<Self>, init: Scope, hardware: Arc<VirtualHardware>) {
        loop {
            let main = {
                let state = self.state();
                if state.is_held { None } else { state.main.clone() }
            };
            let Some(main) = main else {
                self.changed.notified().await;
                continue;
            };
            if !hardware.can_fork() {
                // Fork fails with EAGAIN, and systemd tries again.
                select(Sleep::new(&init.inner, RESTART), std::pin::pin!(self.changed.notified())).await;
                continue;
            }
            let scope = init.child(&self.name);
            {
                let mut state = self.state();
                state.running = Some(scope.clone());
                state.is_paused = false;
            }
            scope.spawn_main("service", main(scope.clone()));
            scope.ended().await;
            self.state().running = None;
            if !self.state().is_held {
                let pause = Sleep::new(&init.inner, RESTART);
                select(pause, std::pin::pin!(self.changed.notified())).await;
            }
        }
    }

    async fn stop(&self, init: &Scope) {
        let running = {
            let mut state = self.state();
            state.is_held = true;
            state.running.clone()
        };
        let Some(scope) = running else { return };
        scope.terminate();
        self.go_on();
        // Whoever waits here stands outside; the patience is init's.
        let patience = Sleep::new(&init.inner, PATIENCE);
        select(scope.ended(), patience).await;
        scope.kill();
    }

    /// Ends a pause.
    fn go_on(&self) {
        let paused = {
            let mut state = self.state();
            if std::mem::take(&mut state.is_paused) { state.running.clone() } else { None }
        };
        if let Some(scope) = paused {
            scope.resume();
        }
    }
}

/// All services of one machine during one power-on.
#[derive(Default)]
pub(super) struct Services {
    by_name: Mutex<BTreeMap<String, Arc<Service>>>,
}

impl Services {
    fn by_name(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Service>>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn keep(&self, init: &Scope, hardware: &Arc<VirtualHardware>, name: &str, main: ServiceMain) {
        let mut services = self.by_name();
        if let Some(service) = services.get(name) {
            service.state().main = Some(main);
            service.changed.notify_one();
            return;
        }
        let state = State { main: Some(main), ..State::default() };
        let service = Arc::new(Service { name: name.to_owned(), state: Mutex::new(state), changed: Notify::new() });
        services.insert(name.to_owned(), service.clone());
        init.spawn_boxed("init keeps a service", service.keep(init.clone(), hardware.clone()).boxed());
    }

    /// Sends a signal; completes when it has done what it does at once, and for a kill or stop at the end.
    pub(super) async fn signal(&self, init: &Scope, name: &str, signal: Signal) -> Result<(), MachineError> {
        let service = {
            let services = self.by_name();
            services.get(name).cloned().ok_or_else(|| {
                let known: Vec<&str> = services.keys().map(String::as_str).collect();
                MachineError::State(format!("there is no service {name:?}; there are {}", known.join(", ")))
            })?
        };
        let (running, is_held) = {
            let state = service.state();
            (state.running.clone().filter(|scope| !scope.is_dead()), state.is_held)
        };
        let refused = |why: &str| Err(MachineError::State(format!("{name} {why}")));
        match (signal, running) {
            (Signal::Start, Some(_)) => return refused("runs already"),
            (Signal::Start, None) => {
                service.state().is_held = false;
                service.changed.notify_one();
            }
            (Signal::Stop, None) if is_held => return refused("is stopped already"),
            (Signal::Stop, _) => service.stop(init).await,
            (_, None) if is_held => return refused("is stopped"),
            (_, None) => return refused("does not run now; it is started again in a moment"),
            (Signal::Kill, Some(scope)) => scope.kill(),
            (Signal::Terminate, Some(scope)) => scope.terminate(),
            (Signal::Pause, Some(scope)) => {
                let was_paused = std::mem::replace(&mut service.state().is_paused, true);
                if !was_paused {
                    scope.pause();
                }
            }
            (Signal::Continue, Some(_)) => service.go_on(),
        }
        Ok(())
    }

    /// Lets go of what they would run, once nobody will start them again: it may know the machine that they belong to.
    pub(super) fn forget(&self) {
        let services = std::mem::take(&mut *self.by_name());
        for service in services.into_values() {
            let main = service.state().main.take();
            drop(main);
        }
    }

    /// Stops all of them, at the same time.
    pub(super) async fn stop_all(&self, init: &Scope) {
        let services: Vec<Arc<Service>> = self.by_name().values().cloned().collect();
        futures::future::join_all(services.iter().map(|service| service.stop(init))).await;
    }
}
