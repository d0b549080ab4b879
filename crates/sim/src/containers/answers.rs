//! Ports of behaving containers. A port costs no task until somebody connects: the listener's waker
//! starts one.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use daruma_world::World;
use daruma_world::net::{Listener, Stream};
use futures::FutureExt;
use jiff::fmt::temporal::DateTimePrinter;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::log::Output;
use super::{Inner, lock};
use crate::behaviour::dns::DnsAnswers;
use crate::behaviour::http::{self, HttpAnswer, HttpAnswers};
use crate::behaviour::{Answers, Behaviour, Echo, Identity};
use crate::scope::Scope;

/// RFC 3339.
const TIME: DateTimePrinter = DateTimePrinter::new();
/// Longest datagram that is answered.
const DATAGRAM: usize = 1500;

/// An open TCP port. Closed when dropped.
pub(super) struct OpenPort(Arc<Port>);

impl Drop for OpenPort {
    fn drop(&mut self) {
        // The listener holds the waker, which holds the port.
        let listener = lock(&self.0.listener).take();
        drop(listener);
    }
}

struct Port {
    engine: Weak<Inner>,
    container: String,
    number: u16,
    behaviour: Arc<Behaviour>,
    scope: Scope,
    listener: Mutex<Option<Box<dyn Listener>>>,
}

impl Wake for Port {
    fn wake(self: Arc<Self>) {
        let port = self.clone();
        self.scope.spawn("container-port", async move { port.accept() });
    }
}

impl Port {
    /// Serves all that wait, and waits for the next.
    fn accept(self: &Arc<Self>) {
        let waker = Waker::from(self.clone());
        loop {
            let polled = match &mut *lock(&self.listener) {
                Some(listener) => listener.accept().poll_unpin(&mut Context::from_waker(&waker)),
                None => return,
            };
            match polled {
                Poll::Ready(Ok((stream, _))) => self.serve(stream),
                Poll::Ready(Err(_)) | Poll::Pending => return,
            }
        }
    }

    fn serve(self: &Arc<Self>, stream: Box<dyn Stream>) {
        let (port, world) = (self.clone(), self.scope.world());
        self.scope.spawn("container-connection", async move {
            // A client that goes away is its own business.
            let _ = match port.behaviour.ports.get(&port.number) {
                Some(Answers::Http(answers)) => http::serve(&world, stream, |path| port.answer(&world, answers, path)).await,
                Some(Answers::Tcp(echo)) => {
                    let delay = port.engine.upgrade().map_or(echo.delay, |engine| engine.answer_time(echo.delay));
                    send_back(&world, stream, Echo { delay }).await
                }
                Some(Answers::Dns(_)) | None => Ok(()),
            };
        });
    }

    fn answer(&self, world: &World, answers: &HttpAnswers, path: &str) -> HttpAnswer {
        let gone = || HttpAnswer { status: 503, ..HttpAnswer::default() };
        let Some(engine) = self.engine.upgrade() else { return gone() };
        let Some(identity) = engine.identity(&self.container) else { return gone() };
        let now = world.monotonic();
        let (ready, requests, uptime) = {
            let mut state = engine.state();
            let Some(record) = state.containers.get_mut(&self.container) else { return gone() };
            let (ready, uptime) = (record.is_ready(now), record.age(now));
            let requests = record.life.as_mut().map_or(0, |life| {
                life.requests += 1;
                life.requests
            });
            (ready, requests, uptime)
        };
        // Rounded to thousandths of a second.
        let uptime = uptime.saturating_add(Duration::from_micros(500));
        if let Some(line) = &answers.log
            && let Some(log) = engine.log_of(&self.container)
        {
            let line = identity.fill_with(line, |name, filled| {
                // Writing to a string does not fail.
                let _ = match name {
                    "REQUESTS" => write!(filled, "{requests}"),
                    "UPTIME" => write!(filled, "{}.{:03}", uptime.as_secs(), uptime.subsec_millis()),
                    "TIME" => return TIME.print_timestamp(&world.now(), filled).is_ok(),
                    _ => return false,
                };
                true
            });
            log.line(Output::Stdout, &line);
        }
        let answer = answers.answer(path, ready);
        let delay = engine.answer_time(answer.delay);
        HttpAnswer { body: identity.fill(&answer.body), delay, ..answer }
    }
}

async fn send_back(world: &World, mut stream: Box<dyn Stream>, echo: Echo) -> std::io::Result<()> {
    let mut buffer = vec![0; 4096];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return stream.shutdown().await;
        }
        if !echo.delay.is_zero() {
            world.sleep(echo.delay).await;
        }
        stream.write_all(&buffer[..count]).await?;
    }
}

impl Inner {
    /// Who a container is, for placeholders.
    pub(super) fn identity(&self, id: &str) -> Option<Identity> {
        let scope = self.scope();
        let place = scope.as_ref().map(|scope| &scope.inner.place);
        let state = self.state();
        let record = state.containers.get(id)?;
        let sandbox = &state.sandboxes.get(&record.container.sandbox_id)?.sandbox;
        let own = sandbox.addresses.first().copied();
        Some(Identity {
            pod_name: sandbox.config.name.clone(),
            node_name: place.and_then(|place| place.name.clone()).unwrap_or_default(),
            pod_ip: own.or_else(|| place.map(|place| place.address.into())),
        })
    }

    /// Opens a container's ports, once its start delay is over.
    pub(super) fn open_ports(self: &Arc<Self>, id: &str, behaviour: &Arc<Behaviour>) {
        if behaviour.start_delay.is_zero() {
            self.open_now(id, behaviour);
            return;
        }
        let (engine, container, behaviour) = (Arc::downgrade(self), id.to_owned(), behaviour.clone());
        self.spawn_in(id, "container-start", move |world| {
            Box::pin(async move {
                let Some(engine) = engine.upgrade() else { return };
                let delay = engine.slowed(behaviour.start_delay);
                engine.reach_age(&world, &container, delay).await;
                engine.open_now(&container, &behaviour);
            })
        });
    }

    fn open_now(self: &Arc<Self>, id: &str, behaviour: &Arc<Behaviour>) {
        let Some(scope) = self.process_scope(id) else { return };
        let world = scope.world();
        for (number, answers) in &behaviour.ports {
            let at = SocketAddr::from((Ipv4Addr::UNSPECIFIED, *number));
            let opened = match answers {
                // Binding never waits.
                Answers::Http(_) | Answers::Tcp(_) => world
                    .net
                    .listen(at)
                    .now_or_never()
                    .map(|bound| bound.map(|listener| self.keep_port(id, *number, behaviour, &scope, listener))),
                Answers::Dns(names) => world.net.bind_udp(at).now_or_never().map(|bound| {
                    bound.map(|socket| {
                        let names = names.clone();
                        scope.spawn("container-dns", answer_dns(socket, names));
                    })
                }),
            };
            if let Some(Err(error)) = opened {
                if let Some(log) = self.log_of(id) {
                    log.line(Output::Stderr, &format!("listen on port {number}: {error}"));
                }
                self.finish(id, 1, "Error");
                return;
            }
        }
    }

    fn keep_port(
        self: &Arc<Self>,
        id: &str,
        number: u16,
        behaviour: &Arc<Behaviour>,
        scope: &Scope,
        listener: Box<dyn Listener>,
    ) {
        let port = Arc::new(Port {
            engine: Arc::downgrade(self),
            container: id.to_owned(),
            number,
            behaviour: behaviour.clone(),
            scope: scope.clone(),
            listener: Mutex::new(Some(listener)),
        });
        port.accept();
        let open = OpenPort(port);
        if let Some(life) = self.state().containers.get_mut(id).and_then(|record| record.life.as_mut()) {
            life.ports.push(open);
        }
    }
}

async fn answer_dns(socket: Box<dyn daruma_world::net::Datagrams>, names: DnsAnswers) {
    let mut buffer = vec![0; DATAGRAM];
    while let Ok((count, from)) = socket.recv_from(&mut buffer).await {
        if let Some(answer) = names.answer(&buffer[..count]) {
            // A lost answer is asked for again.
            let _ = socket.send_to(&answer, from).await;
        }
    }
}
