//! Names that the server makes.

use daruma_world::Random;

/// Letters of generated suffixes: no vowels, no look-alikes (apimachinery pkg/util/rand).
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// `length` random characters for a generated name.
pub fn random_suffix(random: &dyn Random, length: usize) -> String {
    (0..length).map(|_| char::from(ALPHABET[random.below(ALPHABET.len() as u64) as usize])).collect()
}

/// A random (version 4) UUID in its usual form.
pub fn uuid(random: &dyn Random) -> String {
    let mut bytes = [0u8; 16];
    random.fill(&mut bytes);
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.into_iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        for digit in [byte >> 4, byte & 0x0f] {
            text.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
    }
    text
}

/// Maps an integer hash to the safe alphabet, as pod-template hashes appear in names.
pub fn safe_encode(text: &str) -> String {
    text.bytes().map(|byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_have_their_usual_form() {
        struct Same(u64);
        impl Random for Same {
            fn next_u64(&self) -> u64 {
                self.0
            }
        }
        for (bits, expected) in [
            (0, "00000000-0000-4000-8000-000000000000"),
            (u64::MAX, "ffffffff-ffff-4fff-bfff-ffffffffffff"),
            (0x0807_0605_0403_0201, "01020304-0506-4708-8102-030405060708"),
        ] {
            assert_eq!(uuid(&Same(bits)), expected);
        }
    }
}
