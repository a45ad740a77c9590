"""Beam's pool of Python workers, on one address of this machine.

What ``python -m apache_beam.runners.worker.worker_pool_main`` starts takes its port on
all addresses, so one machine has room for one. Here each task manager shall have a pool
of its own, as if it were a host of its own.
"""

import sys
import threading

import grpc
from apache_beam.portability.api import beam_fn_api_pb2_grpc
from apache_beam.runners.worker.worker_pool_main import (
    BeamFnExternalWorkerPoolServicer,
)
from apache_beam.utils import thread_pool_executor

server = grpc.server(
    thread_pool_executor.shared_unbounded_instance(),
    options=[("grpc.http2.max_pings_without_data", 0), ("grpc.so_reuseport", 0)],
)
pool = BeamFnExternalWorkerPoolServicer(use_process=True)
beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
server.add_insecure_port(sys.argv[1])
server.start()
threading.Event().wait()
