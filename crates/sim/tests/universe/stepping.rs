//! Stepping, and work from other threads.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use daruma_sim::Universe;

use super::{ms, s};

#[test]
fn the_clock_stands_where_it_is_asked_to() {
    let universe = Universe::new(1);
    let seen: Arc<Mutex<Vec<u128>>> = Arc::default();
    let (world, ticks) = (universe.outside(), seen.clone());
    universe.outside().spawn("ticks", async move {
        loop {
            world.sleep(s(10)).await;
            ticks.lock().unwrap().push(world.monotonic().as_secs().into());
        }
    });
    assert_eq!(universe.next_deadline(), Some(s(0)));
    universe.run_until(s(0));
    assert_eq!(universe.next_deadline(), Some(s(10)));
    universe.run_until(ms(9_999));
    assert_eq!((universe.now(), seen.lock().unwrap().len()), (ms(9_999), 0));
    universe.run_until(s(10));
    assert_eq!((universe.now(), seen.lock().unwrap().clone()), (s(10), vec![10]));
    universe.run_until(s(35));
    assert_eq!((universe.now(), seen.lock().unwrap().clone()), (s(35), vec![10, 20, 30]));
    universe.run_until(s(5));
    assert_eq!(universe.now(), s(35));
    let world = universe.outside();
    assert_eq!(universe.run(async move { world.sleep(s(1)).await }), ());
    assert_eq!(universe.now(), s(36));
}

#[test]
fn another_thread_hands_work_in() {
    let universe = Universe::new(1);
    let (sender, ready) = mpsc::channel();
    let injector = universe.injector();
    injector.on_ready(Arc::new(move || sender.send(()).unwrap_or_default()));
    universe.run_until(s(5));
    let world = universe.outside();
    let (answer, answered) = mpsc::channel();
    std::thread::scope(|threads| {
        threads.spawn(move || {
            injector.inject(Box::pin(async move {
                world.sleep(s(1)).await;
                answer.send(world.monotonic()).unwrap();
            }));
        });
    });
    ready.recv().unwrap();
    assert_eq!(universe.next_deadline(), Some(s(5)));
    universe.run_until(s(10));
    assert_eq!(answered.recv().unwrap(), s(6));
    // A waker from elsewhere tells, too.
    let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
    universe.outside().spawn("waits", async move { drop(receiver.await) });
    universe.run_until(s(11));
    while ready.try_recv().is_ok() {}
    sender.send(()).unwrap();
    ready.recv().unwrap();
    assert_eq!(universe.next_deadline(), Some(s(11)));
}
