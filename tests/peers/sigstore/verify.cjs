// Verifies bundles that were made with one key, by @sigstore/verify:
//
//     node verify.cjs NODE_MODULES TRUSTED_ROOT PUBLIC_KEY BUNDLE…
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

const der = createPublicKey(readFileSync(key)).export({ type: "spki", format: "der" });
// The hint in a bundle is the fingerprint of the key.
const hint = createHash("sha256").update(der).digest("hex");
const trust = toTrustMaterial(TrustedRoot.fromJSON(JSON.parse(readFileSync(root))), { [hint]: { rawBytes: der } });
const verifier = new Verifier(trust, { tlogThreshold: 1, timestampThreshold: 1 });
for (const file of bundles) {
  try {
    verifier.verify(toSignedEntity(bundleFromJSON(JSON.parse(readFileSync(file)))));
    console.log("holds");
  } catch (error) {
    console.log(`${error.code ?? error.name}: ${error.message.split("\n")[0]}`);
  }
}
