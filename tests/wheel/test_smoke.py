"""What an installed wheel must do with no other package beside it. Standard library only."""

import asyncio
import gc
import importlib.metadata
import os
import pickle
import subprocess
import sys
import sysconfig
import threading
import unittest
from pathlib import Path

import llmquota
import llmquota._native
from llmquota import QuotaExceeded, QuotaInputError, QuotaManager, QuotaStatus, guarded, quota_context


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

    def test_it_brings_its_command(self) -> None:
        script = Path(sysconfig.get_path("scripts")) / ("llmquota.exe" if os.name == "nt" else "llmquota")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LLMQUOTA_")}
        for command in ([str(script)], [sys.executable, "-m", "llmquota"]):
            done = subprocess.run(
                [*command, "doctor"], env=environment, capture_output=True, text=True, timeout=60, check=False
            )
            self.assertIn("store: memory:", done.stdout, done.stderr)
            self.assertEqual(done.stderr, "")


class Works(unittest.TestCase):
    def setUp(self) -> None:
        self.manager = QuotaManager(limits={"defaults": {"tokens_per_minute": 1_000, "max_concurrent": 1}})
        self.tracker = self.manager.get_tracker("acme")

    def tokens(self, workspace: str = "acme") -> int:
        return self.manager.usage(workspace)["total"]["tokens"]

    def test_it_counts_refuses_and_says_so(self) -> None:
        self.tracker.record_request(success=True, tokens_used=100, goal_id="goal-1", task_id="t-7", model="gpt-4o")
        with self.tracker.reserve(tokens=200, model="gpt-4o") as hold:
            hold.settle({"usage": {"prompt_tokens": 30, "completion_tokens": 20, "total_tokens": 50}})
        self.assertEqual(self.tokens(), 150)
        with self.assertRaises(QuotaExceeded) as caught:
            self.tracker.reserve(900)
        error = pickle.loads(pickle.dumps(caught.exception))
        self.assertEqual((error.reason, error.limits[0]["limit"]), ("limit", "tokens_per_minute"))
        self.assertNotEqual(error.localized("it")["message"], error.localized("en")["message"])
        self.tracker.record_request(tokens_used=1_000)
        self.assertIs(self.tracker.status, QuotaStatus.RATE_LIMITED)
        self.assertEqual(self.tracker.notification("it")["language"], "it")

    def test_it_prices_by_the_bundled_table(self) -> None:
        self.tracker.record_request(input_tokens=1_000_000, model="gpt-4o")
        self.assertEqual(self.tracker.snapshot()["usage"]["total"]["cost_usd"], 2.5)

    def test_it_knows_time_zones_without_a_database_of_the_machine(self) -> None:
        manager = QuotaManager(timezone="Europe/Rome")
        self.assertEqual(manager.terms("acme")["timezone"], "Europe/Rome")

    def test_it_names_bad_input(self) -> None:
        with self.assertRaisesRegex(QuotaInputError, "tokens_used: '-1' is not valid"):
            self.tracker.record_request(tokens_used=-1)
        self.assertEqual(self.tokens(), 0)

    def test_it_waits_in_a_loop_and_in_threads(self) -> None:
        async def work() -> None:
            async with await self.tracker.acquire(1, timeout=30) as hold:
                await asyncio.sleep(0)
                hold.settle(1)

        async def both() -> None:
            await asyncio.gather(*(work() for _ in range(5)))

        def thread() -> None:
            with self.tracker.acquire_sync(1, timeout=30) as hold:
                hold.settle(1)

        threads = [threading.Thread(target=thread) for _ in range(5)]
        for each in threads:
            each.start()
        asyncio.run(both())
        for each in threads:
            each.join(30)
        self.assertEqual(self.tokens(), 10)

    def test_threads_lose_nothing(self) -> None:
        def work() -> None:
            for _ in range(1_000):
                self.tracker.record_request(tokens_used=1)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(30)
        self.assertEqual(self.tokens(), 4_000)

    def test_a_guarded_call_is_counted_for_its_workspace(self) -> None:
        @guarded(workspace="workspace_id", manager=self.manager)
        def call(workspace_id: str) -> dict[str, object]:
            return {"usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}}

        call(workspace_id="acme")
        self.assertEqual(self.tokens(), 7)

    def test_the_environments_manager_takes_the_context(self) -> None:
        with quota_context(workspace_id="smoke"):
            llmquota.record_request(tokens_used=5)
        self.assertEqual(llmquota.workspace_quota_manager.usage("smoke")["total"]["tokens"], 5)

    def test_a_hold_that_is_dropped_is_let_go(self) -> None:
        hold = self.tracker.reserve(100)
        del hold
        gc.collect()
        self.assertEqual(self.tracker.snapshot()["holds"]["open"], 0)

    @unittest.skipUnless(hasattr(os, "fork"), "the platform has no fork")
    def test_a_forked_child_counts_for_itself(self) -> None:
        self.tracker.record_request(tokens_used=1)
        with self.tracker.reserve(1) as hold:
            child = os.fork()
            if child == 0:
                self.tracker.reserve(1).settle(2)
                os._exit(0 if self.tokens() == 3 else 1)
            self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)
            hold.settle(4)
        self.assertEqual(self.tokens(), 5)
