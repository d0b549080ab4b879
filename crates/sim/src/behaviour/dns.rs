//! DNS answers of a behaving container: A records of a fixed list of names.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::Deserialize;

/// Seconds that answers may be kept.
const TTL_SECONDS: u32 = 5;
/// Record type A, class IN (RFC 1035).
const A: [u8; 4] = [0, 1, 0, 1];

/// What is answered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DnsAnswers {
    /// Addresses by name, in lower case without the dot at the end. Other names do not exist.
    pub names: BTreeMap<String, Ipv4Addr>,
}

impl DnsAnswers {
    /// The answer to a query; `None` for what is none.
    pub fn answer(&self, query: &[u8]) -> Option<Vec<u8>> {
        let (id, flags, counts) = (query.get(..2)?, query.get(2..4)?, query.get(4..12)?);
        if flags[0] & 0x80 != 0 || counts[..2] != [0, 1] {
            return None;
        }
        let mut at = 12;
        let mut labels = Vec::new();
        loop {
            let length = usize::from(*query.get(at)?);
            at += 1;
            match length {
                0 => break,
                1..=63 => labels.push(String::from_utf8_lossy(query.get(at..at + length)?).to_ascii_lowercase()),
                // Questions are not compressed.
                _ => return None,
            }
            at += length;
        }
        let question = query.get(12..at + 4)?;
        let known = self.names.get(&labels.join("."));
        let address = known.filter(|_| question.ends_with(&A));
        // Standard query, authoritative; recursion as it was asked for; NXDOMAIN is 3.
        let answer_flags = [0x84 | (flags[0] & 1), if known.is_some() { 0 } else { 3 }];
        let mut answer = [id, &answer_flags, &[0, 1, 0, u8::from(address.is_some()), 0, 0, 0, 0], question].concat();
        if let Some(address) = address {
            // The name is that of the question, at byte 12.
            answer.extend([0xc0, 12]);
            answer.extend(A);
            answer.extend(TTL_SECONDS.to_be_bytes());
            answer.extend([0, 4]);
            answer.extend(address.octets());
        }
        Some(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let answers = DnsAnswers { names: BTreeMap::from([("db.example".to_owned(), Ipv4Addr::new(10, 0, 0, 7))]) };
        let query = |name: &str, kind: u8| {
            let mut query = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
            for label in name.split('.') {
                query.push(label.len() as u8);
                query.extend(label.as_bytes());
            }
            query.extend([0, 0, kind, 0, 1]);
            query
        };
        for (name, kind, code, address) in
            [("db.example", 1, 0, true), ("DB.Example", 1, 0, true), ("db.example", 28, 0, false), ("no.example", 1, 3, false)]
        {
            let answer = answers.answer(&query(name, kind)).unwrap();
            assert_eq!((answer[0], answer[1], answer[3], answer[7] == 1), (0xab, 0xcd, code, address), "{name}");
            assert_eq!(answer.ends_with(&[10, 0, 0, 7]), address);
        }
        assert_eq!(answers.answer(&[1, 2, 3]), None);
    }
}
