"""The call cache: no completed model call is paid for twice.

- `entries`: what is kept of a call, as bytes with a checksum
- `journal`: makes a call durable before its reply is used, in an append-only file of the sweep
- `segments`: what sweeps share, in sealed files that never change
- `store`: one shard of a run: journal, segments, and an index of what is not sealed yet
- `owner`: the one process that owns a shard; equal calls in flight share one request
- `client`: connects a worker to the owners
"""
