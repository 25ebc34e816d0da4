"""Verifies bundles that were made with one key, by the parts of sigstore-python:

    python verify.py TRUSTED_ROOT PUBLIC_KEY BUNDLE…

Without a bundle, each line that is read is one, in base64.

Its `Verifier` takes certificates only, and refuses a bundle with a public key before it looks at
anything else. Everything it checks besides the certificate is asked for here one by one, in its
order: the time, of a timestamp or of the log; the log entry with its inclusion proof, checkpoint and
promise; the signature of the envelope; and that the log entry speaks of that signature. The last is
written out, since the original compares with a certificate.

One line for each bundle: `holds`, or the part that does not and what it says.
"""

import base64
import hashlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

from cryptography.hazmat.primitives import serialization
from sigstore import dsse
from sigstore._internal.trust import KeyringPurpose
from sigstore.errors import VerificationError
from sigstore.models import TransparencyLogEntry, TrustedRoot, VerificationMaterial
from sigstore.verify import Verifier
from sigstore.verify.verifier import VERIFIED_TIME_THRESHOLD
from sigstore_models.bundle.v1 import Bundle


def timestamp(bundle, envelope, verifier):
    (entry,) = bundle.verification_material.tlog_entries
    seen = SimpleNamespace(
        verification_material=VerificationMaterial(bundle.verification_material),
        log_entry=TransparencyLogEntry(entry),
        signature=envelope.signature,
    )
    if len(verifier._establish_time(seen)) < VERIFIED_TIME_THRESHOLD:
        raise VerificationError("no time is verified")


def log(bundle, keyring):
    (entry,) = bundle.verification_material.tlog_entries
    TransparencyLogEntry(entry)._verify(keyring)


def text(value):
    return base64.b64encode(value).decode()


def hashedrekord(envelope, key):
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return {
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


def dsse_entry(envelope, key, body):
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return {
        "apiVersion": "0.0.1",
        "kind": "dsse",
        "spec": {
            # Of JSON that is not canonical: the original does not look at it either.
            "envelopeHash": body["spec"]["envelopeHash"],
            "payloadHash": {
                "algorithm": "sha256",
                "value": hashlib.sha256(envelope._inner.payload).hexdigest(),
            },
            "signatures": [{"signature": text(envelope.signature), "verifier": text(pem)}],
        },
    }


def body(bundle, envelope, key):
    (entry,) = bundle.verification_material.tlog_entries
    found = json.loads(entry.canonicalized_body)
    match entry.kind_version.kind, entry.kind_version.version:
        case "hashedrekord", "0.0.2":
            expected = hashedrekord(envelope, key)
        case "dsse", "0.0.1":
            expected = dsse_entry(envelope, key, found)
        case kind, version:
            raise VerificationError(f"an entry of {kind} {version}")
    if found != expected:
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
