//! Nix's base32: 32 digits without `e`, `o`, `t`, `u`, least significant bits last.

const DIGITS: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";

/// The bytes that `text` stands for; `None` if it is not Nix base32 of a whole number of bytes.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let length = text.len() * 5 / 8;
    let mut bytes = vec![0_u8; length];
    for (n, digit) in text.bytes().rev().enumerate() {
        let digit = u16::try_from(DIGITS.iter().position(|d| *d == digit)?).ok()?;
        let (byte, shift) = (n * 5 / 8, n * 5 % 8);
        let [low, high] = (digit << shift).to_le_bytes();
        *bytes.get_mut(byte)? |= low;
        match bytes.get_mut(byte + 1) {
            Some(next) => *next |= high,
            None if high == 0 => {}
            None => return None,
        }
    }
    (encoded_len(length) == text.len()).then_some(bytes)
}

/// `bytes` in Nix base32.
pub fn encode(bytes: &[u8]) -> String {
    (0..encoded_len(bytes.len()))
        .rev()
        .map(|n| {
            let (byte, shift) = (n * 5 / 8, n * 5 % 8);
            let pair = u16::from(bytes[byte]) | u16::from(bytes.get(byte + 1).copied().unwrap_or(0)) << 8;
            char::from(DIGITS[usize::from(pair >> shift & 31)])
        })
        .collect()
}

fn encoded_len(bytes: usize) -> usize {
    (bytes * 8).div_ceil(5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_directory_of_nix() {
        let text = "0sjjj9z1dhilhpc8pq4154czrb79z9cm044jvn75kxcjv6v5l2m5";
        let bytes = decode(text).unwrap();
        assert_eq!(bytes.len(), 32);
        assert_eq!(encode(&bytes), text);
    }

    #[test]
    fn what_is_not_base32_is_none() {
        assert_eq!(decode("e"), None);
        assert_eq!(decode("0"), None);
        assert_eq!(decode(""), Some(vec![]));
        // More bits than the bytes can hold.
        assert_eq!(decode(&"z".repeat(52)), None);
    }
}
