//! The plan as one transaction of nf_tables, in the family `bridge` (linux/netfilter/nf_tables.h).

use std::collections::BTreeSet;
use std::io;

use daruma_world::packet_rules::Verdict;

use super::plan::{Drop, Plan, Rule, WHOLE};
use crate::netlink::namespace::set_kernel_parameter;
use crate::netlink::nf_tables::{BaseChain, Family, Transaction};
use crate::netlink::{Messages, Socket, flags};
use crate::packet_rules::expressions::{
    EQUAL, META_INPUT_NAME, META_MARK, META_OUTPUT_NAME, REGISTER, compare, decide, expression, immediate, meta, random,
};

const TABLE: &str = "faults";
/// `NF_BR_FORWARD` (linux/netfilter_bridge.h) and `NF_INET_FORWARD`.
const FORWARD: u32 = 2;
/// Before the bridge hands packets to other families (`NF_BR_PRI_BRNF` is 0).
const BEFORE: i32 = -10;

const NEW_RULE: u8 = 6;
const NEW_SET: u8 = 9;
const NEW_ELEMENTS: u8 = 12;
/// The type `ifname` of the `nft` program.
const TYPE_LINK_NAME: u32 = 41;
const LINK_NAME: usize = 16;
/// Elements in one message.
const ELEMENTS_A_MESSAGE: usize = 200;

const LESS: u32 = 2;
/// Bytes that pass at once: one packet of the largest size that a virtual link carries has to.
const BURST_BYTES: u32 = 64 << 10;

/// How packets get to a process that holds them back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Queueing {
    /// The expression `queue` of nf_tables, at the bridge.
    Native,
    /// The target `NFQUEUE` of the older packet filter, by nf_tables' compatibility layer. It works for IPv4 alone, so
    /// the bridge marks packets and hands them to the rules of IPv4 on their way (br_netfilter).
    Marked,
}

/// Replaces all rules by those of the plan, or changes nothing. Queues are numbered from `first_queue` on.
///
/// Must be called in the network namespace of the bridge, in which the socket was opened.
pub(crate) fn commit(plan: &Plan, first_queue: u16, socket: &mut Socket) -> io::Result<()> {
    let committed = commit_with(plan, Queueing::Native, first_queue, socket);
    let marked = committed.is_err() && !plan.waits.is_empty();
    if marked || committed.is_ok() {
        let hand_over = if marked { "1" } else { "0" };
        set_kernel_parameter("bridge/bridge-nf-call-iptables", hand_over, !marked)?;
    }
    if marked { commit_with(plan, Queueing::Marked, first_queue, socket) } else { committed }
}

fn commit_with(plan: &Plan, queueing: Queueing, first_queue: u16, socket: &mut Socket) -> io::Result<()> {
    let mut changes = Transaction::new(Family::Bridge, TABLE);
    if queueing == Queueing::Native {
        changes.delete_table();
        // What an earlier plan may have needed.
        changes.turn_to(Family::Ipv4);
        changes.delete_table();
    } else {
        changes.turn_to(Family::Ipv4);
        changes.delete_table();
        changes.add_table();
        let base = BaseChain { hook: FORWARD, priority: 0, accept: true, kind: "filter" };
        changes.add_chain("delay", Some(base));
        for place in 0..plan.delays.len() as u16 {
            changes.add(NEW_RULE, flags::CREATE | flags::APPEND, |messages| {
                messages.string(2, "delay");
                messages.nested(4, |messages| {
                    meta(messages, META_MARK, REGISTER);
                    compare(messages, EQUAL, &mark(place).to_ne_bytes());
                    queue_compatibly(messages, first_queue + place);
                });
            });
        }
        changes.turn_to(Family::Bridge);
        changes.delete_table();
    }
    changes.turn_to(Family::Bridge);
    if !plan.is_empty() {
        changes.add_table();
        let mut table = Table { changes, sets: 0 };
        table.chain("drop", BEFORE, &plan.drops, fall);
        table.chain("delay", BEFORE + 1, &plan.waits, |messages, place| match queueing {
            Queueing::Native => queue(messages, first_queue + place),
            Queueing::Marked => set_mark(messages, mark(place)),
        });
        changes = table.changes;
    }
    changes.commit(socket)
}

/// The mark of packets that wait. It is gone when a packet leaves the switch's namespace.
fn mark(place: u16) -> u32 {
    0xda00_0000 | u32::from(place)
}

struct Table<'a> {
    changes: Transaction<'a>,
    sets: u32,
}

impl Table<'_> {
    fn chain<T: Copy>(&mut self, name: &str, priority: i32, rules: &[Rule<T>], action: impl Fn(&mut Messages, T)) {
        if rules.is_empty() {
            return;
        }
        let base = BaseChain { hook: FORWARD, priority, accept: true, kind: "filter" };
        self.changes.add_chain(name, Some(base));
        for rule in rules {
            let from = rule.from.as_ref().map(|ports| self.set(ports));
            let to = rule.to.as_ref().map(|ports| self.set(ports));
            self.changes.add(NEW_RULE, flags::CREATE | flags::APPEND, |messages| {
                messages.string(2, name);
                messages.nested(4, |messages| {
                    for (key, set) in [(META_INPUT_NAME, &from), (META_OUTPUT_NAME, &to)] {
                        let Some(set) = set else { continue };
                        meta(messages, key, REGISTER);
                        expression(messages, "lookup", |messages| {
                            messages.string(1, set);
                            messages.be32(2, REGISTER);
                        });
                    }
                    action(messages, rule.action);
                });
            });
        }
    }

    /// A set of ports; gives its name.
    fn set(&mut self, ports: &BTreeSet<String>) -> String {
        self.sets += 1;
        let (id, name) = (self.sets, format!("ports{}", self.sets));
        self.changes.add(NEW_SET, flags::CREATE | flags::EXCL, |messages| {
            messages.string(2, &name);
            messages.be32(3, 0);
            messages.be32(4, TYPE_LINK_NAME);
            messages.be32(5, LINK_NAME as u32);
            messages.be32(10, id);
        });
        let all: Vec<&String> = ports.iter().collect();
        for part in all.chunks(ELEMENTS_A_MESSAGE) {
            self.changes.add(NEW_ELEMENTS, flags::CREATE, |messages| {
                messages.string(2, &name);
                messages.nested(3, |messages| {
                    for port in part {
                        let mut key = [0; LINK_NAME];
                        let length = port.len().min(LINK_NAME - 1);
                        key[..length].copy_from_slice(&port.as_bytes()[..length]);
                        messages.nested(1, |messages| messages.nested(1, |messages| messages.attribute(1, &key)));
                    }
                });
            });
        }
        name
    }
}

fn fall(messages: &mut Messages, which: Drop) {
    match which {
        Drop::All => {}
        Drop::Share(share) => {
            random(messages, WHOLE as usize);
            // Comparisons go byte by byte, so the number has to be in network order.
            expression(messages, "byteorder", |messages| {
                messages.be32(1, REGISTER);
                messages.be32(2, REGISTER);
                // NFT_BYTEORDER_HTON of one number of four bytes.
                messages.be32(3, 1);
                messages.be32(4, 4);
                messages.be32(5, 4);
            });
            compare(messages, LESS, &share.to_be_bytes());
        }
        Drop::Beyond(bytes) => expression(messages, "limit", |messages| {
            messages.attribute(1, &bytes.to_be_bytes());
            // A second.
            messages.attribute(2, &1_u64.to_be_bytes());
            messages.be32(3, BURST_BYTES);
            // NFT_LIMIT_PKT_BYTES, NFT_LIMIT_F_INV.
            messages.be32(4, 1);
            messages.be32(5, 1);
        }),
    }
    decide(messages, &Verdict::Drop);
}

/// Sends a packet to a queue; where nobody listens there, it passes.
fn queue(messages: &mut Messages, number: u16) {
    expression(messages, "queue", |messages| {
        messages.attribute(1, &number.to_be_bytes());
        messages.attribute(2, &[0, 1]);
        // NFT_QUEUE_FLAG_BYPASS.
        messages.attribute(3, &[0, 1]);
    });
}

/// The same.
fn queue_compatibly(messages: &mut Messages, number: u16) {
    expression(messages, "target", |messages| {
        messages.string(1, "NFQUEUE");
        messages.be32(2, 3);
        // struct xt_NFQ_info_v3: number, how many, flags (NFQ_FLAG_BYPASS), in host order.
        let mut info = [0; 8];
        info[..2].copy_from_slice(&number.to_ne_bytes());
        info[2..4].copy_from_slice(&1_u16.to_ne_bytes());
        info[4..6].copy_from_slice(&1_u16.to_ne_bytes());
        messages.attribute(3, &info);
    });
}

/// Marks a packet; no further rule of the chain sees it.
fn set_mark(messages: &mut Messages, mark: u32) {
    immediate(messages, REGISTER, &mark.to_ne_bytes());
    expression(messages, "meta", |messages| {
        messages.be32(2, META_MARK);
        messages.be32(3, REGISTER);
    });
    decide(messages, &Verdict::Accept);
}
