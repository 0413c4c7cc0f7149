"""What an installed wheel must do with no other package beside it. Standard library only."""

import importlib.metadata
import sys
import unittest
from pathlib import Path

import llmquota
import llmquota._native


class Installed(unittest.TestCase):
    def test_it_is_the_installed_package_and_not_the_checkout(self) -> None:
        self.assertTrue(Path(llmquota.__file__).is_relative_to(sys.prefix))

    def test_the_extension_has_the_version_of_the_distribution(self) -> None:
        self.assertEqual(llmquota._native.__version__, importlib.metadata.version("llmquota"))

    def test_it_brings_no_other_distribution(self) -> None:
        required = importlib.metadata.requires("llmquota") or []
        self.assertEqual([requirement for requirement in required if "extra ==" not in requirement], [])
        self.assertEqual([found.name for found in importlib.metadata.distributions()], ["llmquota"])

    def test_it_is_typed_and_carries_its_licences(self) -> None:
        files = {str(path) for path in importlib.metadata.files("llmquota") or []}
        self.assertIn("llmquota/py.typed", files)
        self.assertIn("llmquota/_native.pyi", files)
        self.assertTrue(any(path.endswith("LICENSE-MIT") for path in files))
        self.assertTrue(any(path.endswith("LICENSE-APACHE") for path in files))
