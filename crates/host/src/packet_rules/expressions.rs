//! Statements as nf_tables expressions (linux/netfilter/nf_tables.h).

use daruma_world::links::Prefix;
use daruma_world::packet_rules::{Field, Is, Rejection, Rule, Statement, Verdict};

use super::batch::{DATA_VALUE, LIST_ELEMENT, verdict};
use crate::netlink::Messages;

const VERDICT_REGISTER: u32 = 0;
/// The first register of 16 bytes, which is also the first of four of 4 bytes.
pub(crate) const REGISTER: u32 = 1;
/// Number of the register of 4 bytes behind the first.
const SECOND_SMALL_REGISTER: u32 = 9;

const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const SOURCE_OFFSET: u32 = 12;
const DESTINATION_OFFSET: u32 = 16;

/// The mark of a packet.
pub(crate) const META_MARK: u32 = 3;
/// Name of the link that a packet came in by.
pub(crate) const META_INPUT_NAME: u32 = 6;
/// Name of the link that a packet goes out by.
pub(crate) const META_OUTPUT_NAME: u32 = 7;
const META_PROTOCOL: u32 = 16;

pub(crate) const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
const CONNTRACK_STATE: u32 = 0;
const CONNTRACK_STATUS: u32 = 2;
/// `NF_CT_STATE_BIT(IP_CT_NEW)`.
const STATE_NEW: u32 = 8;
/// `IPS_DST_NAT`.
const STATUS_DESTINATION_TRANSLATED: u32 = 0x20;
/// `RTN_LOCAL`.
const ADDRESS_TYPE_LOCAL: u32 = 2;
const FIB_ADDRESS_TYPE: u32 = 3;
const FIB_SOURCE: u32 = 1;
const FIB_DESTINATION: u32 = 2;
/// `NF_NAT_RANGE_PROTO_RANDOM_FULLY`.
const FULLY_RANDOM: u32 = 0x10;

/// Writes a rule's expressions. `anonymous` numbers the maps of its random choices, in order.
pub(super) fn write(messages: &mut Messages, rule: &Rule, anonymous: &[u32]) {
    let mut anonymous = anonymous.iter().copied();
    for statement in rule {
        match statement {
            Statement::Source(is, prefix) => network(messages, SOURCE_OFFSET, *is, *prefix),
            Statement::Destination(is, prefix) => network(messages, DESTINATION_OFFSET, *is, *prefix),
            Statement::Protocol(protocol) => {
                meta(messages, META_PROTOCOL, REGISTER);
                compare(messages, EQUAL, &[protocol.number()]);
            }
            Statement::InputLink(name) => link_name(messages, META_INPUT_NAME, name),
            Statement::OutputLink(name) => link_name(messages, META_OUTPUT_NAME, name),
            Statement::SourceIsLocal => local(messages, FIB_SOURCE),
            Statement::DestinationIsLocal => local(messages, FIB_DESTINATION),
            Statement::NewConnection => conntrack_bit(messages, CONNTRACK_STATE, STATE_NEW),
            Statement::WasDestinationTranslated => conntrack_bit(messages, CONNTRACK_STATUS, STATUS_DESTINATION_TRANSLATED),
            Statement::Marked { mask } => {
                meta(messages, META_MARK, REGISTER);
                any_bit(messages, *mask);
            }
            Statement::SetMark { mask } => change_mark(messages, !*mask, *mask),
            Statement::InvertMark { mask } => change_mark(messages, u32::MAX, *mask),
            Statement::Lookup { fields, is, set } => {
                load(messages, fields);
                expression(messages, "lookup", |messages| {
                    messages.string(1, set);
                    messages.be32(2, REGISTER);
                    if *is == Is::NotIn {
                        messages.be32(5, 1);
                    }
                });
            }
            Statement::Dispatch { fields, map } => {
                load(messages, fields);
                lookup_into(messages, map, None, VERDICT_REGISTER);
            }
            Statement::DispatchRandom(verdicts) => {
                random(messages, verdicts.len());
                lookup_into(messages, "__map%d", anonymous.next(), VERDICT_REGISTER);
            }
            Statement::Remember { field, set } => {
                load(messages, &[*field]);
                expression(messages, "dynset", |messages| {
                    messages.string(1, set);
                    // NFT_DYNSET_OP_UPDATE.
                    messages.be32(3, 1);
                    messages.be32(4, REGISTER);
                });
            }
            Statement::Counter => expression(messages, "counter", |_| {}),
            Statement::TranslateDestination(targets) => {
                if let [(address, port)] = targets[..] {
                    immediate(messages, REGISTER, &address.octets());
                    immediate(messages, SECOND_SMALL_REGISTER, &port.to_be_bytes());
                } else {
                    random(messages, targets.len());
                    lookup_into(messages, "__map%d", anonymous.next(), REGISTER);
                }
                expression(messages, "nat", |messages| {
                    // NFT_NAT_DNAT of NFPROTO_IPV4.
                    messages.be32(1, 1);
                    messages.be32(2, 2);
                    messages.be32(3, REGISTER);
                    messages.be32(5, SECOND_SMALL_REGISTER);
                });
            }
            Statement::Masquerade => expression(messages, "masq", |messages| messages.be32(1, FULLY_RANDOM)),
            Statement::Reject(rejection) => expression(messages, "reject", |messages| {
                // NFT_REJECT_ICMP_UNREACH with ICMP_PORT_UNREACH, or NFT_REJECT_TCP_RST.
                let (kind, code) = if *rejection == Rejection::TcpReset { (1, 0) } else { (0, 3) };
                messages.be32(1, kind);
                messages.attribute(2, &[code]);
            }),
            Statement::Verdict(of) => decide(messages, of),
        }
    }
}

/// One expression and its attributes.
pub(crate) fn expression(messages: &mut Messages, name: &str, content: impl FnOnce(&mut Messages)) {
    messages.nested(LIST_ELEMENT, |messages| {
        messages.string(1, name);
        messages.nested(2, content);
    });
}

fn payload(messages: &mut Messages, register: u32, base: u32, offset: u32, length: u32) {
    expression(messages, "payload", |messages| {
        messages.be32(1, register);
        messages.be32(2, base);
        messages.be32(3, offset);
        messages.be32(4, length);
    });
}

/// Loads what the kernel knows beside a packet.
pub(crate) fn meta(messages: &mut Messages, key: u32, register: u32) {
    expression(messages, "meta", |messages| {
        messages.be32(1, register);
        messages.be32(2, key);
    });
}

/// Goes on where the first register compares so to `value`, byte by byte.
pub(crate) fn compare(messages: &mut Messages, operation: u32, value: &[u8]) {
    expression(messages, "cmp", |messages| {
        messages.be32(1, REGISTER);
        messages.be32(2, operation);
        messages.nested(3, |messages| messages.attribute(DATA_VALUE, value));
    });
}

fn bitwise(messages: &mut Messages, mask: [u8; 4], xor: [u8; 4]) {
    expression(messages, "bitwise", |messages| {
        messages.be32(1, REGISTER);
        messages.be32(2, REGISTER);
        messages.be32(3, 4);
        messages.nested(4, |messages| messages.attribute(DATA_VALUE, &mask));
        messages.nested(5, |messages| messages.attribute(DATA_VALUE, &xor));
    });
}

/// Loads a value.
pub(crate) fn immediate(messages: &mut Messages, register: u32, value: &[u8]) {
    expression(messages, "immediate", |messages| {
        messages.be32(1, register);
        messages.nested(2, |messages| messages.attribute(DATA_VALUE, value));
    });
}

/// Ends with a verdict.
pub(crate) fn decide(messages: &mut Messages, of: &Verdict) {
    expression(messages, "immediate", |messages| {
        messages.be32(1, VERDICT_REGISTER);
        messages.nested(2, |messages| verdict(messages, of));
    });
}

fn network(messages: &mut Messages, offset: u32, is: Is, prefix: Prefix) {
    let operation = if is == Is::In { EQUAL } else { NOT_EQUAL };
    payload(messages, REGISTER, NETWORK_HEADER, offset, 4);
    if prefix.length < 32 {
        bitwise(messages, prefix.mask().to_be_bytes(), [0; 4]);
    }
    compare(messages, operation, &prefix.network().address.octets());
}

fn link_name(messages: &mut Messages, key: u32, name: &str) {
    let mut value = [0; 16];
    let length = name.len().min(15);
    value[..length].copy_from_slice(&name.as_bytes()[..length]);
    meta(messages, key, REGISTER);
    compare(messages, EQUAL, &value);
}

fn local(messages: &mut Messages, of: u32) {
    expression(messages, "fib", |messages| {
        messages.be32(1, REGISTER);
        messages.be32(2, FIB_ADDRESS_TYPE);
        messages.be32(3, of);
    });
    compare(messages, EQUAL, &ADDRESS_TYPE_LOCAL.to_ne_bytes());
}

fn conntrack_bit(messages: &mut Messages, key: u32, bit: u32) {
    expression(messages, "ct", |messages| {
        messages.be32(1, REGISTER);
        messages.be32(2, key);
    });
    any_bit(messages, bit);
}

fn any_bit(messages: &mut Messages, mask: u32) {
    bitwise(messages, mask.to_ne_bytes(), [0; 4]);
    compare(messages, NOT_EQUAL, &[0; 4]);
}

fn change_mark(messages: &mut Messages, keep: u32, invert: u32) {
    meta(messages, META_MARK, REGISTER);
    bitwise(messages, keep.to_ne_bytes(), invert.to_ne_bytes());
    expression(messages, "meta", |messages| {
        messages.be32(2, META_MARK);
        messages.be32(3, REGISTER);
    });
}

/// Loads fields into neighbouring registers of 4 bytes.
fn load(messages: &mut Messages, fields: &[Field]) {
    for (position, field) in fields.iter().enumerate() {
        let register = if position == 0 { REGISTER } else { SECOND_SMALL_REGISTER - 1 + position as u32 };
        match field {
            Field::SourceAddress => payload(messages, register, NETWORK_HEADER, SOURCE_OFFSET, 4),
            Field::DestinationAddress => payload(messages, register, NETWORK_HEADER, DESTINATION_OFFSET, 4),
            Field::Protocol => meta(messages, META_PROTOCOL, register),
            Field::DestinationPort => payload(messages, register, TRANSPORT_HEADER, 2, 2),
        }
    }
}

/// Loads a random number below `among`, in host order.
pub(crate) fn random(messages: &mut Messages, among: usize) {
    expression(messages, "numgen", |messages| {
        messages.be32(1, REGISTER);
        messages.be32(2, among as u32);
        // NFT_NG_RANDOM.
        messages.be32(3, 1);
    });
}

fn lookup_into(messages: &mut Messages, map: &str, id: Option<u32>, register: u32) {
    expression(messages, "lookup", |messages| {
        messages.string(1, map);
        messages.be32(2, REGISTER);
        messages.be32(3, register);
        if let Some(id) = id {
            messages.be32(4, id);
        }
    });
}
