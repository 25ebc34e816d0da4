// Verifies bundles that were made with one key, or with certificates of one identity, by
// @sigstore/verify:
//
//     node verify.cjs NODE_MODULES TRUSTED_ROOT PUBLIC_KEY BUNDLE…
//     node verify.cjs NODE_MODULES TRUSTED_ROOT SAN,ISSUER BUNDLE…
//
// One line for each bundle: `holds`, or the code of the error and what it says.
"use strict";

const { createHash, createPublicKey } = require("node:crypto");
const { readFileSync } = require("node:fs");
const { join } = require("node:path");

const [folder, root, key, ...bundles] = process.argv.slice(2);
const load = (name) => require(join(folder, name));
const { bundleFromJSON } = load("@sigstore/bundle");
const { TrustedRoot } = load("@sigstore/protobuf-specs");
const { Verifier, toSignedEntity, toTrustMaterial } = load("@sigstore/verify");

const [san, issuer] = key.split(",");
const keys = {};
if (!issuer) {
  const der = createPublicKey(readFileSync(key)).export({ type: "spki", format: "der" });
  // The hint in a bundle is the fingerprint of the key.
  keys[createHash("sha256").update(der).digest("hex")] = { rawBytes: der };
}
const trust = toTrustMaterial(TrustedRoot.fromJSON(JSON.parse(readFileSync(root))), keys);
const verifier = new Verifier(trust, { tlogThreshold: 1, timestampThreshold: 1 });
const policy = issuer && { subjectAlternativeName: san, extensions: { issuer } };
for (const file of bundles) {
  try {
    verifier.verify(toSignedEntity(bundleFromJSON(JSON.parse(readFileSync(file)))), policy);
    console.log("holds");
  } catch (error) {
    console.log(`${error.code ?? error.name}: ${error.message.split("\n")[0]}`);
  }
}
