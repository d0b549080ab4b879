//! Clients that ask or write all the time while a drill runs. Every request is recorded.

mod destination;
mod dns;
mod http;
mod writer;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use daruma_world::Net;
use daruma_world::tasks::AbortOnDrop;
use futures::StreamExt;
use futures::future::{BoxFuture, Either, select};
use futures::stream::FuturesUnordered;

use crate::file::Probe;
use crate::record::Request;
use crate::scene::Scene;

pub(crate) use writer::{summary, verify};

/// Starts a probe; it ends when what is given is dropped.
pub(crate) fn start(scene: &Scene, probe: &Probe) -> AbortOnDrop {
    let (scene, probe) = (scene.clone(), Arc::new(probe.clone()));
    let world = scene.stage().world.clone();
    let work: BoxFuture<'static, ()> =
        if probe.is_writer() { Box::pin(writer::run(scene, probe)) } else { Box::pin(ask_for_ever(scene, probe)) };
    world.spawn("probe", work).abort_on_drop()
}

/// Asks at every tick, whether earlier requests are answered or not.
async fn ask_for_ever(scene: Scene, probe: Arc<Probe>) {
    let world = scene.stage().world.clone();
    let interval = probe.interval.duration();
    let started = world.monotonic();
    let mut waiting = FuturesUnordered::new();
    for count in 0u32.. {
        let mut tick = world.sleep((started + interval * count).saturating_sub(world.monotonic()));
        loop {
            if waiting.is_empty() {
                tick.await;
                break;
            }
            match select(tick, waiting.next()).await {
                Either::Left(_) => break,
                Either::Right((_, rest)) => tick = rest,
            }
        }
        waiting.push(ask(scene.clone(), probe.clone(), count as usize));
    }
}

/// One request.
async fn ask(scene: Scene, probe: Arc<Probe>, count: usize) {
    let world = scene.stage().world.clone();
    let (at_ms, started) = (scene.recorder().now_ms(), world.monotonic());
    let answer = match world.timeout(probe.timeout.duration(), answer(&scene, &probe, count)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer within {}", probe.timeout)),
    };
    let took_ms = world.monotonic().saturating_sub(started).as_millis() as u64;
    let (error, by) = match answer {
        Ok(by) => (None, by),
        Err(error) => (Some(error), String::new()),
    };
    scene.recorder().request(Request { at_ms, probe: probe.name.clone(), took_ms, error, by });
}

/// Who answered, where the answer tells.
async fn answer(scene: &Scene, probe: &Probe, count: usize) -> Result<String, String> {
    let net: Arc<dyn Net> = scene.hands().net(probe.from.as_deref()).map_err(|error| error.to_string())?;
    if let Some(http) = &probe.http {
        let to = destination::resolve(scene, &http.to, count)?;
        return http::get(&*net, to, &http.path, http.status).await;
    }
    if let Some(tcp) = &probe.tcp {
        let to = destination::resolve(scene, tcp, count)?;
        net.connect(to).await.map_err(|error| in_words(&error))?;
        return Ok(String::new());
    }
    if let Some(dns) = &probe.dns {
        let server: SocketAddr = dns.server.parse().map_err(|_| format!("{:?} is no address", dns.server))?;
        let id = scene.stage().world.random.below(u64::from(u16::MAX)) as u16;
        return dns::resolve(&*net, server, &dns.name, id).await;
    }
    Err("the probe asks nothing".to_owned())
}

/// The same words in either world.
fn in_words(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::Other => error.to_string(),
        kind => kind.to_string(),
    }
}

/// How long a writer pauses after a failed write.
const PAUSE: Duration = Duration::from_millis(100);
