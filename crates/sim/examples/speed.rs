//! Work for the virtual world, to be timed: `time target/release/examples/speed yields|sleeps|requests`.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use daruma_sim::{Boot, Handler, MachineSpec, Universe};
use http::{Request, Response};
use http_body_util::BodyExt;

/// Five million times giving way, by 1,000 tasks.
fn yields(universe: &Universe) {
    for _ in 0..1000 {
        universe.outside().spawn("yields", async {
            for _ in 0..5000 {
                let mut gave_way = false;
                std::future::poll_fn(|context| {
                    if std::mem::replace(&mut gave_way, true) {
                        return std::task::Poll::Ready(());
                    }
                    context.waker().wake_by_ref();
                    std::task::Poll::Pending
                })
                .await;
            }
        });
    }
    universe.run_until(Duration::from_secs(1));
}

/// 75,000 tasks with a timer of 10 s each, for 15 minutes.
fn sleeps(universe: &Universe) {
    for _ in 0..75_000 {
        let world = universe.outside();
        universe.outside().spawn("sleeps", async move {
            world.sleep(Duration::from_nanos(world.random.below(10_000_000_000))).await;
            loop {
                world.sleep(Duration::from_secs(10)).await;
            }
        });
    }
    universe.run_until(Duration::from_secs(900));
}

/// 5,000 machines that send a request every 10 s, for 15 minutes, with a time limit that is not needed.
fn requests(universe: &Universe) {
    let wire = universe.wire();
    let handler: Handler = Arc::new(|request: Request<_>| {
        Box::pin(async move {
            let body: Result<_, _> = http_body_util::BodyExt::collect(request.into_body()).await;
            Response::new(daruma_client::full_body(body.map(http_body_util::Collected::to_bytes).unwrap_or_default()))
        })
    });
    for number in 0..=5000u32 {
        let name = format!("machine-{number}");
        let (wire, handler) = (wire.clone(), handler.clone());
        let boot: Boot = Arc::new(move |machine| {
            let (wire, handler) = (wire.clone(), handler.clone());
            Box::pin(async move {
                if number == 0 {
                    let served = wire.serve(&machine.init(), "0.0.0.0:6443".parse().expect("an address"), handler);
                    return served.expect("the port is free");
                }
                let world = machine.world();
                let transport = wire.transport(&machine.init(), "10.1.0.0", 6443, http::Extensions::new());
                world.sleep(Duration::from_nanos(world.random.below(10_000_000_000))).await;
                loop {
                    world.sleep(Duration::from_secs(10)).await;
                    let request = Request::new(daruma_client::full_body(vec![b'x'; 500]));
                    let answered = world.timeout(Duration::from_secs(10), transport.call(request)).await;
                    let response = answered.expect("in time").expect("answered");
                    response.into_body().collect().await.expect("a body");
                }
            })
        });
        let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 1, 0, 0)) + number);
        let spec = MachineSpec {
            name: name.clone(),
            address,
            cpu_millis: 4000,
            memory_bytes: 8 << 30,
            disk_bytes: 64 << 30,
            boot_time: Duration::from_secs(10),
        };
        universe.add_machine(spec, boot).expect("a new machine");
        let machines = universe.machines();
        universe.run(async move { machines.power_on(&name).await.expect("power") });
    }
    universe.run_until(Duration::from_secs(920));
}

fn main() {
    let universe = Universe::new(1);
    match std::env::args().nth(1).as_deref() {
        Some("yields") => yields(&universe),
        Some("sleeps") => sleeps(&universe),
        Some("requests") => requests(&universe),
        _ => {
            eprintln!("usage: speed yields | sleeps | requests");
            std::process::exit(2);
        }
    }
    println!("{} polls until {:?}", universe.polls(), universe.now());
}
