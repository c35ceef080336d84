"""The revision that brings lists and search: on a database with workflows and generations, forth and back."""

from __future__ import annotations

from projecting import rows
from test_generations_revision import to

from fulcrum.settings import Settings

RUN = "6f0c1d9e-1111-5222-8333-444455556666"
_FILL = """
    INSERT INTO {schema}.workflow_runs VALUES ('{run}', '{run}', 'acme', 'customer-7', 'fulfillment.v1',
        'running', 1, NULL, '[{{"sku": "tea"}}, {{"sku": "cup"}}]', 1, 'EUR', 'order-1',
        '2026-03-01', now(), NULL,
        '[{{"name": "authorize_payment", "status": "done"}},
          {{"name": "reserve_stock", "status": "requested"}}]')
    """
_INDEXES = "SELECT indexname FROM pg_indexes WHERE schemaname = '{}' ORDER BY 1"
_KEPT = "read_model_g2"


def test_every_generation_can_be_searched(empty_database: str) -> None:
    """Forth: what is there gets step, keys and indexes, in kept generations too. Back: the runs stay."""
    settings = Settings.model_validate({"postgres_dsn": empty_database})
    rows(settings, "CREATE SCHEMA ops")
    to(empty_database, "0016")
    rows(settings, f"CREATE SCHEMA {_KEPT}")
    for name in ("workflow_runs", "timeline"):
        rows(settings, f"CREATE TABLE {_KEPT}.{name} (LIKE read_model.{name} INCLUDING ALL)")
    for schema in ("read_model", _KEPT):
        rows(settings, _FILL.format(schema=schema, run=RUN))
    to(empty_database, "0017")
    for schema in ("read_model", _KEPT):
        assert rows(settings, f"SELECT step FROM {schema}.workflow_runs") == [{"step": "reserve_stock"}]
        keys = rows(settings, f"SELECT kind, key FROM {schema}.run_keys ORDER BY 1, 2")
        assert [(row["kind"], row["key"]) for row in keys] == [
            ("correlation_id", "order-1"),
            ("customer_ref", "customer-7"),
            ("sku", "cup"),
            ("sku", "tea"),
        ]
    made = {
        row["indexname"] for row in rows(settings, _INDEXES.format(_KEPT)) if "_idx" not in row["indexname"]
    }
    live = {row["indexname"] for row in rows(settings, _INDEXES.format("read_model"))}
    assert {"timeline_event", "workflow_runs_tenant", "run_keys_pkey"} <= made <= live
    to(empty_database, "0016", down=True)
    for schema in ("read_model", _KEPT):
        (run,) = rows(settings, f"SELECT * FROM {schema}.workflow_runs")
        assert (str(run["workflow_id"]), "step" in run) == (RUN, False)
        assert rows(settings, f"SELECT to_regclass('{schema}.run_keys') AS there") == [{"there": None}]
    to(empty_database, "0017")
