//! The virtual world as its users see it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod disk;
mod executor;
mod links;
mod machines;
mod scopes;
mod sockets;
mod stepping;
mod wire;

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use daruma_client::{Body, Transport, TransportError, full_body};
use daruma_sim::{Boot, Handler, Machine, MachineSpec, Scope, Universe};
use daruma_world::World;
use http::{Request, Response};
use http_body_util::BodyExt;

/// Milliseconds.
const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Seconds.
const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn spec(name: &str, last: u8) -> MachineSpec {
    MachineSpec {
        name: name.to_owned(),
        address: Ipv4Addr::new(10, 0, 0, last),
        cpu_millis: 2000,
        memory_bytes: 1 << 30,
        disk_bytes: 1 << 30,
        boot_time: s(5),
    }
}

/// The machines `a` (10.0.0.1), `b` (10.0.0.2), …, each of which shows what runs on it.
#[derive(Clone)]
struct Stage {
    universe: Arc<Universe>,
    running: Arc<Mutex<Vec<Machine>>>,
}

impl Stage {
    fn new(seed: u64, machines: &[&str]) -> Self {
        let universe = Universe::new(seed);
        let running: Arc<Mutex<Vec<Machine>>> = Arc::default();
        for (place, name) in machines.iter().enumerate() {
            let list = running.clone();
            let boot: Boot = Arc::new(move |machine: Machine| {
                let mut list = list.lock().unwrap();
                list.retain(|one: &Machine| one.name() != machine.name());
                list.push(machine);
                Box::pin(std::future::pending())
            });
            universe.add_machine(spec(name, place as u8 + 1), boot).unwrap();
        }
        Self { universe: Arc::new(universe), running }
    }

    fn machine(&self, name: &str) -> Machine {
        self.running.lock().unwrap().iter().find(|machine| machine.name() == name).unwrap().clone()
    }

    /// Gives all machines power and runs `main`.
    fn run<F: Future>(&self, main: impl FnOnce(Self, World) -> F) -> F::Output {
        let (machines, world) = (self.universe.machines(), self.universe.outside());
        let main = main(self.clone(), world.clone());
        let output = self.universe.run(async move {
            for machine in machines.list().await.unwrap() {
                machines.power_on(&machine.name).await.unwrap();
            }
            world.sleep(Duration::ZERO).await;
            main.await
        });
        self.running.lock().unwrap().clear();
        output
    }
}

/// Answers every request by `text`.
fn says(text: &'static str) -> Handler {
    Arc::new(move |_| Box::pin(async move { Response::new(full_body(text)) }))
}

fn transport(stage: &Stage, scope: &Scope, host: &str) -> Arc<dyn Transport> {
    stage.universe.wire().transport(scope, host, 80, http::Extensions::new())
}

fn get() -> Request<Body> {
    Request::new(daruma_client::empty_body())
}

/// Asks and reads the whole answer.
async fn ask(transport: &Arc<dyn Transport>) -> Result<String, TransportError> {
    let body = transport.call(get()).await?.into_body();
    let content: Bytes = body.collect().await.map_err(|error| TransportError(error.to_string()))?.to_bytes();
    Ok(String::from_utf8_lossy(&content).into_owned())
}
