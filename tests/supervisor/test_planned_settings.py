"""Real engines are set up as the forecast assumed."""

from __future__ import annotations

from dataclasses import replace

from samullm_tui.domain.cluster import cluster_from_preset
from samullm_tui.domain.plan import Replica
from samullm_tui.engines.vllm_command import serve_command
from samullm_tui.forecast.problem import build_problem
from samullm_tui.locations import APPS
from samullm_tui.supervisor.job import as_planned
from samullm_tui.workload.application_file import load_application
from samullm_tui.workload.requests import build_requests


def test_a_server_runs_as_many_requests_at_a_time_as_planned_at_its_tp() -> None:
    workload = build_requests(load_application(APPS / "selftest.toml"))
    llm = workload.application.llms[0]
    inputs = build_problem(workload, cluster_from_preset("a100-80g:2"))
    inputs = replace(inputs, fewer_at_once={(llm.name, 1): 80})

    def argv(tp: int) -> tuple[str, ...]:
        replica = Replica(llm.name, tuple(range(tp)))
        planned = as_planned(llm, inputs, tp)
        command = serve_command(planned, "/x", replica, 1, device="gpu", cookie="c", api_key="k")
        return command.argv

    assert "--max-num-seqs=80" in argv(1)
    assert not any("max-num-seqs" in word for word in argv(2))
