//! Where the simulated network meets the real one: a machine of the universe with the API server's name and address.
//!
//! Requests of kubelets travel to it over the simulated wire, and from it to the real API server over the HTTPS transport
//! that each request carries; requests of the API server to a kubelet's port travel the other way. So a cut cable between
//! a node and the controller, or a node without power, is silence for the real API server too.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use daruma_client::connection::{Handler, Peer};
use daruma_client::{Body, BodyError, Transport, TransportError, full_body, stream_body};
use daruma_cluster::shape::{API_SERVER_PORT, Shape};
use daruma_sim::{Injector, Machine, MachineSpec, Scope, Universe, Wire};
use daruma_world::machines::MachineError;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Extensions, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::platform::Shown;

/// Frames of an answer that wait for a slow reader.
const WAITING: usize = 16;

/// The real transport of a request, in its extensions.
#[derive(Clone)]
pub struct Through(pub Arc<dyn Transport>);

/// Why the real transport failed, in the extensions of the answer that stands for it.
#[derive(Clone)]
struct Failed(String);

type Answer = Result<Response<mpsc::Receiver<Result<Bytes, BodyError>>>, TransportError>;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Gateway {
    wire: Wire,
    injector: Injector,
    scope: Arc<OnceLock<Scope>>,
}

impl Gateway {
    /// Adds the machine; its power is given later, and never taken.
    ///
    /// # Errors
    /// The universe has such a machine already.
    pub fn add(universe: &Universe, shape: &Shape, runtime: &Handle) -> Result<Self, MachineError> {
        let scope = Arc::new(OnceLock::new());
        let gateway = Self { wire: universe.wire(), injector: universe.injector(), scope };
        let address = shape.api_server();
        let controller = shape.machines.iter().find(|machine| machine.address == address);
        let spec = MachineSpec {
            name: controller.map(|machine| machine.name.clone()).unwrap_or_default(),
            address,
            cpu_millis: shape.cpu_millis,
            memory_bytes: shape.memory_bytes,
            disk_bytes: 1 << 20,
            boot_time: std::time::Duration::ZERO,
        };
        let (here, runtime) = (gateway.clone(), runtime.clone());
        let boot = move |machine: Machine| {
            here.serve(&machine, &runtime);
            futures::future::ready(()).boxed()
        };
        universe.add_machine(spec, Arc::new(boot))?;
        Ok(gateway)
    }

    fn serve(&self, machine: &Machine, runtime: &Handle) {
        let runtime = runtime.clone();
        let handler = move |mut request: Request<Body>| {
            let through = request.extensions_mut().remove::<Through>();
            outwards(through, runtime.clone(), request).boxed()
        };
        let at = SocketAddr::from((Ipv4Addr::UNSPECIFIED, API_SERVER_PORT));
        let scope = machine.init();
        if let Err(error) = self.wire.serve(&scope, at, Arc::new(handler)) {
            tracing::error!(%error, "the gateway cannot listen");
        }
        // It is given power once.
        let _ = self.scope.set(scope);
    }

    /// The handler of the real HTTPS server that stands for the kubelet of the machine `node` at `to`.
    pub fn inwards(&self, node: &str, to: SocketAddr) -> Handler {
        let (gateway, node) = (self.clone(), Arc::<str>::from(node));
        Arc::new(move |request: Request<Body>, peer: &Peer| {
            let (gateway, node, shown) = (gateway.clone(), node.clone(), Shown(peer.clone()));
            async move {
                let (sender, answer) = oneshot::channel();
                let Some(scope) = gateway.scope.get().cloned() else { return unavailable(&node, "it is starting") };
                let wire = gateway.wire.clone();
                gateway.injector.inject(carry(wire, scope, to, shown, request, sender).boxed());
                match answer.await {
                    Ok(Ok(response)) => response.map(body_of),
                    Ok(Err(error)) => unavailable(&node, &error.to_string()),
                    Err(_) => unavailable(&node, "the simulation has ended"),
                }
            }
            .boxed()
        })
    }
}

fn body_of(chunks: mpsc::Receiver<Result<Bytes, BodyError>>) -> Body {
    stream_body(futures::stream::unfold(chunks, |mut chunks| async move { chunks.recv().await.map(|chunk| (chunk, chunks)) }))
}

fn unavailable(node: &str, why: &str) -> Response<Body> {
    let mut response = Response::new(full_body(format!("the simulated node {node} does not answer: {why}\n")));
    *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
    response
}

/// A request of a kubelet: a task of the universe waits for one of the real world.
async fn outwards(through: Option<Through>, runtime: Handle, request: Request<Body>) -> Response<Body> {
    let failed = |why: String| {
        let mut response = Response::new(daruma_client::empty_body());
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        response.extensions_mut().insert(Failed(why));
        response
    };
    let Some(Through(transport)) = through else { return failed("nobody says who is calling".into()) };
    // What kubelets send is small, and all of it is there soon.
    let (parts, body) = request.into_parts();
    let content = match body.collect().await {
        Ok(content) => content.to_bytes(),
        Err(error) => return failed(error.to_string()),
    };
    let (mut sender, answer) = oneshot::channel();
    runtime.spawn(async move {
        let call = transport.call(Request::from_parts(parts, full_body(content)));
        let answered = tokio::select! {
            biased;
            () = sender.closed() => return,
            answered = call => answered,
        };
        pass_on(answered, sender).await;
    });
    match answer.await {
        Ok(Ok(response)) => response.map(body_of),
        Ok(Err(error)) => failed(error.0),
        Err(_) => failed("the process is ending".into()),
    }
}

/// A request of the real API server to a kubelet, as a task of the universe.
async fn carry(
    wire: Wire,
    scope: Scope,
    to: SocketAddr,
    shown: Shown,
    mut request: Request<Body>,
    sender: oneshot::Sender<Answer>,
) {
    let mut extensions = Extensions::new();
    extensions.insert(shown);
    let transport = wire.transport(&scope, &to.ip().to_string(), to.port(), extensions);
    let outer = request.extensions_mut().remove::<OnUpgrade>();
    let mut answered = transport.call(request).await;
    if let (Ok(response), Some(outer)) = (&mut answered, outer)
        && response.status() == StatusCode::SWITCHING_PROTOCOLS
    {
        scope.spawn("upgraded", join(outer, hyper::upgrade::on(response)));
    }
    pass_on(answered, sender).await;
}

/// Joins two connections that have become something else than HTTP.
async fn join(outer: OnUpgrade, inner: OnUpgrade) {
    if let (Ok(outer), Ok(inner)) = futures::future::join(outer, inner).await {
        // How it ends concerns those at the ends.
        let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(outer), &mut TokioIo::new(inner)).await;
    }
}

/// Hands an answer over, then its body frame by frame for as long as somebody reads it.
async fn pass_on(answered: Result<Response<Body>, TransportError>, sender: oneshot::Sender<Answer>) {
    let response = match answered {
        Ok(response) => response,
        // Whoever asked may be gone.
        Err(error) => return drop(sender.send(Err(error))),
    };
    let (parts, mut body) = response.into_parts();
    let (chunks, reader) = mpsc::channel(WAITING);
    if sender.send(Ok(Response::from_parts(parts, reader))).is_err() {
        return;
    }
    loop {
        let frame = tokio::select! {
            biased;
            () = chunks.closed() => return,
            frame = body.frame() => frame,
        };
        let chunk = match frame {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => Ok(data),
                Err(_) => continue,
            },
            Some(Err(error)) => Err(error),
            None => return,
        };
        if chunks.send(chunk).await.is_err() {
            return;
        }
    }
}

/// A kubelet's transport to the API server: over the wire to the gateway, and on.
pub struct Outward {
    wire: Arc<dyn Transport>,
    through: Arc<dyn Transport>,
}

impl Outward {
    /// From `scope` by way of `through`, which leads to the same server at `host` and `port`.
    pub fn new(wire: &Wire, scope: &Scope, host: &str, port: u16, through: Arc<dyn Transport>) -> Self {
        let mut extensions = Extensions::new();
        extensions.insert(Through(through.clone()));
        Self { wire: wire.transport(scope, host, port, extensions), through }
    }
}

impl Transport for Outward {
    fn call(&self, request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, TransportError>> {
        let answered = self.wire.call(request);
        async move {
            let response = answered.await?;
            match response.extensions().get::<Failed>() {
                Some(Failed(why)) => Err(TransportError(why.clone())),
                None => Ok(response),
            }
        }
        .boxed()
    }

    fn close_connections(&self) {
        self.wire.close_connections();
        self.through.close_connections();
    }
}
