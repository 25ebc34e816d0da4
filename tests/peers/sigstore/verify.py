"""Verifies bundles that were made with one key, by the parts of sigstore-python:

    python verify.py TRUSTED_ROOT PUBLIC_KEY BUNDLE…

Without a bundle, each line that is read is one, in base64.

Its `Verifier` takes certificates only, and refuses a bundle with a public key before it looks at
anything else. Everything it checks besides the certificate is asked for here one by one, in its
order: the timestamp, the log entry with its inclusion proof and checkpoint, the signature of the
envelope, and that the log entry speaks of that signature. The last is written out, since the
original compares with a certificate.

One line for each bundle: `holds`, or the part that does not and what it says.
"""

import base64
import hashlib
import json
import sys
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from sigstore import dsse
from sigstore._internal.trust import KeyringPurpose
from sigstore.errors import VerificationError
from sigstore.models import TimestampVerificationData, TransparencyLogEntry, TrustedRoot
from sigstore.verify import Verifier
from sigstore_models.bundle.v1 import Bundle


def timestamp(bundle, envelope, verifier):
    data = TimestampVerificationData(bundle.verification_material.timestamp_verification_data)
    for response in data.rfc3161_timestamps:
        if verifier._verify_signed_timestamp(response, envelope.signature):
            return
    raise VerificationError("no timestamp holds")


def log(bundle, keyring):
    (entry,) = bundle.verification_material.tlog_entries
    TransparencyLogEntry(entry)._verify(keyring)


def body(bundle, envelope, key):
    (entry,) = bundle.verification_material.tlog_entries
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    text = lambda value: base64.b64encode(value).decode()
    expected = {
        "apiVersion": "0.0.2",
        "kind": "hashedrekord",
        "spec": {
            "hashedRekordV002": {
                "data": {"algorithm": "SHA2_256", "digest": text(hashlib.sha256(envelope.pae()).digest())},
                "signature": {
                    "content": text(envelope.signature),
                    "verifier": {
                        "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                        "publicKey": {"rawBytes": text(der)},
                    },
                },
            }
        },
    }
    if json.loads(entry.canonicalized_body) != expected:
        raise VerificationError("the entry speaks of something else")


def verify(read, root, key):
    part = "bundle"
    try:
        bundle = Bundle.from_json(read())
        envelope = dsse.Envelope(bundle.dsse_envelope)
        verifier = object.__new__(Verifier)
        verifier._trusted_root = root
        part = "timestamp"
        timestamp(bundle, envelope, verifier)
        part = "log"
        log(bundle, root.rekor_keyring(KeyringPurpose.VERIFY))
        part = "signature"
        dsse._verify(key, envelope)
        part = "body"
        body(bundle, envelope, key)
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        return f"{part}: {type(error).__name__}: {first}"
    return "holds"


root = TrustedRoot.from_file(sys.argv[1])
key = serialization.load_pem_public_key(Path(sys.argv[2]).read_bytes())
for bundle in sys.argv[3:]:
    print(verify(Path(bundle).read_bytes, root, key))
if not sys.argv[3:]:
    for line in sys.stdin:
        print(verify(lambda: base64.b64decode(line), root, key))
