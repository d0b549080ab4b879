//! Scopes: processes, and what they belong to. Every handle of a scope's [`World`] belongs to it.
//!
//! Killing a scope first makes its handles dead: its clock never fires, its calls stay pending, what
//! it writes or sends is discarded. Then its futures and those of its children are dropped, so that no
//! destructor says goodbye for the dead.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use daruma_world::{Random, Task, World};
use futures::future::BoxFuture;

use crate::executor::Core;
use crate::handle::Handle;
use crate::network::{Network, Space};
use crate::place::Place;
use crate::random::{SeededRandom, derived_seed};

/// Something that a scope owns and others must learn about when it dies.
pub(crate) trait Attachment: Send + Sync {
    /// The scope has died.
    fn died(&self, scope: &ScopeInner);

    /// Power, links, or a pause of somebody may have changed.
    fn disturbed(&self) {}
}

/// What the clones of a scope share.
pub(crate) struct ScopeInner {
    pub(crate) core: Arc<Core>,
    pub(crate) network: Arc<Network>,
    pub(crate) place: Arc<Place>,
    pub(crate) name: String,
    pub(crate) slot: u32,
    pub(crate) dead: AtomicBool,
    seed: u64,
    random: SeededRandom,
    space: Mutex<Arc<Space>>,
    /// How many children of a name there were.
    ordinals: Mutex<BTreeMap<String, u64>>,
    termination: Mutex<Termination>,
    last_attachment: AtomicU64,
    attachments: Mutex<BTreeMap<u64, Weak<dyn Attachment>>>,
}

/// How a process is asked to end.
#[derive(Default)]
struct Termination {
    is_handled: bool,
    is_asked: bool,
    waiting: Vec<Waker>,
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ScopeInner {
    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    /// The network that the scope's sockets live in.
    pub(crate) fn space(&self) -> Arc<Space> {
        lock(&self.space).clone()
    }

    pub(crate) fn set_space(&self, space: Arc<Space>) {
        let old = std::mem::replace(&mut *lock(&self.space), space);
        drop(old);
    }

    pub(crate) fn next_u64(&self) -> u64 {
        self.random.next_u64()
    }

    /// Has `what` told of the scope's death; gives what [`ScopeInner::detach`] asks for.
    pub(crate) fn attach(&self, what: Weak<dyn Attachment>) -> u64 {
        let id = self.last_attachment.fetch_add(1, Ordering::Relaxed);
        lock(&self.attachments).insert(id, what);
        id
    }

    pub(crate) fn detach(&self, id: u64) {
        let what = lock(&self.attachments).remove(&id);
        drop(what);
    }

    fn attached(&self) -> Vec<Arc<dyn Attachment>> {
        lock(&self.attachments).values().filter_map(Weak::upgrade).collect()
    }

    /// Tells all that the scope owns that something around it has changed.
    pub(crate) fn disturb(&self) {
        for what in self.attached() {
            what.disturbed();
        }
    }
}

/// A process, or a machine from power-on to power-off, or the outside. Clones are the same scope.
#[derive(Clone)]
pub struct Scope {
    pub(crate) inner: Arc<ScopeInner>,
}

impl Scope {
    /// The outermost scope of a new universe.
    pub(crate) fn root(core: &Arc<Core>, network: &Arc<Network>, place: &Arc<Place>, space: Arc<Space>) -> Self {
        let seed = core.seed;
        let inner = core.add_scope(None, |slot, _| Arc::new(Self::make(core, network, place, space, "outside", slot, seed)));
        Self { inner }
    }

    fn make(
        core: &Arc<Core>,
        network: &Arc<Network>,
        place: &Arc<Place>,
        space: Arc<Space>,
        name: &str,
        slot: u32,
        seed: u64,
    ) -> ScopeInner {
        ScopeInner {
            core: core.clone(),
            network: network.clone(),
            place: place.clone(),
            name: name.to_owned(),
            slot,
            dead: AtomicBool::new(false),
            seed,
            random: SeededRandom::new(seed),
            space: Mutex::new(space),
            ordinals: Mutex::default(),
            termination: Mutex::default(),
            last_attachment: AtomicU64::new(0),
            attachments: Mutex::default(),
        }
    }

    /// A child on another place: a machine's power-on.
    pub(crate) fn child_at(&self, name: &str, place: &Arc<Place>, space: Arc<Space>) -> Self {
        let parent = &self.inner;
        let ordinal = {
            let mut ordinals = lock(&parent.ordinals);
            let count = ordinals.entry(name.to_owned()).or_default();
            *count += 1;
            *count
        };
        let seed = derived_seed(parent.seed, name, ordinal);
        let inner = parent.core.add_scope(Some(parent), |slot, is_dead| {
            let inner = Self::make(&parent.core, &parent.network, place, space, name, slot, seed);
            inner.dead.store(is_dead, Ordering::Release);
            Arc::new(inner)
        });
        Self { inner }
    }

    /// A new process within this one: it dies with it, is paused with it, and has chance of its own.
    pub fn child(&self, name: &str) -> Self {
        self.child_at(name, &self.inner.place, self.inner.space())
    }

    /// What a component may use of its surroundings; all of it belongs to this scope.
    pub fn world(&self) -> World {
        let handle = Arc::new(Handle::new(self.inner.clone()));
        World { clock: handle.clone(), random: handle.clone(), tasks: handle.clone(), disk: handle.clone(), net: handle }
    }

    /// The name it was made with.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The machine it runs on; `None` outside.
    pub fn machine_name(&self) -> Option<&str> {
        self.inner.place.name.as_deref()
    }

    /// Starts a task in this scope.
    pub fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) -> Task {
        self.spawn_boxed(name, Box::pin(future))
    }

    /// As [`Scope::spawn`].
    pub fn spawn_boxed(&self, name: &'static str, future: BoxFuture<'static, ()>) -> Task {
        let task = self.inner.core.spawn(&self.inner, name, future);
        let core = Arc::downgrade(&self.inner.core);
        Task::new(move || {
            if let (Some(task), Some(core)) = (task, core.upgrade()) {
                core.abort(task);
            }
        })
    }

    /// Starts the process's main task: the scope dies when it completes.
    pub fn spawn_main(&self, name: &'static str, future: BoxFuture<'static, ()>) {
        let scope = self.clone();
        self.inner.core.spawn(
            &self.inner,
            name,
            Box::pin(async move {
                future.await;
                scope.kill();
            }),
        );
    }

    /// Ends the scope and all below it at once. Does nothing to a dead one.
    pub fn kill(&self) {
        let remains = self.inner.core.kill(&self.inner);
        for scope in &remains.scopes {
            for what in scope.attached() {
                what.died(scope);
            }
        }
        remains.bury();
    }

    /// Asks the process to end (SIGTERM). One that has never asked for [`Scope::termination`] dies of it.
    pub fn terminate(&self) {
        let waiting = {
            let mut termination = lock(&self.inner.termination);
            termination.is_asked = true;
            termination.is_handled.then(|| std::mem::take(&mut termination.waiting))
        };
        match waiting {
            Some(waiting) => {
                for waker in waiting {
                    waker.wake();
                }
            }
            None => self.kill(),
        }
    }

    /// Completes when the process is asked to end. From this call on it does not die of being asked.
    pub fn termination(&self) -> impl Future<Output = ()> + Send + 'static {
        lock(&self.inner.termination).is_handled = true;
        let scope = self.inner.clone();
        std::future::poll_fn(move |context| {
            let mut termination = lock(&scope.termination);
            if termination.is_asked {
                return Poll::Ready(());
            }
            if !termination.waiting.iter().any(|known| known.will_wake(context.waker())) {
                termination.waiting.push(context.waker().clone());
            }
            Poll::Pending
        })
    }

    /// Holds the tasks of the scope and of all below it still. Pauses add up.
    pub fn pause(&self) {
        self.inner.core.pause(&self.inner, true);
        self.disturb();
    }

    /// Takes one pause back. Timers that came due meanwhile fire now.
    pub fn resume(&self) {
        self.inner.core.pause(&self.inner, false);
        self.disturb();
    }

    /// Tells connections of the scope and of all below it that something has changed.
    pub(crate) fn disturb(&self) {
        for scope in self.inner.core.living(&self.inner) {
            scope.disturb();
        }
    }

    /// Whether it holds still.
    pub fn is_paused(&self) -> bool {
        self.inner.core.is_paused(&self.inner)
    }

    /// Whether it has ended.
    pub fn is_dead(&self) -> bool {
        self.inner.is_dead()
    }

    /// Tasks of it and of all below it.
    pub fn task_count(&self) -> usize {
        self.inner.core.task_count(&self.inner)
    }

    /// Completes when the scope has ended.
    pub fn ended(&self) -> Ended {
        Ended { scope: self.inner.clone() }
    }
}

/// See [`Scope::ended`].
pub struct Ended {
    scope: Arc<ScopeInner>,
}

impl Future for Ended {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let lives = self.scope.core.when_ended(&self.scope, context.waker());
        if lives { Poll::Pending } else { Poll::Ready(()) }
    }
}
