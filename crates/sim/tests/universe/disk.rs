//! What a disk keeps.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use daruma_sim::StoreBackend;
use daruma_store::embedded::{EmbeddedStore, Options};
use daruma_store::{Expect, Outcome, Store, Write};
use daruma_world::disk::WriteOptions;
use daruma_world::machines::Pressure;

use super::{Stage, ms, s};

const DURABLE: WriteOptions = WriteOptions { mode: 0o600, durable: true };

#[test]
fn a_power_cut_takes_what_was_not_synced() {
    let mut kept = 0;
    for seed in 0..40 {
        let stage = Stage::new(seed, &["a"]);
        kept += u32::from(stage.run(|stage, world| async move {
            let disk = stage.machine("a").world().disk;
            let path = Path::new;
            disk.create_dir_all(path("/data/old"), 0o700).await.unwrap();
            disk.write(path("/data/old/file"), b"1".to_vec(), WriteOptions::default()).await.unwrap();
            world.sleep(s(60)).await;
            disk.create_dir_all(path("/data/new"), 0o700).await.unwrap();
            disk.write(path("/data/new/durable"), b"2".to_vec(), DURABLE).await.unwrap();
            disk.append(path("/data/old/file"), b"2".to_vec()).await.unwrap();
            disk.write(path("/run/pid"), b"7".to_vec(), DURABLE).await.unwrap();
            world.sleep(s(15)).await;
            disk.write(path("/data/new/last"), b"3".to_vec(), WriteOptions::default()).await.unwrap();
            disk.rename(path("/data/new/last"), path("/data/new/very-last")).await.unwrap();
            stage.universe.machines().reset("a").await.unwrap();
            world.sleep(ms(0)).await;

            let disk = stage.machine("a").world().disk;
            assert_eq!(disk.read(path("/data/new/durable")).await.unwrap(), b"2", "a durable write survives");
            let file = disk.read(path("/data/old/file")).await.unwrap();
            assert!(file == b"1" || file == b"12", "what is old survives");
            for name in ["/data/new/last", "/data/new/very-last"] {
                assert!(disk.read(path(name)).await.is_err(), "what is young does not");
            }
            assert_eq!(disk.read_dir(path("/run")).await.unwrap(), [], "memory does not");
            file == b"12"
        }));
    }
    assert!((10..=36).contains(&kept), "of what is 15 s old about 60 % survive: {kept} of 40");
}

#[test]
fn an_orderly_end_keeps_everything() {
    let stage = Stage::new(1, &["a"]);
    stage.run(|stage, world| async move {
        let disk = stage.machine("a").world().disk;
        disk.write(Path::new("/etc/x"), b"1".to_vec(), WriteOptions::default()).await.unwrap();
        stage.universe.machines().reboot("a").await.unwrap();
        world.sleep(ms(0)).await;
        assert_eq!(stage.machine("a").world().disk.read(Path::new("/etc/x")).await.unwrap(), b"1");
        assert_eq!(world.monotonic().as_secs(), 5);
    });
}

#[test]
fn a_full_disk_refuses() {
    let stage = Stage::new(1, &["a"]);
    stage.run(|stage, world| async move {
        let machines = stage.universe.machines();
        let disk = stage.machine("a").world().disk;
        let write = |name: &str, bytes: usize| disk.write(Path::new(name), vec![0; bytes], WriteOptions::default());
        let full = machines.press("a", Pressure::Disk { leave_bytes: 8192 }).await.unwrap();
        assert_eq!(disk.usage(Path::new("/")).await.unwrap().available_bytes, 8192);
        assert_eq!(write("/etc/big", 10_000).await.unwrap_err().kind(), ErrorKind::StorageFull);
        write("/etc/small", 8000).await.unwrap();
        machines.power_off("a", false).await.unwrap();
        machines.power_on("a").await.unwrap();
        world.sleep(ms(0)).await;
        let disk = stage.machine("a").world().disk;
        assert!(disk.usage(Path::new("/")).await.unwrap().available_bytes <= 8192, "the filling file outlives the power");
        machines.release("a", full).await.unwrap();
        machines.release("a", full).await.unwrap();
        disk.write(Path::new("/etc/big"), vec![0; 10_000], WriteOptions::default()).await.unwrap();

        let inodes = machines.press("a", Pressure::Inodes { leave: 1 }).await.unwrap();
        disk.write(Path::new("/etc/1"), vec![], WriteOptions::default()).await.unwrap();
        let error = disk.write(Path::new("/etc/2"), vec![], WriteOptions::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        machines.release("a", inodes).await.unwrap();

        machines.press("a", Pressure::SlowDisk { delay: ms(300) }).await.unwrap();
        let before = world.monotonic();
        disk.write(Path::new("/etc/3"), vec![], DURABLE).await.unwrap();
        let took = world.monotonic().saturating_sub(before);
        assert!(took > ms(300) && took < ms(302), "{took:?}");
    });
}

/// Writes to a store on `a` until the power goes; gives the revisions acknowledged and found afterwards.
fn store_after_a_cut(seed: u64, torn: bool) -> (u64, u64) {
    let stage = Stage::new(seed, &["a"]);
    stage.run(|stage, world| async move {
        let open = async |stage: &Stage| {
            let process = stage.machine("a").scope("apiserver");
            let backend = StoreBackend::open(&process, Path::new("/var/lib/store"));
            EmbeddedStore::open(&process.world(), Arc::new(backend), Options::default()).await.unwrap()
        };
        let store = open(&stage).await;
        let acknowledged = Arc::new(std::sync::atomic::AtomicU64::new(0));
        for writer in 0..8 {
            let (store, acknowledged) = (store.clone(), acknowledged.clone());
            world.spawn("writer", async move {
                for number in 0.. {
                    let value = Write::Put { value: Bytes::from(vec![0; 100]), ttl_seconds: None };
                    match store.write(&format!("/{writer}/{number}"), Expect::Any, value).await {
                        Ok(Outcome::Committed { revision }) => {
                            acknowledged.fetch_max(revision, std::sync::atomic::Ordering::Relaxed);
                        }
                        // The process is gone, and its memory with it.
                        _ => break,
                    }
                }
            });
        }
        world.sleep(ms(20) + std::time::Duration::from_micros(world.random.below(2000))).await;
        stage.universe.machines().power_off("a", torn).await.unwrap();
        let acknowledged = acknowledged.load(std::sync::atomic::Ordering::Relaxed);
        world.sleep(s(1)).await;
        stage.universe.machines().power_on("a").await.unwrap();
        world.sleep(ms(0)).await;
        let found = open(&stage).await.revision().await.unwrap();
        (acknowledged, found)
    })
}

#[test]
fn a_store_keeps_what_it_has_acknowledged() {
    let (mut lost, mut torn) = (0, 0);
    for seed in 0..30 {
        let (acknowledged, found) = store_after_a_cut(seed, false);
        assert!(acknowledged > 50);
        assert_eq!(acknowledged, found, "seed {seed}: nothing more than was acknowledged");
        let (acknowledged, found) = store_after_a_cut(seed, true);
        assert!(found >= acknowledged, "seed {seed}");
        lost += u32::from(found == acknowledged);
        torn += u32::from(found > acknowledged && found < acknowledged + 8);
    }
    assert!(torn > 3, "half written groups: {torn}, none of them: {lost}");
}

#[test]
fn a_slow_disk_slows_the_store() {
    let stage = Stage::new(1, &["a"]);
    stage.run(|stage, world| async move {
        let process = stage.machine("a").scope("apiserver");
        let backend = StoreBackend::open(&process, Path::new("/var/lib/store"));
        let store = EmbeddedStore::open(&process.world(), Arc::new(backend), Options::default()).await.unwrap();
        let mut times = Vec::new();
        for delay in [0, 250] {
            let id = stage.universe.machines().press("a", Pressure::SlowDisk { delay: ms(delay) }).await.unwrap();
            let before = world.monotonic();
            let value = Write::Put { value: Bytes::from_static(b"x"), ttl_seconds: None };
            store.write("/x", Expect::Any, value).await.unwrap();
            times.push(world.monotonic().saturating_sub(before).as_millis());
            stage.universe.machines().release("a", id).await.unwrap();
        }
        assert!(times[0] < 2 && (250..252).contains(&times[1]), "{times:?}");
        let full = stage.universe.machines().press("a", Pressure::Disk { leave_bytes: 10 }).await.unwrap();
        let put = || Write::Put { value: Bytes::from_static(b"y"), ttl_seconds: None };
        let error = store.write("/y", Expect::Any, put()).await.unwrap_err();
        assert!(error.to_string().contains("no space left"), "{error}");
        stage.universe.machines().release("a", full).await.unwrap();
        world.sleep(s(2)).await;
        store.write("/y", Expect::Any, put()).await.unwrap();
    });
}
