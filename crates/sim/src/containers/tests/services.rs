//! Services between machines: tables of the real proxy, pods of two machines, clients inside and outside.

use std::collections::BTreeMap;

use daruma_world::packet_rules::PacketRules;
use serde_json::json;

use super::*;
use crate::packet_rules::tests::planned;

/// Who answers such requests, with how often each did.
async fn answers(world: &World, to: &str) -> BTreeMap<String, u32> {
    let mut seen = BTreeMap::new();
    for _ in 0..40 {
        let answer = match get(world, to.parse().unwrap(), "/").await {
            Ok(text) => text.split(" | ").nth(1).unwrap_or_default().trim_start_matches("Running on: ").to_owned(),
            Err(error) => format!("{:?}", error.kind()),
        };
        *seen.entry(answer).or_default() += 1;
    }
    seen
}

fn spread(seen: &BTreeMap<String, u32>) -> String {
    seen.iter()
        .map(|(name, count)| if *count >= 8 { name.clone() } else { format!("{name} ({count})") })
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn reach_pods_wherever_they_are() {
    let universe = Universe::new(5);
    let booted: Arc<Mutex<Vec<Machine>>> = Arc::default();
    for (index, name) in ["here", "there"].into_iter().enumerate() {
        let spec = MachineSpec {
            name: name.to_owned(),
            address: Ipv4Addr::new(10, 88, 0, 20 + index as u8),
            cpu_millis: 2000,
            memory_bytes: 1 << 30,
            disk_bytes: 1 << 30,
            boot_time: Duration::from_secs(2),
        };
        let all = booted.clone();
        let boot = Arc::new(move |machine: Machine| {
            all.lock().unwrap().push(machine);
            Box::pin(async {}) as futures::future::BoxFuture<'static, ()>
        });
        universe.add_machine(spec, boot).unwrap();
    }
    let (machines, outside, all) = (universe.machines(), universe.outside(), booted.clone());
    universe.run(async move {
        let mut pods = Vec::new();
        for (index, name) in ["here", "there"].into_iter().enumerate() {
            machines.power_on(name).await.unwrap();
            outside.sleep(Duration::from_millis(1)).await;
            let current = Arc::new(Mutex::new(all.lock().unwrap().last().cloned()));
            let lab = Lab { machines: machines.clone(), current };
            let disk = lab.world().disk;
            disk.create_dir_all(Path::new("/etc/cni/net.d"), 0o755).await.unwrap();
            let text = format!("{{\"podCIDR\":\"10.244.{}.0/24\",\"mtu\":1500}}", index + 1);
            let file = Path::new("/etc/cni/net.d/10-daruma.conf");
            disk.write(file, text.into_bytes(), WriteOptions::default()).await.unwrap();
            pods.push((lab.clone(), lab.start(&format!("web-{name}"), BOOTCAMP).await));
        }
        let endpoint =
            |address: &str, node: &str| json!({"addresses": [address], "nodeName": node, "conditions": {"ready": true}});
        let both = [endpoint("10.244.1.2", "here"), endpoint("10.244.2.2", "there")];
        let rules = pods[0].0.machine().packet_rules();
        rules.replace_table("kube-proxy", planned(json!({}), json!(both)).table).await.unwrap();

        let (here, there) = (pods[0].0.world(), pods[1].0.world());
        let pod = {
            let engine = pods[0].0.engine();
            engine.pod_world(&pods[0].1.0).unwrap()
        };
        for (client, world, to, wanted) in [
            ("a pod", &pod, "10.96.0.5:80", "web-here web-there"),
            ("the machine", &here, "10.96.0.5:80", "web-here web-there"),
            ("the machine's own node port", &here, "10.88.0.20:30080", "web-here web-there"),
            ("another machine", &there, "10.88.0.20:30080", "web-here web-there"),
            ("somebody outside", &outside, "10.88.0.20:30080", "web-here web-there"),
            ("a machine without rules", &there, "10.96.0.5:80", "HostUnreachable"),
            ("a pod, to a pod", &pod, "10.244.2.2:8080", "web-there"),
            ("a pod, to no port of the service", &pod, "10.96.0.5:81", "ConnectionRefused"),
        ] {
            assert_eq!(spread(&answers(world, to).await), wanted, "{client}");
        }
        // A connection that stands goes on while its endpoint leaves.
        let mut standing = pod.net.connect("10.96.0.5:80".parse().unwrap()).await.unwrap();
        rules.replace_table("kube-proxy", planned(json!({}), json!([both[1].clone()])).table).await.unwrap();
        assert_eq!(spread(&answers(&pod, "10.96.0.5:80").await), "web-there");
        standing.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        let mut text = String::new();
        standing.read_to_string(&mut text).await.unwrap();
        assert!(text.contains("Hello"), "{text}");
        rules.replace_table("kube-proxy", planned(json!({}), json!([])).table).await.unwrap();
        assert_eq!(spread(&answers(&outside, "10.88.0.20:30080").await), "ConnectionRefused");
    });
    booted.lock().unwrap().clear();
}
