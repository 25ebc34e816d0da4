"""A second reading of the decision: judges cases (README.md) from their raw documents.

    python3 decide.py [--limit N] FILE|-

Written from docs/ alone: policy.md says what the fields of a policy mean, concepts.md how the
decision goes, reasons.md what each reason is, predicates/ what a statement is. The five points
that a release must hold are `Image` and the four functions from `their_build` to `their_standing`; `decide`
puts them together. Nothing here is shared with the crate.
"""

import base64
import binascii
import functools
import hashlib
import json
import re
import sys
import tomllib
from collections import Counter
from datetime import datetime, timedelta, timezone

BUILD = "https://quorate.dev/predicates/build/v1"
DISSENT = "https://quorate.dev/predicates/dissent/v1"
# policy.md, "Other types": what may count besides.
SLSA = "https://slsa.dev/provenance/v1"
WORKFLOW = "https://actions.github.io/buildtypes/workflow/v1"
SEEDS = (
    "nix-seed/provenance",
    "https://github.com/0compute/nix-seed",
    "https://github.com/roundtablelove/nix-seed",
)
INDEX = "application/vnd.oci.image.index.v1+json"
# Of an image's manifest, its configuration and its layers.
OCI = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.config.v1+json")
DOCKER = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.container.image.v1+json",
)
# policy.md, "[[image]]": the platforms that a Nix system builds for.
SYSTEMS = {
    "x86_64-linux": "linux/amd64",
    "aarch64-linux": "linux/arm64",
    "armv7l-linux": "linux/arm/v7",
    "armv6l-linux": "linux/arm/v6",
    "i686-linux": "linux/386",
    "riscv64-linux": "linux/riscv64",
    "powerpc64le-linux": "linux/ppc64le",
    "s390x-linux": "linux/s390x",
    "loongarch64-linux": "linux/loong64",
}
# build-v1.md, "Schema": what a statement may leave out, and a policy may ask for.
REQUIRABLE = set(
    "sourceUri ref target builtAt flakeLockHash closureManifest substituters invocation".split()
)
DOMAINS = ("organisation", "jurisdiction", "infrastructure")
WORDS = ("refused", "equivocation", "dissent", "short", "met")


class Broken(Exception):
    """What was read is not what the documentation says it must be: the reason, then details."""


# --- Documents -----------------------------------------------------------------------------------


def need(holds, *why):
    if not holds:
        raise Broken(*why)


def strict(text, why):
    """JSON without a key twice, at any depth."""

    def pairs(found):
        table = dict(found)
        need(len(table) == len(found), why, "a key twice")
        return table

    def constant(word):
        raise Broken(why, word)

    def integer(digits):
        need(digits != "-0", why, digits)
        return int(digits)

    try:
        value = json.loads(
            text, object_pairs_hook=pairs, parse_constant=constant, parse_int=integer
        )
        # A lone surrogate is no text.
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as e:
        raise Broken(why, str(e)) from e
    return value


def table(value, why, required, optional=()):
    """An object that has all of `required`, and beyond them only `optional`."""
    need(type(value) is dict, why, "not an object")
    for key in required:
        need(key in value, why, f"no {key}")
    for key in value:
        need(key in required or key in optional, why, f"unknown {key}")
    return value


def folded(value, known, why):
    """In objects that are open: no key that differs from a known one in case alone."""
    known = {k.casefold(): k for k in known}
    for key in value:
        need(known.get(key.casefold(), key) == key, why, f"{key} by its case")


def sha256(text):
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def is_digest(value):
    return type(value) is str and re.fullmatch("sha256:[0-9a-f]{64}", value) is not None


def is_text(value, limit):
    return (
        type(value) is str
        and 1 <= len(value.encode()) <= limit
        and not re.search("[\x00-\x1f\x7f-\x9f]", value)
    )


def moment(text):
    """RFC 3339, in nanoseconds since 1970."""
    m = re.fullmatch(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)", text)
    need(m, "time", text)
    zone = "+00:00" if m[4] in "Zz" else m[4]
    whole = datetime.fromisoformat(f"{m[1]}T{m[2]}{zone}")
    return nanoseconds(whole) + int((m[3] or "0").ljust(9, "0")[:9])


EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def nanoseconds(when):
    return (when - EPOCH) // timedelta(microseconds=1) * 1000


def platform(os, architecture, variant=None):
    """As containerd normalises it."""
    architecture = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "i386": "386"}.get(
        architecture, architecture
    )
    if variant and variant.isdigit():
        variant = "v" + variant
    if architecture == "arm":
        variant = variant or "v7"
    if (architecture, variant) in (("arm64", "v8"), ("amd64", "v1")):
        variant = None
    return "/".join(filter(None, (os, architecture, variant)))


def nar_hash(text):
    """build-v1.md: SRI, or hex or Nix base32 with or without `sha256:`."""
    need(type(text) is str, "predicate-malformed", "narHash")
    if text.startswith("sha256-"):
        try:
            raw = base64.b64decode(text[7:], validate=True)
        except binascii.Error as e:
            raise Broken("predicate-malformed", "narHash") from e
        need(base64.b64encode(raw).decode() == text[7:], "predicate-malformed", "narHash")
    else:
        text = text.removeprefix("sha256:")
        if re.fullmatch("[0-9a-f]{64}", text):
            raw = bytes.fromhex(text)
        else:
            need(re.fullmatch("[0-9a-df-np-sv-z]{52}", text), "predicate-malformed", "narHash")
            number = 0
            for c in text:
                number = number * 32 + "0123456789abcdfghijklmnpqrsvwxyz".index(c)
            need(number < 1 << 256, "predicate-malformed", "narHash")
            raw = number.to_bytes(32, "little")
    need(len(raw) == 32, "predicate-malformed", "narHash")
    return raw


# --- The policy (policy.md) ----------------------------------------------------------------------


def seconds(text):
    m = re.fullmatch("([0-9]+)([smhdw])", text)
    need(m and int(m[1]) > 0, "policy", f"duration {text}")
    return int(m[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}[m[2]] * 10**9


def instant(value):
    need(type(value) is datetime and value.tzinfo, "policy", f"moment {value}")
    return nanoseconds(value)


def revocation(value):
    """The moment from which nothing is heard: `None` never, 0 for `compromised`."""
    if value is None:
        return None
    if value == "compromised":
        return 0
    return instant(table(value, "policy", ["from"])["from"])


def earlier(a, b):
    return min((x for x in (a, b) if x is not None), default=None)


def parts(text):
    """A platform as the policy writes it: `os/architecture` or `os/architecture/variant`."""
    p = platform(*text.split("/"))
    need(p in SYSTEMS.values(), "policy", f"platform {text}")
    return p


class Key:
    def __init__(self, of, revoked):
        self.start = instant(of["from"]) if "from" in of else None
        self.end = instant(of["until"]) if "until" in of else None
        need(self.start is None or self.end is None or self.start < self.end, "policy", "window")
        self.revoked = earlier(revocation(of.get("revoked")), revoked)


class Builder:
    def __init__(self, t, names):
        table(
            t,
            "policy",
            ["name", "operator"],
            ["key", "keys", "revoked", "systems", "ids", "slots", *DOMAINS],
        )
        need(("key" in t) != ("keys" in t), "policy", "key or keys")
        need(t.get("systems") != [], "policy", "no systems")
        self.name = t["name"]
        self.ids = {t["name"], *t.get("ids", [])}
        # Known by keys alone, it is its own issuer.
        self.voice = {"operator": t["operator"], "issuer": t["name"], **{d: t[d] for d in DOMAINS if d in t}}
        self.platforms = {SYSTEMS[s] for s in t.get("systems", SYSTEMS)}
        revoked = revocation(t.get("revoked"))
        self.keys = {}
        for k in t.get("keys", [t]):
            if k is not t:
                table(k, "policy", ["key"], ["from", "until", "revoked"])
            key = Key({} if k is t else k, revoked)
            need(names[k["key"]] not in self.keys, "policy", "a key twice")
            self.keys[names[k["key"]]] = key
        self.compromised = all(k.revoked == 0 for k in self.keys.values())


class Rule:
    def __init__(self, t):
        table(
            t,
            "policy",
            ["repository", "platforms"],
            "optional since single quorum environments verify distinct_by hear_all sources targets refs "
            "required_fields max_age verify_max_age epoch min_sequence names tag types unbound".split(),
        )
        self.repository = t["repository"]
        self.required = [parts(p) for p in t["platforms"]]
        self.since = {parts(p): sequence for p, sequence in t.get("since", {}).items()}
        need(all(type(s) is int and s >= 0 for s in self.since.values()), "policy", "since")
        self.optional = [parts(p) for p in t.get("optional", [])] + list(self.since)
        self.single = t.get("single", False)
        every = self.required + self.optional
        need(self.required and len(every) == len(set(every)), "policy", "platforms")
        need(("quorum" in t) != ("environments" in t), "policy", "quorum or environments")
        # One environment without a name stands for a plain quorum.
        self.environments = t.get("environments", {None: t.get("quorum")})
        self.strictest = max(self.environments.values())
        need(min(self.environments.values()) > 0, "policy", "quorum of 0")
        self.to_run = self.environments[t["verify"]] if "verify" in t else self.strictest
        self.distinct = ["operator"]
        also = t.get("distinct_by", "operator")
        if type(also) is not list:
            also = [also]
        need(0 < len(also) == len(set(also)), "policy", "distinct_by")
        for domain in also:
            need(domain in (*DOMAINS, "operator", "issuer"), "policy", "distinct_by")
        self.distinct += sorted(set(also) - {"operator"})
        self.hear_all = t.get("hear_all", False)
        self.sources, self.targets, self.refs = (t.get(k) for k in ("sources", "targets", "refs"))
        self.fields = t.get("required_fields", [])
        need(set(self.fields) <= REQUIRABLE, "policy", "fields")
        self.max_age = {
            "promote": seconds(t["max_age"]) if "max_age" in t else None,
            "verify": seconds(t["verify_max_age"]) if "verify_max_age" in t else None,
        }
        self.epoch = instant(t["epoch"]) if "epoch" in t else None
        self.min_sequence = t.get("min_sequence", 0)
        self.names = t.get("names")
        self.types = t.get("types", [])
        need(set(self.types) <= {SLSA, *SEEDS}, "policy", "types")
        need(self.sources or not set(self.types) & set(SEEDS), "policy", "types without a source")
        self.tags = [
            table(tag, "policy", ["name", "rule"], ["environment", "refs", "versions"])
            for tag in t.get("tag", [])
        ]

    def matches(self, repository):
        """How well: the length of what matched, an exact name above all; or nothing."""
        if self.repository == repository:
            return float("inf")
        if self.repository.endswith("/*") and repository.startswith(self.repository[:-1]):
            return len(self.repository)
        return 0

    def quorum(self, expect):
        """policy.md, "Environments": of several tags, the strictest; `--quorum` only raises it."""
        n = self.to_run if expect["purpose"] == "verify" else max(map(self.of_tag, expect["tags"]))
        return max(n, expect["quorum"] or 0)

    def of_tag(self, tag):
        for t in self.tags:
            pattern = ".*".join(map(re.escape, t["name"].split("*")))
            if re.fullmatch(pattern, tag):
                return self.environments.get(t.get("environment"), self.strictest)
        return self.strictest


class Policy:
    def __init__(self, text, names):
        t = tomllib.loads(text)
        table(t, "policy", ["version"], ["image", "builder", "waive"])
        need(t["version"] == 1, "policy", "version")
        self.builders = [Builder(b, names) for b in t.get("builder", [])]
        self.rules = [Rule(i) for i in t.get("image", [])]
        self.waived = {}
        for w in t.get("waive", []):
            table(w, "policy", ["statement", "reason", "until"])
            self.waived[w["statement"]] = instant(w["until"])
        self.signers = {}
        for b in self.builders:
            for k in b.keys:
                need(k not in self.signers, "policy", "one key of two builders")
                self.signers[k] = b
        # policy.md, "What is refused at load": a quorum that a platform cannot reach.
        for r in self.rules:
            for p in r.required + r.optional:
                can = [b for b in self.builders if p in b.platforms and not b.compromised]
                n = r.strictest
                need(voices(can, r.distinct) >= n, "policy", f"{n} voices for {p}")

    def rule(self, repository):
        best = max(self.rules, key=lambda r: r.matches(repository), default=None)
        return best if best and best.matches(repository) else None


@functools.lru_cache(4096)
def policy(text, names):
    return Policy(text, dict(names))


def apart(row):
    return lambda other: all(one != two for one, two in zip(row, other))


def voices(builders, distinct):
    """The most builders of whom no two share an operator, nor what else they must differ in."""
    if len(distinct) == 1:
        return len({b.voice["operator"] for b in builders})
    if len(distinct) > 2:
        best = [frozenset()]
        for row in {tuple(b.voice[d] for d in distinct) for b in builders}:
            best += [chosen | {row} for chosen in best if all(map(apart(row), chosen))]
        return max(map(len, best))
    edges = {}
    for b in builders:
        edges.setdefault(b.voice["operator"], set()).add(b.voice[distinct[1]])
    taken = {}

    def seat(operator, seen):
        for domain in edges[operator] - seen:
            seen.add(domain)
            if domain not in taken or seat(taken[domain], seen):
                taken[domain] = operator
                return True
        return False

    return sum(seat(o, set()) for o in edges)


# --- Statements (build-v1.md, dissent-v1.md) ------------------------------------------------------


class Statement:
    """What was signed, as it stands there."""

    def __init__(self, text):
        t = strict(text, "statement-malformed")
        table(t, "statement-malformed", ["_type", "subject", "predicateType", "predicate"])
        need(t["_type"] == "https://in-toto.io/Statement/v1", "statement-type")
        need(type(t["subject"]) is list and len(t["subject"]) == 1, "subject-ambiguous")
        self.name, subject = named(t["subject"][0], "statement-malformed")
        kind, p = t["predicateType"], t["predicate"]
        self.dissents = kind == DISSENT
        if kind == BUILD:
            self.manifest = subject
        else:
            need(self.dissents, "predicate-type")
            table(p, "predicate-malformed", ["build", "disputes"])
            name, self.manifest = named(p["disputes"], "predicate-malformed")
            need(name == self.name, "predicate-malformed", "disputes another repository")
            p = p["build"]
        self.build(p)
        need(not self.dissents or subject == self.config, "predicate-malformed", "subject")
        self.digest = sha256(text)
        self.group = (self.name, self.source, self.target, self.commit, self.sequence)

    def build(self, p):
        why = "predicate-malformed"
        table(
            p,
            why,
            ["commit", "system", "narHash", "builder", "configDigest", "sequence"],
            [*REQUIRABLE, "extensions"],
        )
        self.commit, self.sequence, self.config = p["commit"], p["sequence"], p["configDigest"]
        need(type(self.commit) is str, why, "commit")
        need(re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", self.commit), why, "commit")
        need(type(p["system"]) is str and p["system"] in SYSTEMS, why, "system")
        self.platform = SYSTEMS[p["system"]]
        need(is_digest(self.config), why, "configDigest")
        self.content = (nar_hash(p["narHash"]), self.config)
        need(type(self.sequence) is int and 0 <= self.sequence < 1 << 64, why, "sequence")
        self.builder = table(p["builder"], why, ["id"])["id"]
        self.source, self.ref, self.target = (p.get(k) for k in ("sourceUri", "ref", "target"))
        for value in [self.builder] + [p[k] for k in ("sourceUri", "ref", "target") if k in p]:
            need(is_text(value, 1024), why, "text")
        for key in ("builtAt", "flakeLockHash", "closureManifest", "invocation"):
            need(type(p.get(key, "")) is str, why, key)
        if "builtAt" in p:
            moment(p["builtAt"])
        need(type(p.get("extensions", {})) is dict, why, "extensions")
        several = p.get("substituters", [])
        need(type(several) is list and all(type(s) is str for s in several), why, "substituters")
        self.fields = set(p)


class Provenance:
    """What a statement of another type says (policy.md, "Other types"): which manifest came of which
    commit. What it leaves open is `None`."""

    dissents = False
    sequence = target = None

    def __init__(self, text):
        t = strict(text, "statement-malformed")
        table(t, "statement-malformed", ["_type", "subject", "predicateType", "predicate"])
        need(t["_type"] == "https://in-toto.io/Statement/v1", "statement-type")
        need(type(t["subject"]) is list and len(t["subject"]) == 1, "subject-ambiguous")
        self.name, self.manifest = named(t["subject"][0], "statement-malformed")
        self.type, p = t["predicateType"], t["predicate"]
        need(type(p) is dict, "predicate-malformed")
        self.source = self.ref = self.platform = self.nar = None
        if self.type == SLSA:
            build = p["buildDefinition"]
            need(build["buildType"] == WORKFLOW, "predicate-malformed", "buildType")
            workflow = build["externalParameters"]["workflow"]
            git = [d for d in build["resolvedDependencies"] if "gitCommit" in d.get("digest", {})]
            need(len(git) == 1, "predicate-malformed", "commits")
            self.source, self.ref = "git+" + workflow["repository"], workflow["ref"]
            need(git[0]["uri"] == f"{self.source}@{self.ref}", "predicate-malformed", "uri")
            self.commit = git[0]["digest"]["gitCommit"]
            self.builder = p["runDetails"]["builder"]["id"]
        else:
            commits = {p[k] for k in ("commit", "gitHash") if k in p}
            need(len(commits) == 1, "predicate-malformed", "commits")
            self.commit = commits.pop()
            self.platform = SYSTEMS[p["system"]]
            self.nar = nar_hash(p["narHash"])
            self.builder = p["builder"]["identity"]
            if "imageHash" in p:
                image = p["imageHash"].split("@")[-1]
                need(image == self.manifest, "predicate-malformed", "imageHash")
        need(re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", self.commit), "predicate-malformed", "commit")
        self.fields = {k for k, v in (("sourceUri", self.source), ("ref", self.ref)) if v is not None}
        self.digest = sha256(text)

    def joins(self, group):
        name, source, _, commit, _ = group
        return (self.name, self.commit) == (name, commit) and self.source in (None, source)


def named(t, why):
    """A repository and a digest: a subject, or what is disputed."""
    table(t, why, ["name", "digest"])
    need(type(t["name"]) is str and "/" in t["name"], why, "name")
    need(type(t["digest"]) is dict and set(t["digest"]) == {"sha256"}, "subject-ambiguous")
    digest = t["digest"]["sha256"]
    need(type(digest) is str and is_digest("sha256:" + digest), why, "digest")
    return t["name"], "sha256:" + digest


@functools.lru_cache(65536)
def statement(text):
    try:
        t = json.loads(text)
        other = type(t) is dict and t.get("predicateType") in (SLSA, *SEEDS)
    except ValueError:
        other = False
    try:
        return Provenance(text) if other else Statement(text)
    except (KeyError, TypeError, AttributeError) as e:
        return Broken("predicate-malformed", repr(e))
    except Broken as e:
        return e


class Said:
    """A proven statement by a builder of the policy, and what the policy makes of it."""

    def __init__(self, st, builder, key, times):
        self.st, self.builder, self.key, self.times = st, builder, key, times
        self.heard = True  # may disagree
        self.waived = False
        self.foreign = False  # is about another build, or another platform than its manifest's
        self.reason = None  # why it does not count

    def counts(self, manifest):
        return not self.reason and not self.st.dissents and self.st.manifest == manifest


# --- The image (image-spec; concepts.md, "How the decision goes", 1) ---------------------------


def index_children(image):
    """The descriptors that an index holds."""
    why = "index-malformed"
    need(image["mediaType"] == INDEX, "not-an-index", image["mediaType"])
    index = table(
        strict(image["bytes"], why),
        why,
        ["schemaVersion", "manifests"],
        ["mediaType", "artifactType", "subject", "annotations"],
    )
    need(type(index["schemaVersion"]) is int and index["schemaVersion"] == 2, why, "schemaVersion")
    need(index.get("mediaType", INDEX) == INDEX, why, "mediaType")
    annotations(index, why)
    need(type(index["manifests"]) is list, why, "manifests")
    if "subject" in index:
        descriptor(index["subject"], why)
    for child in index["manifests"]:
        descriptor(child, why)
        p = table(
            child.get("platform", {"os": "", "architecture": ""}),
            why,
            ["os", "architecture"],
            ["variant", "os.version", "os.features", "features"],
        )
        need(all(type(p.get(k, "")) is str for k in ("os", "architecture", "variant")), why)
    return index["manifests"]


def the_child(child, said, manifests, configs, rule):
    """The manifest and configuration behind a descriptor; gives the platform and the
    configuration's digest. Of one image without an index the configuration says the platform."""
    why = "child-malformed"
    text = manifests.get(child["digest"])
    need(text is not None, "child-absent", child["digest"])
    is_what(child, text, why)
    manifest = table(
        strict(text, why),
        why,
        ["schemaVersion", "config", "layers"],
        ["mediaType", "artifactType", "subject", "annotations"],
    )
    need(manifest["schemaVersion"] == 2, why, "schemaVersion")
    need(manifest.get("mediaType", child["mediaType"]) == child["mediaType"], why, "mediaType")
    annotations(manifest, why)
    descriptor(manifest["config"], why)
    need(manifest["config"]["mediaType"] in (OCI[1], DOCKER[1]), "index-nested", "an artifact")
    need("artifactType" not in manifest, "index-nested", "an artifact")
    need(type(manifest["layers"]) is list, why, "layers")
    for layer in manifest["layers"]:
        descriptor(layer, why)
    text = configs.get(manifest["config"]["digest"])
    need(text is not None, "child-absent", manifest["config"]["digest"])
    is_what(manifest["config"], text, why)
    config = strict(text, why)
    need(type(config) is dict, why, "configuration")
    folded(config, ["architecture", "os", "variant", "rootfs", "config", "history", "created"], why)
    for key in ("os", "architecture"):
        need(type(config.get(key)) is str and config[key], why, key)
    need(type(config.get("variant", "")) is str, why, "variant")
    rootfs = config.get("rootfs")
    need(type(rootfs) is dict and rootfs.get("type") == "layers", why, "rootfs")
    folded(rootfs, ["type", "diff_ids"], why)
    need(type(rootfs.get("diff_ids")) is list, why, "diff_ids")
    need(all(map(is_digest, rootfs["diff_ids"])), why, "diff_ids")
    need(len(rootfs["diff_ids"]) == len(manifest["layers"]), why, "diff_ids")
    own = platform(config["os"], config["architecture"], config.get("variant"))
    # nix2container writes no variant: then the system decides.
    without = config["architecture"] == "arm" and not config.get("variant")

    def fits(p):
        return own == p or without and p.startswith(config["os"] + "/arm/")

    if said is None:
        named = [p for p in rule.required + rule.optional if fits(p)]
        need(len(named) < 2, "child-platform", *named)
        said = named[0] if named else own
    need(fits(said), "child-platform", own)
    return said, manifest["config"]["digest"]


def descriptor(d, why):
    table(
        d,
        why,
        ["mediaType", "digest", "size"],
        ["data", "annotations", "artifactType", "platform"],  # `urls` send readers elsewhere
    )
    need(type(d["mediaType"]) is str and is_digest(d["digest"]), why, "descriptor")
    need(type(d["size"]) is int and 0 <= d["size"] < 1 << 63, why, "size")
    annotations(d, why)
    if "data" in d:
        try:
            data = base64.b64decode(d["data"], validate=True)
        except (binascii.Error, TypeError, ValueError) as e:
            raise Broken(why, "data") from e
        need(len(data) == d["size"], why, "data")
        need("sha256:" + hashlib.sha256(data).hexdigest() == d["digest"], why, "data")


def annotations(t, why):
    a = t.get("annotations", {})
    need(type(a) is dict and all(type(v) is str for v in a.values()), why, "annotations")


def is_what(d, text, why):
    need(len(text.encode()) == d["size"] and sha256(text) == d["digest"], why, "other bytes")


# --- The decision: five points that must all hold -----------------------------------------------


class Image:
    """Point 1: every required platform once, beyond them optional ones, once each; each child's
    configuration says the same platform. `refusals` is what refuses the image, `found` has
    {platform: (manifest, configuration)} as far as they are known, `has` what the image has, in good
    order or not."""

    def __init__(self, rule, image, manifests, configs, expect):
        self.refusals, self.found, self.has = [], {}, set()
        # policy.md, "Platforms": one image alone is run as a release of its own platform.
        self.alone = False
        self.rule, self.whole = rule, False
        try:
            if rule.single and image["mediaType"] in (OCI[0], DOCKER[0]):
                text = image["bytes"]
                itself = {
                    "mediaType": image["mediaType"],
                    "digest": sha256(text),
                    "size": len(text.encode()),
                }
                p, config = the_child(itself, None, {itself["digest"]: text}, configs, rule)
                self.add(p, itself["digest"], config)
                self.alone = expect["purpose"] == "verify"
                self.whole = not self.alone
            else:
                children = index_children(image)
                self.whole = True
                for child in children:
                    self.child(child, manifests, configs)
        except Broken as e:
            self.refusals.append(e.args)
        if self.whole:
            missing = [p for p in rule.required if p not in self.has]
            self.refusals += [("platform-missing", p) for p in missing]

    def child(self, child, manifests, configs):
        try:
            need("platform" in child, "index-malformed", "no platform")
            p = platform(*(child["platform"].get(k) for k in ("os", "architecture", "variant")))
            twice = p in self.has
            self.has.add(p)
            need(child["mediaType"] in (OCI[0], DOCKER[0]), "index-nested", child["mediaType"])
            self.add(p, child["digest"], the_child(child, p, manifests, configs, self.rule)[1])
            need(not twice, "platform-twice", p)
        except Broken as e:
            self.refusals.append(e.args)

    def add(self, p, manifest, config):
        self.has.add(p)
        self.found[p] = (manifest, config)
        if p not in self.rule.required and p not in self.rule.optional:
            self.refusals.append(("platform-extra", p))

    def lacks(self, sequence):
        """What a release of this sequence must have besides."""
        since = self.rule.since.items()
        return [p for p, s in since if self.whole and s <= sequence and p not in self.has]


def their_build(rule, repository, expect, said):
    """Point 2: is it this build? What this refuses is about another build, and disagrees with
    nothing here (policy.md, "Rules on time")."""
    st = said.st
    if st.name not in (rule.names or [repository]):
        return "name-mismatch"
    for value, listed, word in (
        (st.source, rule.sources, "source"),
        (st.target, rule.targets, "target"),
    ):
        if listed is not None and value is None:
            if word == "source" and isinstance(st, Provenance) and st.type in SEEDS:
                continue
            return f"{word}-missing"
        if listed is not None and value not in listed:
            return f"{word}-not-allowed"
    if expect["commit"] and st.commit != expect["commit"]:
        return "commit-unexpected"
    return None


def two_things(own, backed, manifest):
    """Whether a builder says two things of one platform, in one group: by full statements, of
    whatever manifests, or of one manifest by statements of other types."""
    own = [s.st for s in own if s.heard]
    nars = {}
    for st in own:
        nars.setdefault(manifest or st.manifest, set()).add(st.content[0])
    for st in (b.st for b in backed):
        nars.setdefault(st.manifest, set()).update({st.nar} - {None})
    return len({st.content for st in own}) > 1 or any(len(n) > 1 for n in nars.values())


def they_are_ambiguous(groups, backings, found):
    """policy.md, "Other types": what speaks of one of several builds or platforms does not count."""
    builds = {s.st.group for said in groups.values() for s in said if s.heard}
    for b in backings:
        of = [g for g in builds if (g[0], g[3]) == (b.st.name, b.st.commit)]
        at = [p for p, (manifest, _) in found.items() if manifest == b.st.manifest]
        if len(of) > 1 or b.st.platform is None and len(at) > 1:
            b.reason = b.reason or "unbound-ambiguous"


def their_agreement(here, backed, manifest, config):
    """Point 3: the content that most builders voted for, of those that fit the manifest; none if
    two have equally many (concepts.md, "How the decision goes", 4). Then whether anybody voted."""
    # Who says two things supports neither.
    liars = {
        b
        for b in {s.builder for s in here}
        if two_things(*([s for s in of if s.builder is b] for of in (here, backed)), manifest)
    }
    here = [s for s in here if s.heard and s.builder not in liars]
    votes = {
        (s.st.content, s.builder) for s in here if s.counts(manifest) and s.st.config == config
    }
    most = Counter(content for content, _ in votes).most_common(2)
    if most:
        content = most[0][0] if len(most) == 1 or most[0][1] > most[1][1] else None
        return content, content is not None, here
    # Nobody votes. Then one content alone differs from nothing, unless it is said of this manifest
    # and does not fit it.
    said = [s.st for s in here]
    if len({st.content for st in said}) == 1:
        st = said[0]
        if st.config == config or all(st.manifest != manifest for st in said):
            return st.content, False, here
    return None, False, here


def their_objections(own, backed, manifest, agreed, voted, honest, disputes):
    """Point 4: what a builder says against the release: by its statements on one platform, in one
    group, and by those that dispute what the index has there. No reason not to count silences
    them; only a revocation and a waiver do that."""
    contents = {s.st.content for s in own if s.heard}
    if two_things(own, backed, manifest):
        return "equivocation"
    # policy.md, "Other types": a narHash that is not that of what is agreed, or where nobody votes,
    # of what is said. Of another manifest than the index's it says nothing.
    backed = [b for b in backed if b.st.manifest == manifest]
    others = {agreed[0]} if voted else {s.st.content[0] for s in honest}
    if any(b.st.nar is not None and others - {b.st.nar} for b in backed):
        return "dissent"
    if contents - {agreed} or any(s.heard for s in disputes):
        return "dissent"
    return None


def their_standing(policy, rule, expect, now, said):
    """Point 5: time, revocation, waivers, and who may vote. Only a revocation and a waiver take
    away the voice to disagree."""
    st, key, times = said.st, said.key, said.times
    if key.revoked == 0:
        said.heard, said.reason = False, "key-compromised"
        return
    if key.revoked is not None and any(t >= key.revoked for t in times):
        said.heard = any(t < key.revoked for t in times)
        said.reason = "key-revoked"
        if not said.heard:
            return
    if policy.waived.get(st.digest, now) > now:
        said.heard, said.waived, said.reason = False, True, "waived"
        return
    if not times:
        said.reason = "no-verified-time"
        return
    if max(times) > now + 60 * 10**9:
        said.reason = "time-in-future"
        return
    signed = min(times)
    limit = rule.max_age[expect["purpose"]]
    if st.builder not in said.builder.ids:
        said.reason = "builder-claim"
    elif st.platform is not None and st.platform not in said.builder.platforms:
        said.reason = "system-not-allowed"
    elif rule.refs is not None and st.ref not in rule.refs:
        said.reason = "ref-not-allowed"
    elif not st.fields.issuperset(rule.fields):
        said.reason = "field-missing"
    elif key.start is not None and any(t < key.start for t in times):
        said.reason = "key-outside-window"
    elif key.end is not None and any(t >= key.end for t in times):
        said.reason = "key-outside-window"
    elif limit is not None and now - signed > limit:
        said.reason = "too-old"
    elif rule.epoch is not None and signed < rule.epoch:
        said.reason = "before-epoch"
    elif st.sequence is not None and st.sequence < rule.min_sequence:
        said.reason = "sequence-too-low"
    elif st.sequence is not None and st.sequence * 10**9 > signed + 600 * 10**9:
        said.reason = "sequence-ahead"


class Group:
    """What is said of one build, held against the index."""

    def __init__(self, policy, rule, n, image, said, backings):
        found = image.found
        self.commit, self.sequence = said[0].st.commit, said[0].st.sequence
        self.group = said[0].st.group
        name, source, target, commit, sequence = self.group
        self.backings = [b for b in backings if b.st.joins(self.group)]
        self.order = (sequence, commit, name, source or "", target or "")
        self.cells, self.have = {}, {}
        short = not found
        # Whether full statements make the quorum.
        self.ordered = bool(found)
        objections, self.disputed = set(), set()
        index = {manifest for manifest, _ in found.values()}

        def left_out(st, p):
            return st.platform == p and st.manifest not in index

        spoken = {s.st.platform for s in said + self.backings} - {None}
        for p in spoken | set(found):
            here = [s for s in said if s.st.platform == p]
            manifest, config = found.get(p, (None, None))
            backed = [
                b
                for b in self.backings
                if b.st.platform == p or b.st.platform is None and b.st.manifest == manifest
            ]
            agreed, voted, honest = their_agreement(here, backed, manifest, config)
            # What disputes a manifest of the index stands there, whatever system it names. A
            # platform that was left out of the index can still be disputed.
            disputes = [
                s
                for s in said
                if s.st.dissents
                and (s.st.manifest == manifest if p in found else left_out(s.st, p))
            ]
            cells, counted, full = {}, [], []
            for b in policy.builders:
                own = [s for s in here if s.builder is b]
                mine = [s for s in backed if s.builder is b]
                against = [s for s in disputes if s.builder is b]
                status = their_objections(own, mine, manifest, agreed, voted, honest, against)
                if status:
                    objections.add(status)
                    self.disputed.add(p)
                elif any(s.counts(manifest) for s in own) or (
                    voted and p in b.platforms and any(s.counts(manifest) for s in mine)
                ):
                    status = "counted"
                    counted.append(b)
                    if any(s.counts(manifest) for s in own):
                        full.append(b)
                if status:
                    cells[b.name] = status
                if rule.hear_all and p in found and p in b.platforms and not b.compromised:
                    short |= not any(s.heard or s.waived for s in own)
            self.cells[p] = cells
            if p in found:
                self.have[p] = voices(counted, rule.distinct)
                short |= self.have[p] < n
                self.ordered &= voices(full, rule.distinct) >= n
        # A group that nobody may speak in is none, and statements of other types make none.
        self.speaks = any(s.heard for s in said)
        self.word = next((w for w in WORDS if w in objections), "short" if short else "met")
        self.lacks = image.lacks(self.sequence)
        if self.lacks and self.word == "met":
            self.word = "refused"

    def holds(self, s, p):
        backs = isinstance(s.st, Provenance)
        mine = s in self.backings if backs else s.st.group == self.group
        return mine and s.st.platform == p


def decide(case):
    """The verdict, as a case states it."""
    expect, now = case["expect"], moment(case["now"])
    pol = policy(case["policy"], tuple(sorted(case["keys"].items())))
    rule = pol.rule(case["repository"])
    if rule is None:
        return answer("refused", note="no-rule")
    image = Image(rule, case["image"], case["manifests"], case["configs"], expect)
    refusals, found = image.refusals, image.found
    n = rule.quorum(expect)
    proven, groups, backings, notes = [], {}, [], []
    for raw in case["statements"]:
        builder = pol.signers.get(raw["signer"])
        st = statement(raw["payload"])
        if builder is None or isinstance(st, Broken):
            notes.append(f"{raw['signer']}: {'unknown' if builder is None else st.args}")
            continue
        full = isinstance(st, Statement)
        if not full and st.type not in rule.types:
            notes.append(f"{raw['signer']}: {st.type}")
            continue
        said = Said(st, builder, builder.keys[raw["signer"]], [moment(t) for t in raw["times"]])
        proven.append(said)
        their_standing(pol, rule, expect, now, said)
        other = their_build(rule, case["repository"], expect, said)
        if not other and full:
            groups.setdefault(st.group, []).append(said)
        elif not other and said.heard:
            backings.append(said)
        said.foreign = other not in (None, "commit-unexpected")
        if st.platform and any(m == st.manifest and p != st.platform for p, (m, _) in found.items()):
            other = other or "system-mismatch"
            said.foreign |= said.heard
        said.reason = said.reason or other
        notes.append(f"{builder.name} {st.platform} {st.commit[:7]}@{st.sequence}: {said.reason}")
    they_are_ambiguous(groups, backings, found)
    judged = [Group(pol, rule, n, image, said, backings) for said in groups.values()]
    # "One group that is met is enough; of several, the highest sequence is reported. If none is met,
    # the worst is, and of several that one in which most agree." policy.md, "Other types": those that
    # full statements meet go before those that others complete.
    order = ("short", "dissent", "equivocation", "refused", "met")
    rank = lambda g: (
        order.index(g.word),
        g.ordered if g.word == "met" else sum(g.have.values()),
        g.order,
    )
    best = max((g for g in judged if g.speaks), key=rank, default=None)
    platforms = {}
    required = () if image.alone else rule.required
    for p in {*required, *found, *((*best.disputed, *best.lacks) if best else ())}:
        cells = dict(best.cells.get(p, {})) if best else {}
        for b in pol.builders:
            if b.name not in cells:
                cells[b.name] = otherwise(case["rejected"], pol, proven, best, p, found.get(p), b)
        have = best.have.get(p, 0) if best else 0
        platforms[p] = {"have": have, "need": n, "cells": cells}
    group = best and {"commit": best.commit, "sequence": best.sequence}
    word = "refused" if refusals else best.word if best else "short"
    return answer(word, group, platforms, refusals + notes)


def otherwise(rejected, pol, proven, best, p, child, b):
    """The cell of a builder that neither counts nor objects: from what it says of this platform in
    the reported group, of its manifest in others, and from what proves nothing."""
    if child is None:
        return "missing"
    own = [
        s
        for s in proven
        if s.builder is b
        and (s.st.manifest == child[0] or best and s.heard and best.holds(s, p))
    ]
    unproven = any(r["manifest"] == child[0] and pol.signers.get(r["signer"]) is b for r in rejected)
    if unproven or any(not s.waived and not s.foreign for s in own):
        return "rejected"
    if any(s.waived and not s.foreign for s in own):
        return "waived"
    return "rejected" if own else "missing"


def answer(word, group=None, platforms=None, note=None):
    return {"verdict": word, "group": group, "platforms": platforms or {}}, note


# --- Comparing -------------------------------------------------------------------------------------


def differences(case, own):
    said = case["verdict"]
    for key in ("verdict", "group"):
        if said[key] != own[key]:
            yield f"{key}: case {said[key]}, model {own[key]}"
    for p in sorted({*said["platforms"], *own["platforms"]}):
        theirs, ours = said["platforms"].get(p), own["platforms"].get(p)
        if theirs is None or ours is None:
            yield f"{p}: case {theirs}, model {ours}"
            continue
        for key in ("have", "need"):
            if theirs[key] != ours[key]:
                yield f"{p} {key}: case {theirs[key]}, model {ours[key]}"
        for b in sorted({*theirs["cells"], *ours["cells"]}):
            a, z = theirs["cells"].get(b), ours["cells"].get(b)
            if a != z:
                yield f"{p} {b}: case {a}, model {z}"


def main(arguments):
    limit = None
    if arguments[:1] == ["--limit"]:
        limit, arguments = int(arguments[1]), arguments[2:]
    source = sys.stdin if arguments[0] == "-" else open(arguments[0], encoding="utf-8")
    judged = agreed = 0
    words = Counter()
    with source:
        for number, line in enumerate(source, 1):
            if limit is not None and judged == limit:
                break
            case = json.loads(line)
            judged += 1
            words[case["verdict"]["verdict"]] += 1
            try:
                own, notes = decide(case)
                wrong = list(differences(case, own))
            except (Broken, ValueError, KeyError, TypeError) as e:
                wrong, notes = [f"the model cannot judge: {e!r}"], None
            if not wrong:
                agreed += 1
            elif judged - agreed <= 20:
                print(f"line {number}: {'; '.join(wrong)}\n    {notes}")
    print(f"judged {judged}, agreed {agreed}")
    print(", ".join(f"{w} {words[w]}" for w in WORDS))
    return 0 if judged and judged == agreed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
