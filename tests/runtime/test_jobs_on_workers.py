"""Jobs on workers, of which some fail; no worker is needed."""

import threading
import time

import grpc
import pytest
from tensorflow_federated.proto.v0 import executor_pb2

from tfl_research.errors import UserError
from tfl_research.runtime.workers import session
from tfl_research.runtime.workers.pool import WorkerPool
from tfl_research.runtime.workers.remote_worker import RemoteWorker


class _Executor:
    known = True

    def __init__(self, *_):
        self.is_closed = False

    def is_known(self):
        return self.known

    def release(self, values):
        pass

    def close(self):
        self.is_closed = True


@pytest.mark.parametrize("error", [ValueError("no executor"), grpc.RpcError()])
@pytest.mark.parametrize("failures", [1, 2, 5])
def test_a_job_is_repeated_as_often_as_another_job_closes_its_executor(
    monkeypatch, failures, error
):
    monkeypatch.setattr(session, "_Executor", _Executor)
    shared = session.Session(lambda: None, 1)
    tried = []

    def fails(call):
        raise grpc.RpcError

    def works(call):
        tried.append(call)
        if len(tried) <= failures:
            # As another thread does at the same time.
            with pytest.raises(grpc.RpcError):
                shared.run(fails)
            raise error
        return "done"

    assert shared.run(works) == "done"
    assert len(tried) == failures + 1


def test_a_job_that_fails_is_tried_on_an_old_and_a_new_executor(monkeypatch):
    monkeypatch.setattr(session, "_Executor", _Executor)
    shared = session.Session(lambda: None, 1)
    shared.run(lambda call: None)
    tried = []

    def fails(call):
        tried.append(call)
        raise grpc.RpcError

    with pytest.raises(grpc.RpcError):
        shared.run(fails)
    assert len(tried) == 2


@pytest.mark.parametrize("losses", [1, 4])
def test_a_job_is_repeated_where_the_worker_was_started_again(monkeypatch, losses):
    monkeypatch.setattr(session, "_Executor", _Executor)
    monkeypatch.setattr(_Executor, "known", False)
    tried = []

    def job(call):
        tried.append(call)
        if len(tried) <= losses:
            raise grpc.RpcError
        return "done"

    assert session.Session(lambda: None, 1).run(job) == "done"
    assert len(tried) == losses + 1


def test_a_job_that_ends_each_worker_ends_the_run(monkeypatch):
    monkeypatch.setattr(session, "_Executor", _Executor)
    monkeypatch.setattr(_Executor, "known", False)
    tried = []

    def job(call):
        tried.append(call)
        raise grpc.RpcError

    with pytest.raises(UserError, match="ended 5 times while it computed one part"):
        session.Session(lambda: None, 1).run(job)
    assert len(tried) == 5


def test_values_that_outlive_a_connection_are_released_without_a_word():
    connection = RemoteWorker("localhost:1", 1.0)
    connection.close()
    with pytest.raises(ValueError, match="closed"):
        connection.stub.dispose(executor_pb2.DisposeRequest())
    session._Quiet(connection.stub).dispose(executor_pb2.DisposeRequest())


def test_no_job_begins_after_a_failure():
    workers = [RemoteWorker(f"localhost:{port}", 1.0) for port in (1, 2)]
    pool = WorkerPool(workers, 1, lambda text: None)
    has_failed, began = threading.Event(), []

    def waits(index):
        has_failed.wait()
        time.sleep(0.2)

    def fails(index):
        has_failed.set()
        raise ValueError("a client's label")

    with pytest.raises(ValueError, match="a client's label"):
        pool.each([waits, fails, *[began.append] * 5])
    pool.close()
    assert not began
