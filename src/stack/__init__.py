"""The operator's commands: start the whole system, stop it, see how it is, and watch what it says.

`python -m stack up` runs supervisord in the foreground of a terminal: it starts NATS, makes the streams, starts the
services, restarts what ends, and stops all in the reverse order. What may be decided without touching anything is in
`programs`, `config`, `phases` and `console`; `supervise` is the shell around them.

In:  the settings; supervisord's account of its processes; each service's `GET /health`.
Out: `<data folder>/supervisord.conf`, the processes, their logs in `<data folder>/logs`, and lines for a person.
"""
