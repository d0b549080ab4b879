//! From a query's bytes to the answer's bytes.

use std::io;

use daruma_world::World;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, Record, RecordType};

use super::answer::{Answer, Zone};
use super::directory::Watched;
use super::upstream::Upstream;
use super::{Config, Health};

/// Aliases of aliases that are followed.
const MOST_ALIASES: usize = 8;
/// Largest datagram, whatever the client says it takes.
const MOST_BYTES: u16 = 4096;

/// Makes replies.
pub(super) struct Replies {
    world: World,
    directory: Watched,
    upstream: Upstream,
    health: Health,
    zone: Zone,
}

impl Replies {
    pub(super) fn new(
        world: &World,
        directory: Watched,
        upstream: Upstream,
        health: Health,
        config: &Config,
    ) -> io::Result<Self> {
        let mut domain = Name::from_ascii(&config.domain).map_err(|error| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("cluster domain {:?}: {error}", config.domain))
        })?;
        domain.set_fqdn(true);
        let serial = u32::try_from(world.now().as_second()).unwrap_or(1);
        let zone = Zone { domain, own_service: config.own_service.clone(), serial };
        Ok(Self { world: world.clone(), directory, upstream, health, zone })
    }

    /// The answer to a query; `None` for what deserves none. `stream` tells that its length is not limited.
    pub(super) async fn reply(&self, bytes: &[u8], stream: bool) -> Option<Vec<u8>> {
        let Ok(query) = Message::from_vec(bytes) else { return refuse_unreadable(bytes) };
        if query.metadata.message_type != MessageType::Query {
            return None;
        }
        let mut response = Message::response(query.metadata.id, query.metadata.op_code);
        response.metadata.recursion_desired = query.metadata.recursion_desired;
        response.add_queries(query.queries.iter().cloned());
        if let Some(edns) = &query.edns {
            let mut own = Edns::new();
            own.set_max_payload(edns.max_payload().clamp(512, MOST_BYTES)).set_version(0).set_dnssec_ok(edns.flags().dnssec_ok);
            response.set_edns(own);
        }
        let limit = if stream { u16::MAX } else { query.max_payload().clamp(512, MOST_BYTES) };
        let question = match &query.queries[..] {
            [question] if query.metadata.op_code == OpCode::Query => question.clone(),
            _ => {
                response.metadata.response_code = ResponseCode::NotImp;
                return self.finish(&response, limit);
            }
        };
        if question.query_class() == DNSClass::IN && self.fill(&mut response, &question, stream).await {
            return self.finish(&response, limit);
        }
        // Not ours: as it came, there and back.
        if let Some(answer) = self.upstream.exchange(bytes, stream).await {
            self.health.answered("forwarded");
            return Some(answer);
        }
        response.metadata.response_code = ResponseCode::ServFail;
        self.finish(&response, limit)
    }

    /// Fills in the answer to a question of our zone; false for other questions.
    async fn fill(&self, response: &mut Message, question: &Query, stream: bool) -> bool {
        let mut name = question.name().clone();
        let kind = question.query_type();
        for step in 0..MOST_ALIASES {
            match self.zone.answer(&self.directory, &name, kind) {
                Answer::Records(mut answers, additional) => {
                    self.shuffle(&mut answers);
                    response.add_answers(answers).add_additionals(additional);
                }
                Answer::Alias(record, target) => {
                    response.add_answer(*record);
                    if matches!(kind, RecordType::A | RecordType::AAAA) {
                        name = target;
                        response.metadata.authoritative = true;
                        continue;
                    }
                }
                // Behind an alias, the missing end is no missing name.
                Answer::NoData | Answer::NoName if step > 0 => {}
                Answer::NoData => {
                    response.add_authority(self.zone.authority());
                }
                Answer::NoName => {
                    response.metadata.response_code = ResponseCode::NXDomain;
                    response.add_authority(self.zone.authority());
                }
                Answer::Elsewhere if step == 0 => return false,
                Answer::Elsewhere => {
                    let found = self.ask_upstream(&name, kind, stream).await;
                    response.add_answers(found);
                }
            }
            break;
        }
        response.metadata.authoritative = true;
        true
    }

    async fn ask_upstream(&self, name: &Name, kind: RecordType, stream: bool) -> Vec<Record> {
        let mut query = Message::new(self.world.random.next_u64() as u16, MessageType::Query, OpCode::Query);
        query.metadata.recursion_desired = true;
        query.add_query(Query::query(name.clone(), kind));
        let Ok(bytes) = query.to_vec() else { return Vec::new() };
        let answer = self.upstream.exchange(&bytes, stream).await;
        answer.and_then(|answer| Message::from_vec(&answer).ok()).map(|answer| answer.answers).unwrap_or_default()
    }

    /// Spreads clients that always take the first address.
    fn shuffle(&self, records: &mut [Record]) {
        for last in (1..records.len()).rev() {
            records.swap(last, self.world.random.below(last as u64 + 1) as usize);
        }
    }

    fn finish(&self, response: &Message, limit: u16) -> Option<Vec<u8>> {
        self.health.answered(match response.metadata.response_code {
            ResponseCode::NoError => "NOERROR",
            ResponseCode::NXDomain => "NXDOMAIN",
            ResponseCode::ServFail => "SERVFAIL",
            _ => "other",
        });
        let bytes = response.to_vec().ok()?;
        if bytes.len() <= usize::from(limit) { Some(bytes) } else { response.truncate().to_vec().ok() }
    }
}

/// A FORMERR with the id of a query that cannot be read; none where not even that is there.
fn refuse_unreadable(bytes: &[u8]) -> Option<Vec<u8>> {
    let id = u16::from_be_bytes(bytes.get(..2)?.try_into().ok()?);
    let is_response = bytes.get(2)? & 0x80 != 0;
    if is_response {
        return None;
    }
    Message::error_msg(id, OpCode::Query, ResponseCode::FormErr).to_vec().ok()
}
