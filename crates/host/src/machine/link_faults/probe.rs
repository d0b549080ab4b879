//! What this kernel can do to links. Each question tries the thing itself in a network namespace of its own.

use std::io;

use daruma_world::machines::{LinkEffect, LinkFault};
use nix::sched::{CloneFlags, unshare};

use super::{commit, plan};
use crate::netlink::{Socket, queue};

/// Whether the kernel can do `effect`.
///
/// # Errors
/// One sentence that says what is missing.
pub fn supports(effect: LinkEffect) -> Result<(), String> {
    let missing = match effect {
        LinkEffect::Cut => "nf_tables in the family bridge (CONFIG_NF_TABLES_BRIDGE; modprobe nf_tables)",
        LinkEffect::Loss(_) => "random numbers in nf_tables (CONFIG_NFT_NUMGEN; modprobe nft_numgen)",
        LinkEffect::Bandwidth(_) => "limits in nf_tables (CONFIG_NFT_LIMIT; modprobe nft_limit)",
        LinkEffect::Delay(_) => {
            "packet queues at bridges (CONFIG_NETFILTER_NETLINK_QUEUE with CONFIG_NFT_QUEUE, or with CONFIG_BRIDGE_NETFILTER, \
             CONFIG_NFT_COMPAT and CONFIG_NETFILTER_XT_TARGET_NFQUEUE; modprobe -a nfnetlink_queue nft_queue br_netfilter)"
        }
    };
    apart(move || try_out(effect)).map_err(|error| format!("this kernel lacks {missing}: {error}"))
}

fn try_out(effect: LinkEffect) -> io::Result<()> {
    let fault = LinkFault { from: None, to: Some(["a".to_owned()].into()), effect };
    let plan = plan(&[fault], |_| "none".to_owned());
    if !plan.delays.is_empty() {
        queue::bind(&mut Socket::netfilter()?, 1)?;
    }
    commit(&plan, 1, &mut Socket::netfilter()?)
}

/// Runs `work` on a thread of its own in a new network namespace.
fn apart<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let visited = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            work()
        });
        visited.join().unwrap_or_else(|_| Err(io::Error::other("the check panicked")))
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_question_is_answered() {
        for effect in
            [LinkEffect::Cut, LinkEffect::Loss(1.0), LinkEffect::Bandwidth(1 << 20), LinkEffect::Delay(Duration::from_millis(1))]
        {
            // Not every host can; it must say so in words.
            match supports(effect) {
                Ok(()) => println!("{effect:?}: can"),
                Err(problem) => assert!(problem.starts_with("this kernel lacks"), "{problem}"),
            }
        }
    }
}
