"""Several workers share a study: each trial is done once, also where one of them is killed in the midst of it."""

import json
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import postgres
import pytest

from car_ext.commands import compare as compare_command
from car_ext.commands import program
from car_ext.config.config import Config
from car_ext.errors import InputError
from car_ext.studies.comparison import compare, read_methods
from car_ext.studies.space import Space
from car_ext.studies.table import table

optuna = pytest.importorskip("optuna", reason="needs optuna (the extra sweep)")

from car_ext.studies import outcome, storage, trials, work  # noqa: E402
from car_ext.studies import sweep as module  # noqa: E402
from car_ext.studies.apart import compare_apart  # noqa: E402
from car_ext.studies.sweep import show, sweep  # noqa: E402
from car_ext.studies.trials import Pieces, piece_of  # noqa: E402
from car_ext.studies.work import quiet as quiet_optuna  # noqa: E402
from car_ext.studies.worker import Worker  # noqa: E402

JOB = Config(epochs=2, batch_size=128)
GRID = "regularizer: [car]\nlr: [0.001, 0.01, 0.1]\n"
# A worker like any other, but that it stops for ever after the first epoch of its trial, and says so.
DOOMED = """
import json, sys, time
from pathlib import Path

from car_ext.config.config import Config
from car_ext.studies import storage, sweep as module
from car_ext.studies.space import Space
from car_ext.training.callbacks import Callback

class Stops(Callback):
    def after_epoch(self, row):
        print("in the midst", flush=True)
        time.sleep(600)

train = module.train
module.train = lambda job, progress, callbacks: train(job, progress=progress, callbacks=[Stops()])
url, out, heartbeat, space, options = json.loads(sys.argv[1])
storage.HEARTBEAT = heartbeat
space = Space.read(space, Path())
module.sweep(
    Config(epochs=2, batch_size=128), space, Path(out), seeds=[0], storage=url, progress=False, **options
)
"""


@pytest.fixture(scope="module")
def database():
    with postgres.server() as url:
        yield url


@pytest.fixture
def url(request, tmp_path):
    if request.param == "journal":
        return f"journal:{tmp_path}/sweeps.log"
    return request.getfixturevalue("database")


@pytest.fixture
def space(tmp_path):
    """Reads one from a file, which the workers read as well."""

    def space(text: str) -> Space:
        (tmp_path / "space.yaml").write_text(text)
        return Space.read(str(tmp_path / "space.yaml"), tmp_path)

    return space


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The table of one worker that was never interrupted."""
    folder = tmp_path_factory.mktemp("alone")
    (folder / "space.yaml").write_text(GRID)
    return sweep(JOB, Space.read("space", folder), folder / "out", seeds=[0], progress=False)


@pytest.fixture
def doomed(tmp_path):
    """Starts a worker as a process of its own; it is in the midst of a trial."""
    started = []

    def start(url: str, out: Path, heartbeat: int = 60, **options):
        arguments = json.dumps([url, str(out), heartbeat, str(tmp_path / "space.yaml"), options])
        log = (tmp_path / "worker.log").open("w")
        command = [sys.executable, "-c", DOOMED, arguments]
        started.append(process := subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True))
        assert process.stdout.readline() == "in the midst\n", (tmp_path / "worker.log").read_text()
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(autouse=True)
def quiet():
    with quiet_optuna():
        yield


def attempts(url: str, name: str) -> list:
    return optuna.load_study(study_name=name, storage=storage.open_storage(url)).get_trials()


@pytest.mark.parametrize("url", ["postgresql", "journal"], indirect=True)
def test_a_killed_worker_s_trial_is_done_by_another_from_its_checkpoint(
    url, doomed, alone, space, tmp_path, monkeypatch
):
    monkeypatch.setattr(work, "WAIT", 0.2)
    grid, out = space(GRID), tmp_path / f"grid-{url.partition(':')[0]}"
    other = doomed(url, out)
    (trial,) = attempts(url, out.name)
    lines = out / f"{trials.run_name(trial.params)}-seed0" / "metrics.jsonl"
    begun = lines.read_text()
    assert len(begun.splitlines()) == 1
    swept = sweep(JOB, grid, out, seeds=[0], storage=url, progress=False)
    assert [len(swept["trials"]), swept["unfinished"]] == [2, 1], "what is at work is left alone"
    assert [row["process"] for row in swept["at_work"]] == [other.pid]
    assert f"process {other.pid}: lr=0.001" in (out / "sweep.md").read_text()

    killer = threading.Timer(1, other.kill)
    killer.start()
    assert sweep(JOB, grid, out, seeds=[0], storage=url, wait=True, progress=False) == alone
    assert not killer.is_alive()
    done = [trial for trial in attempts(url, out.name) if trial.state.name == "COMPLETE"]
    assert sorted(map(piece_of, done)) == [0, 1, 2], "each once"
    assert len(lines.read_text().splitlines()) == 2
    assert lines.read_text().startswith(begun), "the epoch was not trained again"
    assert not list(tmp_path.rglob(".workers/*"))
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    kept = [*files, repr(attempts(url, out.name)).encode()]
    assert not any(word.encode() in text for text in kept for word in (postgres.PASSWORD, postgres.PLAIN))


def test_without_a_common_disk_heartbeats_tell_and_a_search_finds_what_one_worker_does(
    database, doomed, space, tmp_path, monkeypatch
):
    monkeypatch.setattr(work, "WAIT", 0.2)
    monkeypatch.setattr(storage, "HEARTBEAT", 1)
    search = {"search": "tpe", "trials": 3, "prune": False}
    ranges = space("lr: [1e-4, 1e-1, log]\n")
    doomed(database, tmp_path / "one" / "search", heartbeat=1, **search).kill()
    options = {"seeds": [0], "progress": False, **search}
    swept = sweep(JOB, ranges, tmp_path / "two" / "search", storage=database, wait=True, **options)
    assert swept == sweep(JOB, ranges, tmp_path / "alone", **options)
    assert len(swept["trials"]) == 3
    assert show(tmp_path / "three" / "search", database) == swept
    assert (tmp_path / "three" / "search" / "sweep.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match=r"holds no study 'other', .*'search'") as error:
        show(tmp_path / "other", database)
    assert ":***@" in str(error.value)


def test_no_two_workers_claim_the_same_piece(tmp_path, monkeypatch):
    """Six at once; one of them dies each time between its claim and the end."""
    monkeypatch.setattr(trials, "LOOKS", (0.001, 0.01))
    claimed, url, state = [], f"journal:{tmp_path}/sweeps.log", optuna.trial.TrialState
    optuna.create_study(study_name="x", storage=storage.open_storage(url))

    def claim(number: int) -> None:
        study = optuna.load_study(study_name="x", storage=storage.open_storage(url))
        with Worker(tmp_path, shared=True) as worker:
            pieces = Pieces(study, 12, worker)
            while pieces.free():
                trial = study.ask()
                piece = pieces.claim(trial)
                lost = piece is None or (piece == number and trial.number < 12)
                claimed.extend([] if lost else [piece])
                study.tell(trial, None if lost else 0.0, state.FAIL if lost else state.COMPLETE)

    threads = [threading.Thread(target=claim, args=[number]) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == list(range(12))


def test_what_a_dead_worker_had_not_yet_claimed_holds_nobody_up(tmp_path, monkeypatch):
    monkeypatch.setattr(trials, "LOOKS", (0.001, 0.01))
    monkeypatch.setattr(storage, "HEARTBEAT", 0.05)
    study = optuna.create_study()
    study.ask()  # and no more is heard of it
    with Worker(tmp_path) as worker:
        assert Pieces(study, 2, worker).claim(study.ask()) == 0
    assert [trial.state.name for trial in study.trials] == ["FAIL", "RUNNING"]


def test_many_workers_may_begin_at_once_on_a_new_database(database):
    import psycopg

    with psycopg.connect(database.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("create database empty")
    url, opened = database.replace("/postgres?", "/empty?"), []
    threads = [threading.Thread(target=lambda: opened.append(storage.open_storage(url))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 8
    for one in opened:
        one.engine.dispose()


def test_a_broken_connection_is_made_again_and_a_lost_database_is_named(database, space, tmp_path, monkeypatch):
    import psycopg

    hang_up = "select pg_terminate_backend(pid) from pg_stat_activity where datname = 'frail'"
    url, asked = database.replace("/postgres?", "/frail?"), []
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("create database frail")

        def train(job, progress, callbacks):
            asked.append(job)
            if len(asked) == 3:
                connection.execute("alter database frail allow_connections false")
            connection.execute(hang_up)
            raise InputError("this setting is bad")

        monkeypatch.setattr(module, "train", train)
        with pytest.raises(InputError, match=r"car:\*\*\*@.* is out of reach: .*not currently accepting") as error:
            sweep(JOB, space(GRID), tmp_path / "out", seeds=[0], storage=url, progress=False)
    assert len(asked) == 3
    assert postgres.PLAIN not in str(error.value)
    assert "the same command goes on" in str(error.value)
    assert json.loads((tmp_path / "out" / "sweep.json").read_text())["unfinished"] == 1


def test_a_worker_taken_for_dead_gives_its_trial_up_and_goes_on(space, tmp_path, monkeypatch):
    train, grid, taken, url = module.train, space(GRID), [], f"sqlite:///{tmp_path}/out/sweep.db"

    def suspended(job, progress, callbacks):
        if not taken:  # as another worker would, having heard nothing for two minutes
            taken.append(job)
            study = optuna.load_study(study_name="out", storage=storage.open_storage(url))
            study.tell(0, state=optuna.trial.TrialState.FAIL)
        return train(job, progress=progress, callbacks=callbacks)

    monkeypatch.setattr(module, "train", suspended)
    swept = sweep(JOB, grid, tmp_path / "out", seeds=[0], progress=False)
    assert [len(swept["trials"]), swept["unfinished"]] == [3, 0]
    states = [trial.state.name for trial in attempts(url, "out")]
    assert states == ["FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]


def test_a_study_of_other_images_is_refused(space, tmp_path, monkeypatch):
    grid, load = space("lr: [0.1]\n"), module.load_data
    monkeypatch.setattr(module, "train", lambda *_, **__: pytest.fail("nothing is to be trained"))
    url = f"sqlite:///{tmp_path}/a.db"
    study = optuna.create_study(study_name="out", storage=storage.open_storage(url), direction="maximize")
    data, *_ = load(JOB)
    facts = {"space": repr(grid), "search": "grid", "seeds": [0], "score": "overall_accuracy"}
    facts |= {"images": data.fingerprint, "scored_on": module._scored_on(JOB, data)}
    with pytest.warns(UserWarning, match="Heartbeat"):
        first = study.ask()
    first.set_user_attr("sweep", {"job": JOB.to_dict(), **facts})
    options = {"seeds": [0], "score": "overall_accuracy", "storage": url, "progress": False}

    def other(config):
        return replace(data, fingerprint="other"), 8, "none"

    monkeypatch.setattr(module, "load_data", other)
    with pytest.raises(InputError, match="study out began with other images; give those, or another --sweep-out"):
        sweep(JOB, grid, tmp_path / "out", **options)
    with pytest.raises(InputError, match="began with other data, images;"):
        sweep(replace(JOB, data="elsewhere"), grid, tmp_path / "out", **options)
    monkeypatch.setattr(module, "load_data", load)
    assert outcome.check_same(study, replace(JOB, data="elsewhere"), facts), "the same images, at another place"
    study.set_user_attr("sweep", {"job": {}})
    with pytest.raises(InputError, match="begun by an earlier version"):
        sweep(JOB, grid, tmp_path / "out", **options)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("somewhere", "--storage somewhere is no storage: give postgresql://user@host/name, sqlite:///FILE"),
        (
            "oracle+nothing://car:s3cret@host/x",
            "oracle.nothing:// needs a driver that is not installed, or is no database",
        ),
        ("mysql://car:s3cret@host/x", "for MySQL pip install pymysql and write mysql.pymysql://"),
        ("car:s3cret@host", r"car:\*\*\*@host is no storage"),
        ("sqlite:////nowhere/at/all.db", "sqlite:////nowhere/at/all.db cannot be opened: unable to open database file"),
        ("journal:/nowhere/at/all.log", "journal:/nowhere/at/all.log: give a file in a folder that exists"),
        ("postgresql://car:s3cret@/x?host=/nowhere", r"postgresql://car:\*\*\*@/x.* cannot be opened: "),
    ],
)
def test_a_storage_that_cannot_be_opened_is_named_without_its_password(url, words, space, tmp_path):
    if url.startswith("postgresql"):
        pytest.importorskip("psycopg", reason="needs psycopg (the extra sweep)")
    with pytest.raises(InputError, match=words) as error:
        sweep(JOB, space("lr: [0.1]\n"), tmp_path / "out", storage=url, progress=False)
    assert "s3cret" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_refused_password_is_not_repeated(database, monkeypatch):
    with pytest.raises(InputError, match=r"cannot be opened: .*password authentication failed") as error:
        storage.open_storage(database.replace(postgres.PASSWORD, "wr0ng"))
    assert "wr0ng" not in str(error.value)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(InputError, match=r"needs the driver psycopg, .* pip install 'car-ext\[sweep\]'"):
        storage.open_storage(database)


APART = """
import sys, time
from pathlib import Path

from car_ext.config.config import Config
from car_ext.studies import apart, comparison, storage
from car_ext.training.callbacks import Callback

class Stops(Callback):
    def after_epoch(self, row):
        print("in the midst", flush=True)
        time.sleep(600)

storage.HEARTBEAT = 1
train, folder = comparison.train, Path(sys.argv[1])
comparison.train = lambda job, progress: train(job, progress=progress, callbacks=[Stops()])
methods = comparison.read_methods(str(folder / "mine.yaml"), folder)
apart.compare_apart(Config(epochs=2), methods, [0], folder / "one" / "apart", sys.argv[2], progress=False)
"""


def test_machines_without_a_common_disk_make_one_comparison(database, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(work, "WAIT", 0.2)
    monkeypatch.setattr(storage, "HEARTBEAT", 1)
    (tmp_path / "mine.yaml").write_text("ce: {}\nheld: {regularizer: car}\ncrt: {stage2: held, retrain: crt}\n")
    methods, job = read_methods(str(tmp_path / "mine.yaml"), tmp_path), Config(epochs=2)
    command = [sys.executable, "-c", APART, str(tmp_path), database]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "in the midst\n"
        here = tmp_path / "two" / "apart"
        results, left = compare_apart(job, methods, [0], here, database, progress=False)
        assert results == {}
        assert left == [f"ce-seed0 on {socket.gethostname()}, process {other.pid}"]
        other.kill()
    results, left = compare_apart(job, methods, [0], here, database, wait=True, progress=False)
    assert left == []
    expected = compare(job, methods, [0], tmp_path / "alone", progress=False)
    assert table(results) == table(expected)
    assert results["crt"][0]["per_class_accuracy"] == expected["crt"][0]["per_class_accuracy"]

    with pytest.raises(InputError, match=r"the study apart began with other epochs, seeds; .*another --compare-out"):
        compare_apart(Config(epochs=3), methods, [0, 1], here, database, progress=False)
    there, flags = tmp_path / "three" / "apart", f"--methods {tmp_path}/mine.yaml --seeds 0 --epochs 2"
    monkeypatch.setattr(sys, "argv", f"compare {flags} --compare-out {there} --storage {database}".split())
    assert program.alone(compare_command, "compare") == 0  # by a machine that trains nothing
    text = capsys.readouterr().out
    assert "the report is without ce, " in text
    assert postgres.PASSWORD not in text
    assert sorted(path.name for path in there.glob("[!.]*")) == [f"comparison.{kind}" for kind in ("json", "md", "png")]
    assert json.loads((there / "comparison.json").read_text()) == table(expected)
