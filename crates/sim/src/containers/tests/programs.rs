//! Containers that are programs.

use daruma_world::containers::{Mount, Propagation};
use daruma_world::machines::Signal;

use super::*;
use crate::containers::{BuiltInImage, Output, Process, Programs};

const IMAGE: &str = "daruma.dev/daruma:v1";

/// A machine whose containers of [`IMAGE`] run `body`.
fn with<F>(body: F) -> EngineConfig
where
    F: Fn(Process) -> futures::future::BoxFuture<'static, i32> + Send + Sync + 'static,
{
    let mut programs = Programs::new();
    programs.add(IMAGE, body);
    let image = BuiltInImage { name: IMAGE.into(), size_bytes: 1, entrypoint: vec!["/daruma".into()] };
    EngineConfig { programs: Arc::new(programs), images: [image].into(), ..EngineConfig::default() }
}

#[test]
fn what_a_program_is_given() {
    let config = with(|process| {
        Box::pin(async move {
            let world = process.world();
            let inside = world.disk.read(Path::new("/data/file")).await.unwrap();
            let denied = world.disk.write(Path::new("/data/new"), vec![], WriteOptions::default()).await.is_err();
            let at = process.path(Path::new("/data/file"));
            process.log.line(Output::Stdout, &process.argv.join(" "));
            let greeting = &process.env["GREETING"];
            let text = String::from_utf8_lossy(&inside).into_owned();
            process.log.line(
                Output::Stderr,
                &format!("{greeting} {} {:?} {text} {denied} {}", process.hostname, process.addresses, at.display()),
            );
            5
        })
    });
    lab(1, config, |lab| async move {
        lab.network_ready().await;
        let disk = lab.world().disk;
        disk.create_dir_all(Path::new("/srv"), 0o755).await.unwrap();
        disk.write(Path::new("/srv/file"), b"content".to_vec(), WriteOptions::default()).await.unwrap();
        let mount = Mount {
            host_path: "/srv".into(),
            container_path: "/data".into(),
            read_only: true,
            propagation: Propagation::Private,
        };
        for (name, host_network, wanted) in [("web", false, "web [10.244.1.2]"), ("own", true, "m [10.88.0.20]")] {
            let sandbox = lab.sandbox(name, host_network).await;
            let id = lab
                .create(&sandbox, IMAGE, |config| {
                    config.args = vec!["--v=1".to_owned()];
                    config.env = vec![("GREETING".to_owned(), "hello".to_owned())];
                    config.mounts = vec![mount.clone()];
                })
                .await;
            lab.engine().start_container(&id).await.unwrap();
            lab.sleep(100).await;
            assert_eq!(lab.state(&id).await, "5 Error");
            let log = disk.read(Path::new(&format!("/var/log/pods/{name}/main/0.log"))).await.unwrap();
            let log = String::from_utf8(log).unwrap();
            let lines: Vec<&str> = log.lines().map(|line| line.split_once(' ').unwrap().1).collect();
            let second = format!("stderr F hello {wanted} content true /srv/file");
            assert_eq!(lines, ["stdout F /daruma --v=1", &second]);
        }
    });
}

#[test]
fn signals() {
    for (listens, signal, wanted) in [
        (false, Signal::Terminate, "143 Error"),
        (true, Signal::Terminate, "7 Error"),
        (true, Signal::Kill, "137 Error"),
        (false, Signal::Pause, "running"),
    ] {
        let config = with(move |process| {
            Box::pin(async move {
                if listens {
                    process.terminated().await;
                    process.world().sleep(Duration::from_millis(10)).await;
                    return 7;
                }
                std::future::pending().await
            })
        });
        lab(1, config, |lab| async move {
            lab.network_ready().await;
            let (_, id) = lab.start("web", IMAGE).await;
            lab.sleep(1000).await;
            lab.engine().signal(&id, signal).unwrap();
            lab.sleep(1000).await;
            assert_eq!(lab.state(&id).await, wanted, "{listens} {signal:?}");
        });
    }
}

#[test]
fn sockets_are_the_pods() {
    let config = with(|process| {
        Box::pin(async move {
            let world = process.world();
            let mut listener = world.net.listen("0.0.0.0:80".parse().unwrap()).await.unwrap();
            process.use_memory(77);
            loop {
                let (mut stream, peer) = listener.accept().await.unwrap();
                // A client may have gone.
                let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\n\r\nhello {}", peer.ip()).as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        })
    });
    lab(1, config, |lab| async move {
        lab.network_ready().await;
        let (first, id) = lab.start("a", IMAGE).await;
        let (second, _) = lab.start("b", IMAGE).await;
        lab.sleep(10).await;
        let (first, second) = (lab.address(&first).await.unwrap(), lab.address(&second).await.unwrap());
        assert_eq!(lab.get(first, 80, "/").await.unwrap(), "200 OK: hello 10.88.0.20");
        assert_eq!(lab.get(second, 80, "/").await.unwrap(), "200 OK: hello 10.88.0.20");
        assert_eq!(lab.engine().usage().memory_bytes, 154);
        lab.engine().stop_container(&id, Duration::ZERO).await.unwrap();
        assert!(lab.get(first, 80, "/").await.is_err());
        assert!(lab.get(second, 80, "/").await.is_ok());
    });
}

#[test]
fn attached_to_the_output() {
    let config = with(|process| {
        Box::pin(async move {
            for number in 0..3 {
                process.world().sleep(Duration::from_secs(1)).await;
                process.log.line(Output::Stdout, &number.to_string());
            }
            0
        })
    });
    lab(1, config, |lab| async move {
        lab.network_ready().await;
        let (_, id) = lab.start("web", IMAGE).await;
        lab.sleep(1500).await;
        let mut session = lab.engine().attach(&id, false, false).await.unwrap();
        let mut seen = Vec::new();
        while let Some(chunk) = session.stdout.recv().await {
            seen.extend(chunk);
        }
        assert_eq!((seen.as_slice(), session.exit_code.await.unwrap()), (&b"1\n2\n"[..], 0));
    });
}
