"""What is deployed is in the lists, and nothing else."""

import unittest

import sbom

TREE = """0|booking v0.1.0 (/somewhere/functions/booking)
1|tokio v1.54.1
2|mio v1.1.0
1|serde v1.0.229

0|other v0.1.0 (/somewhere/other)
1|tokio v1.54.1 (*)
1|serde v2.0.0
"""


def listed(*packages: sbom.Package) -> dict:
    components = [{"name": name, "version": version, "bom-ref": f"{name}@{version}"} for name, version in packages]
    every = [component["bom-ref"] for component in components]
    return {
        "metadata": {"component": {"name": "booking", "version": "0.1.0", "bom-ref": "booking"}},
        "components": components,
        "dependencies": [{"ref": "booking", "dependsOn": every}, *({"ref": ref} for ref in every)],
    }


class Lists(unittest.TestCase):
    deployed = {("tokio", "1.54.1"), ("mio", "1.1.0"), ("serde", "1.0.229")}

    def test_what_a_function_needs_is_found(self) -> None:
        needs = sbom.graph(TREE)
        self.assertEqual(sbom.needed(needs, ("booking", "0.1.0")), self.deployed)
        others = {("tokio", "1.54.1"), ("mio", "1.1.0"), ("serde", "2.0.0")}
        self.assertEqual(sbom.needed(needs, ("other", "0.1.0")), others)

    def test_what_is_not_deployed_is_taken_out(self) -> None:
        left = sbom.deployed(listed(*self.deployed, ("proptest", "1.12.0"), ("serde", "2.0.0")), self.deployed)
        self.assertEqual({sbom.named(component) for component in left["components"]}, self.deployed)
        refs = {ref for entry in left["dependencies"] for ref in [entry["ref"], *entry["dependsOn"]]}
        self.assertEqual(refs, {"booking", "tokio@1.54.1", "mio@1.1.0", "serde@1.0.229"})

    def test_what_is_deployed_and_not_listed_is_an_error(self) -> None:
        for package in self.deployed:
            with self.assertRaises(sbom.Incomplete):
                sbom.deployed(listed(*(self.deployed - {package})), self.deployed)


if __name__ == "__main__":
    unittest.main()
