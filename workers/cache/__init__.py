"""The call cache: no completed call of a model is ever paid for twice.

- `entries`   what is kept of a call, as bytes with a checksum
- `journal`   what makes a call durable before its reply is used: an append-only file of the sweep
- `segments`  what sweeps share: sealed files, never changed again
- `store`     one shard of a run: journal, segments, and an index of what is not yet sealed
- `owner`     the one process that a shard belongs to: equal calls in flight share one request
- `client`    the way from a worker to the owners
"""
