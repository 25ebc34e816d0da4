"""Tests of the model itself, by hand from docs/: `python3 test_decide.py`."""

import hashlib
import json
import unittest
from base64 import b64encode
from copy import deepcopy

import decide

APP = "ghcr.io/acme/app"
COMMIT = "a" * 40
OTHER_COMMIT = "b" * 40
THREE = ("one", "two", "three")
SYSTEM = {p: s for s, p in decide.SYSTEMS.items()}
NOW = "2026-01-02T00:00:00Z"
SIGNED = "2026-01-01T00:00:00Z"


def text(value):
    return json.dumps(value, separators=(",", ":"))


def digest(name):
    return "sha256:" + hashlib.sha256(name.encode()).hexdigest()


class Release:
    """An index and what the registry has of it. Content `A` is what was pushed."""

    def __init__(self, *platforms):
        self.manifests, self.configs, self.children, self.of = {}, {}, [], {}
        for p in platforms:
            self.add(p, p)

    def add(self, said, built):
        os, architecture, *variant = said.split("/")
        there = dict(zip(("os", "architecture", "variant"), built.split("/")))
        config = text({**there, "rootfs": {"type": "layers", "diff_ids": [digest(built)]}})
        manifest = text(
            {
                "schemaVersion": 2,
                "mediaType": decide.OCI[0],
                "config": self.describe(decide.OCI[1], config),
                "layers": [{"mediaType": "layer", "digest": digest(said), "size": 3}],
            }
        )
        self.configs[digest(config)] = config
        self.manifests[digest(manifest)] = manifest
        p = {"os": os, "architecture": architecture, **dict(zip(["variant"], variant))}
        self.children.append({**self.describe(decide.OCI[0], manifest), "platform": p})
        self.of.setdefault(said, (digest(manifest), digest(config)))

    @staticmethod
    def describe(media_type, body):
        return {"mediaType": media_type, "digest": digest(body), "size": len(body)}

    def image(self, **more):
        index = {"schemaVersion": 2, "mediaType": decide.INDEX, "manifests": self.children, **more}
        return {"mediaType": decide.INDEX, "bytes": text(index)}


def policy(rule="", builders=THREE, quorum=2, platforms=("linux/amd64",), **of):
    """One rule and builders, each its own operator; `of` has further lines for some of them."""
    n = f"quorum = {quorum}\n" if quorum else ""
    lines = f'version = 1\n[[image]]\nrepository = "{APP}"\n'
    lines += f"platforms = {json.dumps(platforms)}\n{n}{rule}\n"
    for b in builders:
        key = "" if "keys = " in of.get(b, "") else f'key = "{b}.pub"\n'
        operator = "" if "operator" in of.get(b, "") else f'operator = "{b}"\n'
        lines += f'[[builder]]\nname = "{b}"\n{operator}{key}{of.get(b, "")}\n'
    return lines + of.get("more", "")


class Case(unittest.TestCase):
    def setUp(self):
        self.release = Release("linux/amd64")
        self.policy = policy()
        self.statements, self.rejected = [], []
        self.expect = {"commit": None, "quorum": None, "purpose": "verify", "tags": []}

    def say(self, who, content="A", at="linux/amd64", times=(SIGNED,), **fields):
        """A vote for what the index has at a platform; `A` fits it, any other content does not."""
        self.statements.append(self.statement(who, content, at, times, **fields))

    def statement(
        self,
        who,
        content,
        at,
        times=(SIGNED,),
        manifest=None,
        nar=None,
        name=APP,
        dissents=False,
        **fields,
    ):
        has, config = self.release.of.get(at, (digest("elsewhere"), digest("A" + at)))
        config = config if content == "A" else digest(content + at)
        nar = b64encode(hashlib.sha256((nar or content + at).encode()).digest()).decode()
        build = {
            "commit": COMMIT,
            "system": SYSTEM[at],
            "narHash": "sha256-" + nar,
            "builder": {"id": who},
            "configDigest": config,
            "sequence": 5,
            **fields,
        }

        def named(d):
            return {"name": name, "digest": {"sha256": d.removeprefix("sha256:")}}

        statement = {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [named(config if dissents else manifest or has)],
            "predicateType": decide.DISSENT if dissents else decide.BUILD,
            "predicate": build,
        }
        if dissents:
            statement["predicate"] = {"build": build, "disputes": named(manifest or has)}
        payload = text(statement)
        return {"signer": who, "payload": payload, "times": list(times), "bundle": digest(payload)}

    def decide(self):
        return decide.decide(
            {
                "policy": self.policy,
                "keys": {f"{b}.pub": b for b in (*THREE, "new")},
                "repository": APP,
                "image": self.release.image(),
                "manifests": self.release.manifests,
                "configs": self.release.configs,
                "statements": self.statements,
                "rejected": self.rejected,
                "now": NOW,
                "expect": self.expect,
            }
        )[0]

    def check(self, word, **cells):
        verdict = self.decide()
        self.assertEqual(verdict["verdict"], word)
        if cells:
            found = verdict["platforms"]["linux/amd64"]["cells"]
            self.assertEqual({b: found[b] for b in cells}, cells)
        return verdict


class Concepts(Case):
    """The table of concepts.md, "How the decision goes": three builders, quorum 2."""

    def row(self, amd64, arm64, word):
        self.release = Release("linux/amd64", "linux/arm64")
        self.policy = policy(platforms=("linux/amd64", "linux/arm64"))
        for at, said in (("linux/amd64", amd64), ("linux/arm64", arm64)):
            for who, contents in zip(THREE, said.split()):
                for content in contents.replace("-", ""):
                    self.say(who, content, at)
        return self.check(word)

    def test_two_of_three(self):
        verdict = self.row("A A -", "A A -", "met")
        self.assertEqual(verdict["group"], {"commit": COMMIT, "sequence": 5})

    def test_one_platform_is_short(self):
        verdict = self.row("A A -", "A - -", "short")
        self.assertEqual(verdict["platforms"]["linux/arm64"]["have"], 1)
        self.assertEqual(verdict["platforms"]["linux/arm64"]["need"], 2)

    def test_each_platform_has_its_own_two(self):
        self.row("A A -", "A - A", "met")

    def test_dissent(self):
        verdict = self.row("A A C", "A A A", "dissent")
        self.assertEqual(verdict["platforms"]["linux/amd64"]["cells"]["three"], "dissent")
        self.assertEqual(verdict["platforms"]["linux/arm64"]["cells"]["three"], "counted")

    def test_equivocation(self):
        self.row("AC A A", "A A A", "equivocation")

    def test_two_groups_of_one_each(self):
        self.say("one")
        self.say("two", commit=OTHER_COMMIT)
        self.check("short", one="rejected", two="counted")


class Index(Case):
    """Point 1."""

    def setUp(self):
        super().setUp()
        self.say("one")
        self.say("two")

    def test_whole(self):
        self.check("met")

    def test_missing(self):
        self.policy = policy(platforms=("linux/amd64", "linux/arm64"))
        self.check("refused")

    def test_extra_and_optional(self):
        self.release.add("linux/riscv64", "linux/riscv64")
        self.check("refused")
        self.policy = policy('optional = ["linux/riscv64"]')
        self.check("short")  # it needs the quorum too
        self.say("one", at="linux/riscv64")
        self.say("two", at="linux/riscv64")
        self.check("met")

    def test_twice_in_two_spellings(self):
        self.policy = policy(platforms=("linux/arm64",))
        self.release = Release("linux/arm64", "linux/arm64/v8")
        self.check("refused")

    def test_configuration_of_another_platform(self):
        self.release = Release()
        self.release.add("linux/amd64", "linux/arm64")
        self.check("refused")

    def test_configuration_without_variant(self):
        self.policy = policy(platforms=("linux/arm/v6",))
        self.release = Release()
        self.release.add("linux/arm/v6", "linux/arm")
        self.statements = []
        self.say("one", at="linux/arm/v6")
        self.say("two", at="linux/arm/v6")
        self.check("met")

    def test_absent(self):
        self.release.configs.clear()
        self.check("refused")

    def test_key_twice_and_unknown(self):
        image = self.release.image()
        for wrong in ('"more":1,', '"schemaVersion":2,'):
            twice = dict(image, bytes=image["bytes"].replace("{", "{" + wrong, 1))
            self.release.image = lambda twice=twice: twice
            self.check("refused")

    def test_data_is_what_its_digest_names(self):
        child = self.release.children[0]
        child["data"] = b64encode(self.release.manifests[child["digest"]].encode()).decode()
        self.check("met")
        child["data"] = b64encode(b"x" * child["size"]).decode()
        self.check("refused")

    def test_urls(self):
        self.release.children[0]["urls"] = ["https://elsewhere.example"]
        self.check("refused")

    def test_nested(self):
        self.release.children[0]["mediaType"] = decide.INDEX
        self.check("refused")


class Build(Case):
    """Point 2: another build disagrees with nothing here."""

    def setUp(self):
        super().setUp()
        self.say("one", sourceUri="s", target="t")
        self.say("two", sourceUri="s", target="t")

    def test_source_and_target(self):
        self.policy = policy('sources = ["s"]\ntargets = ["t"]')
        self.check("met")
        self.say("three", "C")
        self.say("three", "C", sourceUri="fork", target="t")
        self.check("met", three="rejected")

    def test_name(self):
        self.say("three", "C", name="registry.example/mirror/app")
        self.check("met", three="rejected")
        self.policy = policy('names = ["registry.example/mirror/app"]')
        self.check("dissent", three="dissent", one="rejected")

    def test_expected_commit(self):
        self.expect["commit"] = OTHER_COMMIT
        verdict = self.check("short", one="rejected")
        self.assertIsNone(verdict["group"])
        self.expect["commit"] = COMMIT
        self.check("met")

    def test_highest_sequence_of_those_met(self):
        for sequence in (7, 9):
            self.say("one", sequence=sequence)
        self.say("two", sequence=7)
        self.assertEqual(self.check("met")["group"]["sequence"], 7)


class Agreement(Case):
    """Point 3."""

    def test_voices(self):
        self.policy = policy(two='operator = "one"')
        self.say("one")
        self.say("two")
        self.assertEqual(self.check("short")["platforms"]["linux/amd64"]["have"], 1)
        self.say("three")
        self.check("met", two="counted")

    def test_distinct_besides(self):
        # "two" and "three" are two operators under one jurisdiction; "one" is the operator of "two"
        # under another.
        self.policy = policy(
            'distinct_by = "jurisdiction"',
            one='jurisdiction = "x"',
            two='operator = "one"\njurisdiction = "y"',
            three='jurisdiction = "y"',
        )
        self.say("two")
        self.say("three")
        self.check("short")
        self.say("one")
        self.check("met")

    def test_quorum_may_be_raised(self):
        self.say("one")
        self.say("two")
        self.expect["quorum"] = 3
        self.assertEqual(self.check("short")["platforms"]["linux/amd64"]["need"], 3)

    def test_environments(self):
        self.say("one")
        tags = '[[image.tag]]\nname = "edge*"\nrule = "forward"\nenvironment = "staging"\n'
        tags += '[[image.tag]]\nname = "v*"\nrule = "immutable"\n'
        self.policy = policy("environments = { staging = 1, production = 2 }\n" + tags, quorum=None)
        self.check("short")
        self.expect.update(purpose="promote", tags=["edge-1"])
        self.check("met")
        self.expect["tags"].append("v1")
        self.check("short")

    def test_other_manifest_of_the_same_content(self):
        self.say("one")
        self.say("two", manifest=digest("pushed before"))
        self.check("short", two="rejected")

    def test_content_that_does_not_fit(self):
        self.say("one", "C")
        self.say("two", "C")
        self.check("dissent", one="dissent", two="dissent")

    def test_tie(self):
        self.say("one")
        self.say("two", nar="another")
        self.check("dissent", one="dissent", two="dissent")
        self.say("three")
        self.check("dissent", one="counted", two="dissent", three="counted")

    def test_what_does_not_count_has_no_say_in_what_is_agreed(self):
        self.policy = policy('refs = ["main"]', quorum=1)
        self.say("one", ref="main")
        self.check("met")
        self.say("two", nar="another")
        self.say("three", nar="another")
        self.check("dissent", one="counted", two="dissent", three="dissent")

    def test_runs_repeated_count_once(self):
        self.say("one")
        self.say("one", times=(NOW,))
        self.say("one", builtAt="2026-01-01T00:00:00Z")
        self.check("short", one="counted")

    def test_hear_all(self):
        self.policy = policy("hear_all = true", two='systems = ["aarch64-linux"]', quorum=1)
        self.say("one")
        self.check("short", three="missing")
        self.say("three", builder={"id": "somebody"})
        self.check("met", three="rejected", two="missing")
        self.statements.pop()
        self.policy = policy("hear_all = true", ("one", "two"), 1, two='revoked = "compromised"')
        self.check("met")
        self.policy = policy(
            "hear_all = true", ("one", "two"), 1, two="revoked = { from = 2026-01-01T00:00:00Z }"
        )
        self.say("two")
        self.check("short", two="rejected")


class Platforms(Case):
    """policy.md, "Platforms"."""

    def test_required_from_a_sequence_on(self):
        self.say("one")
        self.say("two")
        self.policy = policy('since = { "linux/arm64" = 6 }')
        self.check("met")
        self.policy = policy('since = { "linux/arm64" = 5 }')
        verdict = self.check("refused")
        self.assertEqual(verdict["platforms"]["linux/arm64"]["have"], 0)
        # The older of two releases of one index is met.
        self.say("one", commit=OTHER_COMMIT, sequence=4)
        self.check("refused")
        self.say("two", commit=OTHER_COMMIT, sequence=4)
        self.assertEqual(self.check("met")["group"]["sequence"], 4)

    def test_what_it_has_before_needs_the_quorum(self):
        self.release = Release("linux/amd64", "linux/arm64")
        self.policy = policy('since = { "linux/arm64" = 6 }')
        for who in ("one", "two"):
            self.say(who)
        self.check("short")
        for who in ("one", "two"):
            self.say(who, at="linux/arm64")
        self.check("met")

    def test_one_image_without_an_index(self):
        (itself,) = self.release.manifests.values()
        self.release.image = lambda: {"mediaType": decide.OCI[0], "bytes": itself}
        self.say("one")
        self.say("two")
        self.check("refused")
        self.policy = policy("single = true")
        self.check("met", one="counted")
        self.policy = policy("single = true", platforms=("linux/arm64",))
        self.check("refused")
        self.policy = policy("single = true", platforms=("linux/amd64", "linux/arm64"))
        self.assertEqual([*self.check("met")["platforms"]], ["linux/amd64"])
        self.expect.update(purpose="promote", tags=["v1"])
        self.check("refused")


class OtherTypes(Case):
    """policy.md, "Other types"."""

    SOURCE = "git+https://git.example/app"
    UNBOUND = f'types = ["{decide.SLSA}", "{decide.SEEDS[0]}"]\nunbound = true\nsources = ["{SOURCE}"]'

    def setUp(self):
        super().setUp()
        self.policy = policy(self.UNBOUND)
        self.say("one", sourceUri=self.SOURCE)

    def back(self, who, kind, predicate, manifest=None):
        manifest = manifest or self.release.of["linux/amd64"][0]
        subject = {"name": APP, "digest": {"sha256": manifest.removeprefix("sha256:")}}
        payload = text(
            {
                "_type": "https://in-toto.io/Statement/v1",
                "subject": [subject],
                "predicateType": kind,
                "predicate": predicate,
            }
        )
        said = {"signer": who, "payload": payload, "times": [SIGNED], "bundle": digest(payload)}
        self.statements.append(said)

    def slsa(self, who, commit=COMMIT, source=SOURCE, builder=None, manifest=None):
        web = source.removeprefix("git+")
        dependency = {"uri": f"{source}@main", "digest": {"gitCommit": commit}}
        predicate = {
            "buildDefinition": {
                "buildType": decide.WORKFLOW,
                "externalParameters": {"workflow": {"ref": "main", "repository": web}},
                "resolvedDependencies": [dependency],
            },
            "runDetails": {"builder": {"id": builder or who}},
        }
        self.back(who, decide.SLSA, predicate, manifest)

    def seed(self, who, nar="Alinux/amd64", manifest=None):
        nar = b64encode(hashlib.sha256(nar.encode()).digest()).decode()
        predicate = {
            "system": "x86_64-linux",
            "gitHash": COMMIT,
            "narHash": "sha256-" + nar,
            "builder": {"identity": who},
        }
        self.back(who, decide.SEEDS[0], predicate, manifest)

    def test_adds_to_what_is_agreed(self):
        self.slsa("two")
        self.check("met", two="counted")
        self.policy = policy()
        self.check("short", two="missing")

    def test_alone_counts_for_nothing(self):
        self.statements.clear()
        self.slsa("one")
        self.slsa("two")
        self.assertIsNone(self.check("short", one="rejected", two="rejected")["group"])

    def test_of_another_build(self):
        self.slsa("two", commit=OTHER_COMMIT)
        self.slsa("three", source="git+https://git.example/fork")
        self.check("short", two="rejected", three="rejected")

    def test_of_another_manifest(self):
        self.slsa("two", manifest=digest("pushed before"))
        self.check("short", two="missing")

    def test_nar_hash(self):
        self.seed("two")
        self.check("met", two="counted")
        self.seed("three", nar="another")
        self.check("dissent", three="dissent")
        self.seed("one", nar="another")
        self.check("equivocation", one="equivocation")

    def test_of_one_of_several_builds(self):
        self.slsa("two")
        self.say("one", sourceUri=self.SOURCE, sequence=9)
        self.check("short", one="counted", two="rejected")
        self.say("three", sourceUri=self.SOURCE, dissents=True)
        self.check("dissent", three="dissent")

    def test_takes_no_order_away(self):
        self.say("two", sourceUri=self.SOURCE)
        self.say("one", sourceUri=self.SOURCE, commit=OTHER_COMMIT, sequence=9)
        self.slsa("two", commit=OTHER_COMMIT)
        self.assertEqual(self.check("met")["group"]["commit"], COMMIT)
        self.say("three", sourceUri=self.SOURCE, commit=OTHER_COMMIT, sequence=9)
        self.assertEqual(self.check("met")["group"]["commit"], OTHER_COMMIT)

    def test_nar_hash_of_another_image(self):
        self.seed("two")
        self.seed("one", nar="another", manifest=digest("another image"))
        self.check("met", two="counted")
        self.seed("one", nar="yet another", manifest=digest("another image"))
        self.check("equivocation", one="equivocation")

    def test_hides_nothing(self):
        self.slsa("two")
        self.say("two", sourceUri=self.SOURCE, dissents=True)
        self.check("dissent", two="dissent")

    def test_says_who_it_is(self):
        self.slsa("two", builder="three")
        self.check("short", two="rejected")

    def test_fields_that_the_rule_asks_for(self):
        self.policy = policy(self.UNBOUND + '\nrequired_fields = ["target"]')
        self.statements.clear()
        self.say("one", sourceUri=self.SOURCE, target="image")
        self.slsa("two")
        self.check("short", two="rejected")


class Objections(Case):
    """Point 4."""

    def setUp(self):
        super().setUp()
        self.say("one")
        self.say("two")

    def test_signed_dissent(self):
        self.say("three", dissents=True)
        self.check("dissent", three="dissent")

    def test_of_an_unknown_signer(self):
        self.policy = policy(builders=("one", "two"))
        self.say("three", "C", dissents=True)
        self.check("met")

    def test_not_silenced_by_rules_that_say_who_counts(self):
        self.policy = policy(
            'verify_max_age = "1s"\nrefs = ["main"]\n'
            'required_fields = ["builtAt"]\nmin_sequence = 9',
            three='systems = ["aarch64-linux"]',
        )
        self.check("short")
        self.say("three", "C", builder={"id": "somebody"})
        self.check("dissent")

    def test_not_silenced_by_the_system_that_it_names(self):
        self.say("three", dissents=True, system="s390x-linux")
        self.check("dissent", three="dissent")

    def test_a_system_that_does_not_fit_counts_not(self):
        self.policy = policy(quorum=3)
        self.say("three", system="s390x-linux")
        self.check("short", three="rejected")

    def test_equivocation_under_another_system(self):
        self.say("three", system="s390x-linux")
        self.check("met")
        self.say("three", system="s390x-linux", nar="another")
        self.check("equivocation")

    def test_platform_left_out_can_be_disputed(self):
        self.say("three", at="linux/arm64", dissents=True)
        verdict = self.check("dissent")
        self.assertEqual(verdict["platforms"]["linux/arm64"]["cells"]["three"], "dissent")

    def test_dissent_about_another_push(self):
        self.say("three", dissents=True, manifest=digest("pushed before"))
        self.check("met", three="rejected")

    def test_other_group(self):
        self.say("three", "C", sequence=6)
        self.expect["commit"] = COMMIT
        self.check("met", three="rejected")

    def test_equivocation_by_vote_and_dissent(self):
        self.say("two", "C", dissents=True)
        self.check("equivocation", two="equivocation")

    def waive(self, until):
        statement = decide.sha256(self.statements[-1]["payload"])
        self.policy += f'[[waive]]\nstatement = "{statement}"\nreason = "x"\nuntil = {until}\n'

    def test_waived(self):
        self.say("three", "C")
        self.waive("2026-01-02T00:00:01Z")
        self.check("met", three="waived")

    def test_waiver_that_ended(self):
        self.say("three", "C")
        self.waive("2026-01-02T00:00:00Z")
        self.check("dissent")

    def test_half_of_an_equivocation(self):
        self.say("two", "C")
        self.waive("2027-01-01T00:00:00Z")
        self.check("met", two="counted")


class Standing(Case):
    """Point 5."""

    def standing(self, three, *times, rule="", **fields):
        self.statements = []
        self.policy = policy(rule, quorum=3, three=three)
        for who in ("one", "two"):
            self.say(who, times=(NOW,), **fields)
        self.say("three", times=times or (SIGNED,), **fields)
        return self.decide()["platforms"]["linux/amd64"]["cells"]["three"]

    def test_revoked(self):
        three = "revoked = { from = 2026-01-01T00:00:00Z }"
        self.assertEqual(self.standing(three, "2025-12-31T23:59:59.9Z"), "counted")
        self.assertEqual(self.standing(three, "2026-01-01T00:00:00Z"), "rejected")

    def test_revoked_is_not_heard(self):
        self.policy = policy(three="revoked = { from = 2026-01-01T00:00:00Z }")
        self.say("one")
        self.say("two")
        self.say("three", "C")
        self.check("met", three="rejected")
        # Some of its times before, some after: counts not, and still disagrees.
        self.say("three", "C", times=("2025-12-01T00:00:00Z", SIGNED))
        self.check("dissent", three="dissent")

    def test_compromised(self):
        self.policy = policy(three='revoked = "compromised"')
        self.say("one")
        self.say("three", "C", times=("2020-01-01T00:00:00Z",))
        self.check("short", three="rejected")

    def test_windows(self):
        window = "from = 2025-01-01T00:00:00Z, until = 2026-01-01T00:00:00Z"
        three = 'keys = [{ key = "three.pub", %s }]' % window
        self.assertEqual(self.standing(three, "2025-01-01T00:00:00Z"), "counted")
        self.assertEqual(self.standing(three, "2024-12-31T23:59:59Z"), "rejected")
        self.assertEqual(self.standing(three, "2026-01-01T00:00:00Z"), "rejected")
        self.assertEqual(self.standing(three, "2025-06-01T00:00:00Z", NOW), "rejected")

    def test_age(self):
        rule = 'verify_max_age = "1d"\nmax_age = "1s"'
        self.assertEqual(self.standing("", "2026-01-01T00:00:00Z", rule=rule), "counted")
        self.assertEqual(self.standing("", "2025-12-31T23:59:59Z", rule=rule), "rejected")
        self.assertEqual(self.standing("", NOW, "2025-12-31T23:59:59Z", rule=rule), "rejected")

    def test_epoch(self):
        rule = "epoch = 2026-01-01T00:00:00+01:00"
        self.assertEqual(self.standing("", "2025-12-31T23:00:00Z", rule=rule), "counted")
        self.assertEqual(self.standing("", "2025-12-31T22:59:59Z", rule=rule), "rejected")

    def test_future(self):
        self.assertEqual(self.standing("", "2026-01-02T00:01:00Z"), "counted")
        self.assertEqual(self.standing("", "2026-01-02T00:01:01Z"), "rejected")

    def test_sequence(self):
        ahead = decide.moment("2026-01-01T00:10:00Z") // 10**9
        self.assertEqual(self.standing("", sequence=ahead), "counted")
        self.assertEqual(self.standing("", sequence=ahead + 1), "rejected")
        self.assertEqual(self.standing("", rule="min_sequence = 5"), "counted")
        self.assertEqual(self.standing("", rule="min_sequence = 6"), "rejected")

    def test_builder_claim(self):
        self.assertEqual(self.standing('ids = ["old"]', builder={"id": "old"}), "counted")
        self.assertEqual(self.standing("", builder={"id": "old"}), "rejected")

    def test_two_keys_are_one_voice(self):
        self.policy = policy(one='keys = [{ key = "one.pub" }, { key = "new.pub" }]')
        self.say("one")
        self.say("new", builder={"id": "one"})
        self.check("short", one="counted")

    def test_what_proves_nothing(self):
        self.say("one")
        self.rejected = [{"signer": "two", "manifest": self.release.of["linux/amd64"][0]}]
        self.check("short", two="rejected", three="missing")


class Documents(Case):
    def test_nar_hash(self):
        raw = bytes(range(32))
        sri = "sha256-" + b64encode(raw).decode()
        # Nix base32 of the same bytes: its last digit holds the first five bits.
        number, base32 = int.from_bytes(raw, "little"), ""
        for _ in range(52):
            base32 = "0123456789abcdfghijklmnpqrsvwxyz"[number % 32] + base32
            number //= 32
        for spelling in (sri, raw.hex(), "sha256:" + raw.hex(), base32, "sha256:" + base32):
            self.assertEqual(decide.nar_hash(spelling), raw)
        for wrong in (sri[:-1], sri + "=", raw.hex().upper(), "e" * 52, "z" * 52, 1):
            with self.assertRaises(decide.Broken):
                decide.nar_hash(wrong)

    def test_platforms(self):
        for spelling, normal in (
            (("linux", "arm64", "v8"), "linux/arm64"),
            (("linux", "arm"), "linux/arm/v7"),
            (("linux", "arm", "v6"), "linux/arm/v6"),
            (("linux", "amd64", "v1"), "linux/amd64"),
            (("linux", "aarch64", ""), "linux/arm64"),
        ):
            self.assertEqual(decide.platform(*spelling), normal)

    def test_statements_are_strict(self):
        good = json.loads(self.statement("one", "A", "linux/amd64")["payload"])
        self.assertIsInstance(decide.statement(text(good)), decide.Statement)

        def broken(reason, *path, value):
            wrong = deepcopy(good)
            at = wrong
            for key in path[:-1]:
                at = at[key]
            at[path[-1]] = value
            self.assertEqual(decide.statement(text(wrong)).args[0], reason)

        broken("statement-type", "_type", value="https://in-toto.io/Statement/v0.1")
        broken("predicate-type", "predicateType", value="https://slsa.dev/provenance/v0.2")
        broken("subject-ambiguous", "subject", value=good["subject"] * 2)
        broken("statement-malformed", "more", value=1)
        for key, value in {
            "commit": "A" * 40,
            "Commit": COMMIT,
            "sequence": -1,
            "system": "x86_64-darwin",
            "configDigest": "sha512:" + "0" * 64,
            "ref": "",
        }.items():
            broken("predicate-malformed", "predicate", key, value=value)
        twice = text(good).replace('"sequence":5', '"sequence":5,"sequence":5')
        self.assertEqual(decide.statement(twice).args[0], "statement-malformed")

    def test_dissents_are_strict(self):
        good = json.loads(self.statement("one", "C", "linux/amd64", dissents=True)["payload"])
        self.assertTrue(decide.statement(text(good)).dissents)
        good["predicate"]["disputes"]["name"] = "ghcr.io/acme/other"
        self.assertEqual(decide.statement(text(good)).args[0], "predicate-malformed")

    def test_policies_refused_at_load(self):
        keys = {f"{b}.pub": b for b in THREE}
        decide.Policy(policy(), keys)
        for wrong in (
            policy("quorom = 2"),
            policy(quorum=0),
            policy(quorum=4),
            policy('optional = ["linux/amd64/v1"]'),
            policy('max_age = "0s"'),
            policy("epoch = 2026-01-01T00:00:00"),
            policy('distinct_by = "colour"'),
            policy(one="systems = []"),
            policy(one='revoked = "compromised"', quorum=3),
            policy(one='keys = [{ key = "two.pub" }]'),
        ):
            with self.assertRaises(decide.Broken):
                decide.Policy(wrong, keys)


if __name__ == "__main__":
    unittest.main()
