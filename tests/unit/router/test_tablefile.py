import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from gpuserve import jsonvalues
from gpuserve.profile.spec import RoutingSpec
from gpuserve.router.tablefile import TableFile
from gpuserve.routing.table import RoutingTable

TABLE = RoutingTable(instance="i", generation=5, epoch=100.0, routing=RoutingSpec(), upstreams=())


def holding(path: Path, table: RoutingTable) -> TableFile:
    path.write_bytes(jsonvalues.dumps(table))
    tables = TableFile(path)
    assert tables.refresh()
    return tables


def test_a_table_of_the_same_controller_is_taken_unless_it_is_older(tmp_path: Path) -> None:
    tables = holding(tmp_path / "routing.json", TABLE)
    assert not tables.take(replace(TABLE, generation=4))
    assert tables.table == TABLE
    assert tables.take(TABLE)
    assert tables.take(replace(TABLE, generation=6))
    assert tables.table == replace(TABLE, generation=6)


def test_a_controller_that_started_later_is_believed_whatever_it_counts(tmp_path: Path) -> None:
    tables = holding(tmp_path / "routing.json", TABLE)
    newer = replace(TABLE, epoch=101.0, generation=1)
    assert tables.take(newer)
    assert not tables.take(replace(TABLE, generation=99))
    # Nor does the file that a full disk left behind win.
    assert not tables.refresh(force=True)
    assert tables.table == newer


def test_a_file_written_before_there_were_epochs_is_read_as_the_oldest(tmp_path: Path) -> None:
    path = tmp_path / "routing.json"
    old = json.loads(jsonvalues.dumps(replace(TABLE, epoch=0.0)))
    del old["epoch"]
    path.write_text(json.dumps(old))
    tables = TableFile(path)
    assert tables.refresh()
    assert tables.table == replace(TABLE, epoch=0.0)
    assert tables.take(replace(TABLE, generation=1))


def test_a_file_that_holds_no_table_changes_nothing_and_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "routing.json"
    tables = holding(path, TABLE)
    path.write_bytes(b"{")
    with caplog.at_level(logging.ERROR):
        assert not tables.refresh(force=True)
    assert tables.table == TABLE
    assert str(path) in caplog.text
