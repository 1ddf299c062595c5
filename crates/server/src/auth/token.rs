//! Tokens: 256 random bits. Only digests are kept, and compared in constant time.

use sha2::{Digest, Sha256};
use std::fmt::{self, Write as _};
use std::str::FromStr;
use subtle::{Choice, ConstantTimeEq};

/// What every token of ours begins with, so that people and scanners of leaked secrets know it.
const PREFIX: &str = "rowcast_";

/// A new token, of 256 bits by the operating system's seeded generator.
pub fn new_token() -> String {
    format!("{PREFIX}{}", hex(&rand::random::<[u8; 32]>()))
}

/// The SHA-256 digest of a token. A token is random, so its digest needs neither salt nor work.
#[derive(Clone, Copy)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// The digest of a token in clear.
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// Whether both are the same, in a time that does not depend on where they differ.
    pub(super) fn same(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl PartialEq for TokenDigest {
    fn eq(&self, other: &Self) -> bool {
        self.same(other).into()
    }
}

impl Eq for TokenDigest {}

impl fmt::Display for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be a SHA-256 digest: 64 hexadecimal digits")]
pub struct TokenError;

impl FromStr for TokenDigest {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(TokenError);
        }
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(0..) {
            let digits = text.get(2 * pair..2 * pair + 2).ok_or(TokenError)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| TokenError)?;
        }
        Ok(Self(digest))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_reads_back_what_it_prints_and_nothing_else() {
        let abc = TokenDigest::of("abc");
        let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(abc.to_string(), text);
        assert_eq!(text.to_uppercase().parse(), Ok(abc));
        for wrong in ["", "abc", &text[1..], &format!("{text}0"), &format!("+{}", &text[1..])] {
            assert!(wrong.parse::<TokenDigest>().is_err(), "{wrong}");
        }
        assert_eq!(format!("{abc:?}"), "***");
    }

    #[test]
    fn no_two_tokens_are_alike() {
        let (one, other) = (new_token(), new_token());
        assert_ne!(one, other);
        assert_eq!((one.len(), &one[..8]), (72, PREFIX));
    }
}
