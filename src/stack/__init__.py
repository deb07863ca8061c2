"""The operator's commands: start and stop the whole system, show its state, and watch its messages.

`python -m stack up` runs supervisord in the foreground of a terminal: it starts NATS, creates the streams, starts the
services, restarts whatever ends, and stops everything in reverse order. The pure parts are `programs`, `config`,
`phases` and `console`; `supervise` is the shell around them.

In:  the settings; the state of each process according to supervisord; each service's `GET /health`.
Out: `<data folder>/supervisord.conf`, the processes, their logs in `<data folder>/logs`, and lines on the terminal.
"""
