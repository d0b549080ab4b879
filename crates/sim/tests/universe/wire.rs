//! HTTP between machines, and how a server's end is noticed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use daruma_client::{TransportError, stream_body};
use daruma_sim::{Handler, PeerAddress};
use futures::StreamExt;
use http::Response;
use http_body_util::BodyExt;

use super::{Stage, ask, get, ms, s, says, transport};

/// Answers by a line a second, without end; counts those who listen.
fn ticks(world: &daruma_world::World, listeners: &Arc<AtomicU32>) -> Handler {
    struct Listener(Arc<AtomicU32>);
    impl Drop for Listener {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
    let (world, listeners) = (world.clone(), listeners.clone());
    Arc::new(move |_| {
        listeners.fetch_add(1, Ordering::Relaxed);
        let (world, listener) = (world.clone(), Listener(listeners.clone()));
        Box::pin(async move {
            let lines = futures::stream::unfold((world, listener), |(world, listener)| async move {
                world.sleep(s(1)).await;
                Some((Ok(Bytes::from_static(b"tick")), (world, listener)))
            });
            Response::new(stream_body(lines.boxed()))
        })
    })
}

#[test]
fn requests_reach_the_other_machine() {
    let stage = Stage::new(1, &["a", "b"]);
    stage.run(|stage, world| async move {
        let server = stage.machine("a").scope("server");
        let handler: Handler = Arc::new(|request| {
            Box::pin(async move {
                let who = request.extensions().get::<&str>().copied().unwrap_or("nobody");
                let from = request.extensions().get::<PeerAddress>().unwrap().0.ip();
                let body = request.into_body().collect().await.unwrap().to_bytes();
                Response::new(daruma_client::full_body(format!("{who} from {from}: {}", String::from_utf8_lossy(&body))))
            })
        });
        stage.universe.wire().serve(&server, "0.0.0.0:80".parse().unwrap(), handler.clone()).unwrap();
        assert!(stage.universe.wire().serve(&server, "10.0.0.1:80".parse().unwrap(), handler).is_err(), "taken");
        let client = stage.machine("b").scope("client");
        let mut extensions = http::Extensions::new();
        extensions.insert("kubelet");
        let transport = stage.universe.wire().transport(&client, "10.0.0.1", 80, extensions);
        for body in
            [daruma_client::full_body("hello"), stream_body(futures::stream::iter(["hel", "lo"].map(|part| Ok(part.into()))))]
        {
            let before = world.monotonic();
            let response = transport.call(http::Request::new(body)).await.unwrap();
            let text = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(text, "kubelet from 10.0.0.2: hello");
            let took = world.monotonic().saturating_sub(before);
            assert!(took > ms(0) && took < ms(5), "{took:?}");
        }
        let outside = super::transport(&stage, &stage.universe.outside_scope(), "10.0.0.1");
        assert_eq!(ask(&outside).await.unwrap(), "nobody from 192.0.2.1: ");
        let wrong = stage.universe.wire().transport(&client, "10.0.0.1", 81, http::Extensions::new());
        let error = ask(&wrong).await.unwrap_err();
        assert!(error.0.contains("nobody listens"), "{error}");
        let nowhere = stage.universe.wire().transport(&client, "10.9.9.9", 80, http::Extensions::new());
        assert!(ask(&nowhere).await.unwrap_err().0.contains("no route"));
    });
}

/// How a stream of ticks ends after `harm`, and after how many seconds.
fn stream_after<F: Future<Output = ()>>(seed: u64, harm: impl FnOnce(Stage, daruma_sim::Scope) -> F) -> (String, u64) {
    let stage = Stage::new(seed, &["a", "b"]);
    stage.run(|stage, world| async move {
        let server = stage.machine("a").scope("server");
        let listeners = Arc::new(AtomicU32::new(0));
        let handler = ticks(&server.world(), &listeners);
        stage.universe.wire().serve(&server, "0.0.0.0:80".parse().unwrap(), handler).unwrap();
        let client = stage.machine("b").scope("client");
        let mut body = transport(&stage, &client, "10.0.0.1").call(get()).await.unwrap().into_body();
        for _ in 0..3 {
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "tick");
        }
        assert_eq!(listeners.load(Ordering::Relaxed), 1);
        let before = world.monotonic();
        harm(stage.clone(), server).await;
        let reading = async {
            loop {
                match body.frame().await {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => break error.to_string(),
                    None => break "the end".to_owned(),
                }
            }
        };
        let outcome = world.timeout(s(200), reading).await.unwrap_or_else(|_| "goes on".to_owned());
        let took = world.monotonic().saturating_sub(before).as_secs();
        drop(body);
        world.sleep(s(1)).await;
        if outcome == "goes on" {
            assert_eq!(listeners.load(Ordering::Relaxed), 0, "a client that goes lets the server know");
        }
        (outcome, took)
    })
}

#[test]
fn a_killed_server_is_noticed_at_once() {
    let (outcome, took) = stream_after(1, |_, server| async move { server.kill() });
    assert_eq!((outcome.as_str(), took), ("connection reset by peer", 0));
}

#[test]
fn a_living_server_is_left_alone() {
    let (outcome, took) = stream_after(1, |_, _| async {});
    assert_eq!((outcome.as_str(), took), ("goes on", 200));
}

#[test]
fn a_silent_server_is_given_up_after_45_seconds() {
    for seed in 0..4 {
        let harm = |stage: Stage, server: daruma_sim::Scope| async move {
            let machines = stage.universe.machines();
            match seed {
                0 => machines.power_off("a", false).await.unwrap(),
                1 => machines.hang("a").await.unwrap(),
                2 => server.pause(),
                _ => machines.set_link_faults(super::links::cut(Some("a"), None)).await.unwrap(),
            }
        };
        let (outcome, took) = stream_after(seed, harm);
        assert_eq!((outcome.as_str(), took), ("keep-alive timed out", 45), "case {seed}");
    }
}

#[test]
fn a_short_silence_is_none() {
    for seed in 0..3 {
        let harm = |stage: Stage, server: daruma_sim::Scope| async move {
            let machines = stage.universe.machines();
            match seed {
                0 => machines.hang("a").await.unwrap(),
                1 => server.pause(),
                _ => machines.set_link_faults(super::links::cut(None, Some("b"))).await.unwrap(),
            }
            stage.universe.outside().sleep(s(20)).await;
            match seed {
                0 => machines.resume("a").await.unwrap(),
                1 => server.resume(),
                _ => machines.set_link_faults(vec![]).await.unwrap(),
            }
        };
        assert_eq!(stream_after(seed, harm).0, "goes on", "case {seed}");
    }
}

#[test]
fn a_reset_machine_knows_nothing_of_old_connections() {
    let harm = |stage: Stage, _: daruma_sim::Scope| async move { stage.universe.machines().reset("a").await.unwrap() };
    let (outcome, took) = stream_after(1, harm);
    assert_eq!((outcome.as_str(), took), ("connection reset by peer", 30));
}

#[test]
fn new_requests_to_what_does_not_answer() {
    let stage = Stage::new(1, &["a", "b"]);
    stage.run(|stage, world| async move {
        let machines = stage.universe.machines();
        let server = stage.machine("a").scope("server");
        stage.universe.wire().serve(&server, "0.0.0.0:80".parse().unwrap(), says("hello")).unwrap();
        let client = stage.machine("b").scope("client");
        let fresh = || transport(&stage, &client, "10.0.0.1");
        let check = async |limit: u64| -> (Result<String, TransportError>, u64) {
            let before = world.monotonic();
            let transport = fresh();
            let asked = world.timeout(s(limit), ask(&transport)).await;
            (asked.unwrap_or_else(|_| Err(TransportError("pending".into()))), world.monotonic().saturating_sub(before).as_secs())
        };
        assert_eq!(check(60).await.0.unwrap(), "hello");
        server.pause();
        let (outcome, took) = check(60).await;
        assert!(outcome.unwrap_err().0.contains("deadline has elapsed") && took == 10);
        server.resume();
        machines.hang("a").await.unwrap();
        let (outcome, took) = check(60).await;
        assert!(outcome.unwrap_err().0.contains("deadline has elapsed") && took == 10);
        machines.resume("a").await.unwrap();
        assert_eq!(check(60).await.0.unwrap(), "hello");

        // On a connection that is there already, a request waits for the pings.
        let known = fresh();
        assert_eq!(ask(&known).await.unwrap(), "hello");
        world.sleep(s(600)).await;
        server.pause();
        world.sleep(s(600)).await;
        let before = world.monotonic();
        assert_eq!(ask(&known).await.unwrap_err().0, "keep-alive timed out");
        let took = world.monotonic().saturating_sub(before).as_secs();
        assert!((15..=45).contains(&took), "{took}");
        server.kill();
        assert!(ask(&known).await.unwrap_err().0.contains("nobody listens"));
    });
}

#[test]
fn a_client_that_dies_takes_its_request_along() {
    for power in [false, true] {
        let stage = Stage::new(1, &["a", "b"]);
        stage.run(|stage, world| async move {
            let server = stage.machine("a").scope("server");
            let listeners = Arc::new(AtomicU32::new(0));
            let handler = ticks(&server.world(), &listeners);
            stage.universe.wire().serve(&server, "0.0.0.0:80".parse().unwrap(), handler).unwrap();
            let client = stage.machine("b").scope("client");
            let transport = transport(&stage, &client, "10.0.0.1");
            client.spawn("listener", async move {
                let mut body = transport.call(get()).await.unwrap().into_body();
                while body.frame().await.is_some() {}
            });
            world.sleep(s(5)).await;
            assert_eq!(listeners.load(Ordering::Relaxed), 1);
            if power {
                stage.universe.machines().power_off("b", false).await.unwrap();
                world.sleep(s(100)).await;
                assert_eq!(listeners.load(Ordering::Relaxed), 1, "nobody has told the server");
                world.sleep(s(30)).await;
            } else {
                client.kill();
                world.sleep(ms(1)).await;
            }
            assert_eq!(listeners.load(Ordering::Relaxed), 0);
        });
    }
}

#[test]
fn plain_sockets_may_ask_too() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let stage = Stage::new(1, &["a", "b"]);
    stage.run(|stage, _| async move {
        let server = stage.machine("a").scope("server");
        stage.universe.wire().serve(&server, "0.0.0.0:80".parse().unwrap(), says("hello")).unwrap();
        let world = stage.machine("b").world();
        let mut stream = world.net.connect("10.0.0.1:80".parse().unwrap()).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert!(text.starts_with("HTTP/1.1 200 OK") && text.ends_with("hello"), "{text}");
    });
}

#[test]
fn upgrades_and_servers_of_bytes() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let stage = Stage::new(1, &["a", "b"]);
    stage.run(|stage, _| async move {
        let server = stage.machine("a").scope("server");
        let tasks = server.clone();
        // Says who asks, then whatever it hears, over the upgraded stream.
        let handler: Handler = Arc::new(move |mut request| {
            let who = *request.extensions().get::<&str>().unwrap();
            let upgraded = hyper::upgrade::on(&mut request);
            tasks.spawn("echo", async move {
                let mut stream = hyper_util::rt::TokioIo::new(upgraded.await.unwrap());
                stream.write_all(who.as_bytes()).await.unwrap();
                let mut buffer = [0; 5];
                stream.read_exact(&mut buffer).await.unwrap();
                stream.write_all(&buffer).await.unwrap();
            });
            let response = Response::builder().status(101).header("connection", "upgrade").header("upgrade", "echo");
            Box::pin(async move { response.body(daruma_client::empty_body()).unwrap() })
        });
        stage.universe.wire().serve(&server, "0.0.0.0:80".parse().unwrap(), handler).unwrap();
        let client = stage.machine("b").scope("client");
        let mut extensions = http::Extensions::new();
        extensions.insert("kubectl");
        let transport = stage.universe.wire().transport(&client, "10.0.0.1", 80, extensions);
        let mut request = get();
        request.headers_mut().insert("connection", "Upgrade".parse().unwrap());
        request.headers_mut().insert("upgrade", "echo".parse().unwrap());
        let response = transport.call(request).await.unwrap();
        assert_eq!(response.status(), 101);
        let mut stream = hyper_util::rt::TokioIo::new(hyper::upgrade::on(response).await.unwrap());
        stream.write_all(b"hello").await.unwrap();
        let mut text = [0; 12];
        stream.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"kubectlhello");

        let mut listener = server.world().net.listen("0.0.0.0:81".parse().unwrap()).await.unwrap();
        server.spawn("bytes", async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 1000];
            let count = stream.read(&mut buffer).await.unwrap();
            assert!(buffer[..count].starts_with(b"GET / HTTP/1.1\r\n"));
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nbytes").await.unwrap();
        });
        let transport = stage.universe.wire().transport(&client, "10.0.0.1", 81, http::Extensions::new());
        assert_eq!(ask(&transport).await.unwrap(), "bytes");
    });
}

/// Asks once in a second, giving up an answer after ten, as a kubelet does for its lease; the longest time from the end of
/// the harm to an answer.
fn recovery(seed: u64, away: u64) -> std::time::Duration {
    let stage = Stage::new(seed, &["a", "b"]);
    stage.run(|stage, world| async move {
        let server = stage.machine("a").scope("server");
        stage.universe.wire().serve(&server, "0.0.0.0:80".parse().unwrap(), says("hello")).unwrap();
        let client = stage.machine("b").scope("client");
        let transport = transport(&stage, &client, "10.0.0.1");
        let answers = Arc::new(std::sync::Mutex::new(Vec::new()));
        let (noting, own) = (answers.clone(), client.world());
        client.spawn("kubelet", async move {
            loop {
                if let Ok(Ok(_)) = own.timeout(s(10), ask(&transport)).await {
                    noting.lock().unwrap().push(own.monotonic());
                }
                own.sleep(s(1)).await;
            }
        });
        world.sleep(ms(5500)).await;
        let machines = stage.universe.machines();
        match seed % 4 {
            0 => machines.hang("b").await.unwrap(),
            1 => machines.hang("a").await.unwrap(),
            2 => machines.set_link_faults(super::links::cut(None, Some("b"))).await.unwrap(),
            _ => machines.set_link_faults(super::links::cut(Some("b"), None)).await.unwrap(),
        }
        world.sleep(s(away)).await;
        match seed % 4 {
            0 => machines.resume("b").await.unwrap(),
            1 => machines.resume("a").await.unwrap(),
            _ => machines.set_link_faults(vec![]).await.unwrap(),
        }
        let mended = world.monotonic();
        world.sleep(s(100)).await;
        let first = answers.lock().unwrap().iter().copied().find(|at| *at >= mended).expect("it recovers");
        first.saturating_sub(mended)
    })
}

#[test]
fn whoever_goes_on_is_heard_again_in_seconds() {
    // Shorter and longer than the client's pings (45 s) and the server's keep-alive (120 s).
    for away in [5, 20, 40, 60, 100, 130, 200, 600] {
        for case in 0..4 {
            let took = recovery(case, away);
            assert!(took < s(12), "case {case}, {away} s away: {took:?}");
        }
    }
}

#[test]
fn a_client_may_give_up_its_connection() {
    for hangs in [false, true] {
        let stage = Stage::new(1, &["a", "b"]);
        stage.run(|stage, world| async move {
            let server = stage.machine("a").scope("server");
            let listeners = Arc::new(AtomicU32::new(0));
            stage.universe.wire().serve(&server, "0.0.0.0:80".parse().unwrap(), ticks(&server.world(), &listeners)).unwrap();
            let client = stage.machine("b").scope("client");
            let transport = transport(&stage, &client, "10.0.0.1");
            let mut body = transport.call(get()).await.unwrap().into_body();
            body.frame().await.unwrap().unwrap();
            if hangs {
                stage.universe.machines().hang("a").await.unwrap();
            }
            let before = world.monotonic();
            transport.close_connections();
            while let Some(Ok(_)) = body.frame().await {}
            assert!(world.monotonic().saturating_sub(before) < ms(10), "what waits ends at once");
            if hangs {
                stage.universe.machines().resume("a").await.unwrap();
            }
            world.sleep(s(2)).await;
            assert_eq!(listeners.load(Ordering::Relaxed), 0, "the server hears of it");
            let mut body = transport.call(get()).await.unwrap().into_body();
            body.frame().await.unwrap().unwrap();
        });
    }
}

#[test]
fn a_connection_that_the_server_has_given_up_is_refused() {
    let stage = Stage::new(1, &["a", "b"]);
    stage.run(|stage, world| async move {
        let server = stage.machine("a").scope("server");
        let listeners = Arc::new(AtomicU32::new(0));
        stage.universe.wire().serve(&server, "0.0.0.0:80".parse().unwrap(), ticks(&server.world(), &listeners)).unwrap();
        let client = stage.machine("b").scope("client");
        let transport = transport(&stage, &client, "10.0.0.1");
        let mut body = transport.call(get()).await.unwrap().into_body();
        body.frame().await.unwrap().unwrap();
        let machines = stage.universe.machines();
        machines.hang("b").await.unwrap();
        world.sleep(s(130)).await;
        assert_eq!(listeners.load(Ordering::Relaxed), 0, "given up");
        machines.resume("b").await.unwrap();
        // A new request finds out at once, and whoever listens with it.
        assert_eq!(transport.call(get()).await.err().unwrap().0, "connection reset by peer");
        let rest = async { while let Some(Ok(_)) = body.frame().await {} };
        world.timeout(s(1), rest).await.unwrap();
        assert!(transport.call(get()).await.is_ok(), "a new connection");
    });
}
