//! DSSE envelopes (secure-systems-lab/dsse, `protocol.md` and `envelope.md`).

use sigstore_types::{DsseEnvelope, DsseSignature, KeyId, PayloadBytes, SignatureBytes};

use super::statement::PAYLOAD_TYPE;

/// The bytes that a signature over an in-toto payload covers: its Pre-Authentication Encoding.
pub fn pae(payload: &[u8]) -> Vec<u8> {
    sigstore_types::pae(PAYLOAD_TYPE, payload)
}

/// An envelope with one signature and no key id, which is an unauthenticated hint.
pub fn seal(payload: Vec<u8>, signature: Vec<u8>) -> DsseEnvelope {
    DsseEnvelope::new(
        PAYLOAD_TYPE,
        PayloadBytes::new(payload),
        DsseSignature::new(SignatureBytes::new(signature), KeyId::default()),
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn lengths_are_counted_in_bytes() {
        assert_eq!(super::pae("ä".as_bytes()), "DSSEv1 28 application/vnd.in-toto+json 2 ä".as_bytes());
    }
}
