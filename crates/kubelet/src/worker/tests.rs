//! What a worker that waits costs in memory.

use std::sync::Arc;

use daruma_client::{Body, Client, RateLimit, Transport, TransportError};
use daruma_sim::containers::SimRuntime;
use daruma_world::hardware::{Facts, Hardware, Load};
use futures::future::BoxFuture;
use http::{Request, Response};

use super::*;
use crate::config::KubeletConfig;
use crate::kubelet::Kubelet;

struct Nothing;

impl Transport for Nothing {
    fn call(&self, _: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, TransportError>> {
        Box::pin(async { Err(TransportError("connection refused".into())) })
    }
}

impl Hardware for Nothing {
    fn facts(&self) -> Facts {
        Facts {
            hostname: String::new(),
            machine_id: String::new(),
            system_uuid: String::new(),
            boot_id: String::new(),
            kernel_version: String::new(),
            os_image: String::new(),
            architecture: String::new(),
            cpu_millis: 1000,
            memory_bytes: 1 << 30,
            addresses: vec![],
        }
    }
    fn load(&self) -> BoxFuture<'static, std::io::Result<Load>> {
        Box::pin(async { Ok(Load::default()) })
    }
}

#[test]
fn tasks_that_wait_are_small() {
    daruma_sim::run(1, |world| async move {
        let client = Client::new(&world, Arc::new(Nothing), "kubelet", RateLimit::NONE);
        let runtime = Arc::new(SimRuntime::new(&world, 244, 1));
        let kubelet = Kubelet::new(world.clone(), client, runtime, Arc::new(Nothing), KubeletConfig::new("w"));
        let cell = Arc::new(PodCell::new(Arc::new(crate::testing::pod("containers: [{name: a}]")), Source::Api));
        let worker = std::mem::size_of_val(&run(kubelet.shared().clone(), cell.clone()));
        let sender = std::mem::size_of_val(&status::run_sender(kubelet.shared().clone(), cell));
        println!("a pod's worker has {worker} bytes, its sender {sender}");
        assert!(worker < 1024 && sender < 1024, "{worker} and {sender} bytes for each pod of the node");
    });
}
