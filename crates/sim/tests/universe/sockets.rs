//! TCP and UDP between machines and pods.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Stage, ms, s};

#[test]
fn streams_between_machines_and_pods() {
    let stage = Stage::new(1, &["a", "b"]);
    stage.run(|stage, world| async move {
        let (a, b) = (stage.machine("a"), stage.machine("b"));
        let sandbox = a.scope("sandbox");
        a.add_address(&sandbox, "10.244.0.2".parse().unwrap()).unwrap();
        assert!(b.add_address(&b.scope("other"), "10.244.0.2".parse().unwrap()).is_err(), "taken");
        let pod = sandbox.child("container");
        let mut listener = pod.world().net.listen("0.0.0.0:8080".parse().unwrap()).await.unwrap();
        let at: SocketAddr = "10.244.0.2:8080".parse().unwrap();
        for from in [a.world(), b.world(), pod.world()] {
            let mut near = from.net.connect(at).await.unwrap();
            let (mut far, _) = listener.accept().await.unwrap();
            let reading = async {
                let mut content = Vec::new();
                far.read_to_end(&mut content).await.unwrap();
                content.len()
            };
            let writing = async {
                // More than fits into the window.
                near.write_all(&vec![7; 100_000]).await.unwrap();
                near.shutdown().await.unwrap();
            };
            assert_eq!(futures::future::join(reading, writing).await.0, 100_000);
        }
        // A pod's loopback is its own, and the outside has no route to pods.
        assert!(a.world().net.connect("127.0.0.1:8080".parse().unwrap()).await.is_err());
        assert!(pod.world().net.connect("127.0.0.1:8080".parse().unwrap()).await.is_ok());
        assert!(world.net.connect(at).await.is_err());
        sandbox.kill();
        assert!(b.world().net.connect(at).await.is_err());
        b.add_address(&b.scope("other"), "10.244.0.2".parse().unwrap()).unwrap();
    });
}

#[test]
fn ends_of_streams() {
    let stage = Stage::new(1, &["a", "b"]);
    stage.run(|stage, world| async move {
        let (a, b) = (stage.machine("a"), stage.machine("b"));
        let server = a.scope("server");
        let mut listener = server.world().net.listen("10.0.0.1:7".parse().unwrap()).await.unwrap();
        let at: SocketAddr = "10.0.0.1:7".parse().unwrap();
        let (client, mut buffer) = (b.world(), [0; 10]);

        let mut near = client.net.connect(at).await.unwrap();
        let (mut far, from) = listener.accept().await.unwrap();
        assert_eq!(from.ip().to_string(), "10.0.0.2");
        far.write_all(b"bye").await.unwrap();
        drop(far);
        assert_eq!(near.read(&mut buffer).await.unwrap(), 3);
        assert_eq!(near.read(&mut buffer).await.unwrap(), 0);
        assert!(near.write_all(b"x").await.is_err());

        // The kernel accepts for a process that holds still.
        server.pause();
        let mut near = client.net.connect(at).await.unwrap();
        near.write_all(b"anybody?").await.unwrap();
        assert!(world.timeout(s(300), near.read(&mut buffer)).await.is_err());
        server.resume();
        server.kill();
        assert_eq!(near.read(&mut buffer).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        assert_eq!(client.net.connect(at).await.err().unwrap().kind(), std::io::ErrorKind::ConnectionRefused);

        // No word from a machine without power: the kernel asks for two minutes.
        let server = a.scope("server");
        let mut listener = server.world().net.listen(at).await.unwrap();
        let mut near = client.net.connect(at).await.unwrap();
        let _far = listener.accept().await.unwrap();
        let before = world.monotonic();
        stage.universe.machines().power_off("a", false).await.unwrap();
        assert_eq!(near.read(&mut buffer).await.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
        assert!((119..=120).contains(&world.monotonic().saturating_sub(before).as_secs()));
        assert!(world.timeout(s(60), client.net.connect(at)).await.is_err());
    });
}

#[test]
fn datagrams() {
    let stage = Stage::new(1, &["a", "b"]);
    stage.run(|stage, world| async move {
        let (a, b) = (stage.machine("a").world(), stage.machine("b").world());
        let server = a.net.bind_udp("0.0.0.0:53".parse().unwrap()).await.unwrap();
        let client = b.net.bind_udp("0.0.0.0:0".parse().unwrap()).await.unwrap();
        let at: SocketAddr = "10.0.0.1:53".parse().unwrap();
        client.send_to(b"question", at).await.unwrap();
        let mut buffer = [0; 100];
        let (count, from) = server.recv_from(&mut buffer).await.unwrap();
        assert_eq!((&buffer[..count], from.ip().to_string().as_str()), (&b"question"[..], "10.0.0.2"));
        server.send_to(b"answer", from).await.unwrap();
        let (count, from) = client.recv_from(&mut buffer).await.unwrap();
        assert_eq!((&buffer[..count], from), (&b"answer"[..], at));
        stage.universe.machines().hang("a").await.unwrap();
        client.send_to(b"lost", at).await.unwrap();
        stage.universe.machines().resume("a").await.unwrap();
        assert!(world.timeout(ms(100), server.recv_from(&mut buffer)).await.is_err());
    });
}
