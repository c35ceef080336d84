"""What does a stretch of the journal make of a generation? The pure part: records in, rows, offsets out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
from decisions import decision, history

from bench.rebuild import decisions
from fulcrum.cli.bench_rebuild import _sizes
from fulcrum.errors import Corrupt, Rejected
from fulcrum.readmodel import store
from fulcrum.readmodel.decision_log import Record
from fulcrum.readmodel.folding import Reader, fold
from fulcrum.readmodel.rebuild import Progress
from fulcrum.saga.messages import DecisionMade
from fulcrum.wire.codec import offline_codec


class OfflineReader(Reader):
    """Reads with schema ids of its own making."""

    def __init__(self) -> None:
        self._codec = offline_codec()

    def records(self, decisions: Sequence[DecisionMade], partition: int = 0, start: int = 0) -> list[Record]:
        """The decisions as they would lie in the journal."""
        return [
            Record("d", partition, start + n, made.workflow_id.encode(), self.encoded(made))
            for n, made in enumerate(decisions)
        ]


@pytest.fixture
def reader() -> OfflineReader:
    """A reader that needs no registry."""
    return OfflineReader()


def test_a_batch_folds_to_the_newest_run_and_every_entry(reader: OfflineReader) -> None:
    """Out of order and repeated, there is one row a workflow and one entry a version."""
    told = history()
    folded, fault = fold(reader, reader.records([told[2], told[0], told[1], told[0]]))
    assert fault is None
    (view,) = folded.views.values()
    assert (view.version, view.status, sorted(view.entries)) == (3, "completed", [1, 2, 3])


def test_offsets_are_those_after_the_last_record_of_each_partition(reader: OfflineReader) -> None:
    """A partition counts for itself."""
    records = [*reader.records(history(), 0, 10), *reader.records(history()[:1], 1, 4)]
    assert fold(reader, records)[0].offsets == {("d", 0): 13, ("d", 1): 5}


def test_what_comes_before_an_unreadable_record_is_folded(reader: OfflineReader) -> None:
    """The fault names the place and the key and shows the bytes; nothing behind it is taken."""
    records = reader.records(history(), 2)
    records[1:1] = [Record("d", 2, 77, b"culprit", b"no frame")]
    folded, fault = fold(reader, records)
    assert folded.records == records[:1]
    assert folded.offsets == {("d", 2): 1}
    assert str(fault).startswith("d [2] offset 77 key culprit: Corrupt: ")
    assert "b'no frame'" in str(fault)


def test_a_record_without_a_value_is_a_fault(reader: OfflineReader) -> None:
    """A tombstone is no decision."""
    folded, fault = fold(reader, [Record("d", 0, 0, None, None)])
    assert (folded.records, folded.offsets) == ([], {})
    assert "no value" in str(fault)


def test_another_message_is_no_decision(reader: OfflineReader) -> None:
    """A command that strayed into the journal is named."""
    from fulcrum.saga.messages import ReceiveStock

    stray = ReceiveStock(command_id="c", sku="s", quantity=1, reference="r", issued_at=decision().decided_at)
    with pytest.raises(Corrupt, match="ReceiveStock is no decision"):
        reader.decision(Record("d", 0, 0, None, reader._codec.encode(stray)))


def test_of_a_repeated_entry_the_first_stays() -> None:
    """As in the database, where a later one of the same version changes nothing."""
    first = decision(2)
    (view,) = store.newest([first, replace(first, ignored="later")]).values()
    assert json.loads(view.entries[2])["ignored"] is None


def test_progress_tells_the_time_to_the_end() -> None:
    """At 50 a second 100 more take two seconds; without a rate nobody knows."""
    assert Progress(2, "reading", 100, 200, 50.0).eta == 2.0
    assert Progress(2, "reading", 0, 200, 0.0).eta is None


def test_measured_journal_holds_whole_workflows() -> None:
    """What `bench rebuild` records folds to completed workflows without a gap, whatever their number."""
    views = store.newest(list(decisions(503)))
    assert len(views) == 503
    assert all(view.complete and view.status == "completed" for view in views.values())


@pytest.mark.parametrize("text", ["", "10", "1000,x", "100000000"])
def test_sizes_that_measure_nothing_are_refused(text: str) -> None:
    """The error names the option and what it takes."""
    with pytest.raises(Rejected, match="--events"):
        _sizes(text)
    assert _sizes("1000,20000") == [1000, 20000]
