"""Bundles with certificates, by sigstore-python itself:

    python keyless.py verify TRUSTED_ROOT SAN ISSUER BUNDLE…
    python keyless.py sign TRUST_CONFIG TOKEN STATEMENT

The first prints one line for each bundle: `holds`, or what it says. Without a bundle, each line that
is read is one, in base64. The second prints the bundle. All but SAN and ISSUER are files.
"""

import base64
import sys
from pathlib import Path

from sigstore.dsse import Statement
from sigstore.models import Bundle, ClientTrustConfig, TrustedRoot
from sigstore.oidc import IdentityToken
from sigstore.sign import SigningContext
from sigstore.verify import Verifier
from sigstore.verify.policy import Identity


def verify(root, san, issuer, *bundles):
    verifier = Verifier(trusted_root=TrustedRoot.from_file(root))
    files = (Path(file).read_bytes() for file in bundles)
    lines = (base64.b64decode(line) for line in sys.stdin)
    for content in files if bundles else lines:
        try:
            verifier.verify_dsse(Bundle.from_json(content), Identity(identity=san, issuer=issuer))
            print("holds")
        except Exception as error:
            print(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")


def sign(config, token, statement):
    context = SigningContext.from_trust_config(ClientTrustConfig.from_json(Path(config).read_text()))
    with context.signer(IdentityToken(Path(token).read_text())) as signer:
        print(signer.sign_dsse(Statement(Path(statement).read_bytes())).to_json())


{"verify": verify, "sign": sign}[sys.argv[1]](*sys.argv[2:])
