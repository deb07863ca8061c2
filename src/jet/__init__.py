"""How we use JetStream, and the only package that talks to it.

- `connection`: one connection a process, with the client's known faults contained.
- `api`: requests to the JetStream API and their errors.
- `topology`: every stream and bucket, declared.
- `journal`: compare-and-append, the one way to write to a log.
- `tail`: following a stream with no gap and no repeat.
- `rpc`: requests between services.
- `grants`: who may do what on the broker.
"""
